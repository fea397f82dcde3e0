"""Four providers on one loopback "internet": two that know nothing of relays, and two behind one. Nobody is configured with
anybody's address: each finds the others by a real DNS server.

    Prosody X -- relay X ========= QUIC ========= relay Y -- ejabberd Y      x.test, rooms.x.test, cell.x.test | y.test, rooms.y.test
                    \\\\                            //
                     \\\\  STARTTLS or Direct TLS  //
                      Prosody P           ejabberd E                         p.test, rooms.p.test, direct.test, ... | e.test, rooms.e.test, tls.test, ...

The servers behind relays have the operator's examples from config/ejabberd and config/any-server-by-dns. Y's certificate says
serverAuth alone, as public authorities issue them now; ejabberd 23.01 refuses it as a client's, and hears of Y by dialback.

Further domains of P and E show one thing each: direct.test and tls.test are reached by Direct TLS alone; old.test has no SRV record,
and its IPv6 address answers nothing (in a network of our own, see network.py); nobody should believe self.test, expired.test and
stripped.test, the last of which somebody meddles with.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import network
from certificates import make_certificates, make_self_signed_certificate, make_server_certificate
from ejabberd import Ejabberd
from meddler import Meddler
from metrics import is_ready
from nameserver import NameServer
from processes import Process, StageError, free_ports, listens, until
from stage import COMPONENT_SECRET, EXAMPLES, PASSWORD, START_SECONDS, Ports, Provider, Variant, exchange, logs_below

STARTTLS = "_xmpp-server._tcp"
DIRECT_TLS = "_xmpps-server._tcp"
QUIC = ("_xmpp-server._quic", "_xmppq-server._udp")
S2S_PORT = 5269
# Who has both is to be reached by Direct TLS.
LATER = 10
LISTENER_AT_5269 = f"""\
  - port: {S2S_PORT}
    ip: "{network.SERVER}"
    module: ejabberd_s2s_in"""


class EjabberdProvider(Provider):
    """A provider whose server is an ejabberd."""

    def __init__(self, letter: str, folder: Path, ports: Ports, api_port: int) -> None:
        super().__init__(letter, folder, ports)
        self.ejabberd = Ejabberd(f"ejabberd {letter}", folder, api_port)

    def add_account(self, name: str) -> None:
        self.ejabberd.add_account(name, self.domain, PASSWORD)

    @property
    def server_log(self) -> Path:
        return self.ejabberd.log

    @property
    def server(self) -> Process:
        return self.ejabberd.process

    async def start_behind_relay(self, dns_port: int) -> None:
        """By the operator's example, with names and ports exchanged, and a client port without TLS."""
        folder = EXAMPLES / "ejabberd"
        exchanged = {
            "example.org": self.domain,
            "port: 5267": f"port: {self.ports.s2s}",
            "port: 5222": f"port: {self.ports.c2s}",
            '"::"': '"127.0.0.1"',
            "    starttls_required: true\n": self.ejabberd.listener(),
            "  mod_roster: {}\n": "  mod_roster: {}\n  mod_http_api: {}\n",
        }
        config = exchange((folder / "ejabberd.yml").read_text(), exchanged, "ejabberd.yml")
        inetrc = exchange((folder / "inetrc").read_text(), {"5353": str(dns_port)}, "inetrc")
        await self.ejabberd.start(config, inetrc, [self.ports.c2s, self.ports.s2s])

    async def start_plain(self, dns_port: int, certificates: Path, tenants: Sequence[Tenant], direct_port: int) -> None:
        """A server as the world has many: with STARTTLS, its own certificates and the address of a DNS server; and with Direct TLS
        at another port."""
        domains = [self.domain, *(tenant.domain for tenant in tenants)]
        files = [f"{certificates}/live/{domain}/{file}" for domain in domains for file in ("fullchain.pem", "privkey.pem")]
        config = f"""\
hosts:
{yaml(domains)}
certfiles:
{yaml(files)}
ca_file: "{certificates}/ca.pem"
listen:
  - port: {self.ports.c2s}
    ip: "127.0.0.1"
    module: ejabberd_c2s
  - port: {self.ports.s2s}
    ip: "127.0.0.1"
    module: ejabberd_s2s_in
  - port: {direct_port}
    ip: "127.0.0.1"
    module: ejabberd_s2s_in
    tls: true
{LISTENER_AT_5269 if network.is_ours() else ""}
{self.ejabberd.listener()}
s2s_use_starttls: required
modules:
  mod_s2s_dialback: {{}}
  mod_muc:
    hosts:
      - {self.rooms}
  mod_disco: {{}}
  mod_http_api: {{}}
  mod_ping: {{}}
  mod_roster: {{}}
"""
        inetrc = f'{{lookup, [file, dns]}}.\n{{resolv_conf, ""}}.\n{{nameserver, {{127,0,0,1}}, {dns_port}}}.\n'
        await self.ejabberd.start(config, inetrc, [self.ports.c2s, self.ports.s2s, direct_port])


class Tenant(EjabberdProvider):
    """A further domain of a provider's ejabberd, without rooms."""

    def __init__(self, letter: str, owner: EjabberdProvider) -> None:
        Provider.__init__(self, letter, owner.folder, owner.ports)
        self.ejabberd = owner.ejabberd


def yaml(items: Sequence[str]) -> str:
    """A list, as a value of YAML."""
    return "\n".join(f'  - "{item}"' for item in items)


class DnsStage:
    """All four, the two relays and the DNS server."""

    is_direct = False

    def __init__(self, folder: Path, variant: Variant, fedmux: Path) -> None:
        self.folder = folder
        self.variant = variant
        self.fedmux = fedmux
        self.certificates = folder / "certs"
        dns_port, self.direct_port, self.x_dns, self.y_dns, x_tcp, y_tcp, y_direct, y_api, e_api, self.tls_port, meddler_port = free_ports(11)
        self.names = NameServer(folder, dns_port)
        self.x = Provider("x", folder / "x", Ports(*free_ports(6)))
        self.p = Provider("p", folder / "p", Ports(*free_ports(6)))
        self.y = EjabberdProvider("y", folder / "y", Ports(*free_ports(6)), y_api)
        self.e = EjabberdProvider("e", folder / "e", Ports(*free_ports(6)), e_api)
        # The second domain of Prosody P, which others reach by Direct TLS alone.
        self.direct = Provider("direct", self.p.folder, self.p.ports)
        self.tls, self.old = Tenant("tls", self.e), Tenant("old", self.e)
        # Domains of Prosody P that nobody should believe.
        self.strangers = [Provider(letter, self.p.folder, self.p.ports) for letter in ("self", "expired", "stripped")]
        self.meddler = Meddler(meddler_port, self.p.ports.s2s)
        self._dead: network.DropsSyn | None = None
        self.tcp = {self.x: x_tcp, self.y: y_tcp}
        self.y_direct = y_direct

    @property
    def providers(self) -> tuple[Provider, ...]:
        return self.x, self.y, self.p, self.e

    async def set(self) -> None:
        """Start everything. When this returns, all of it answers."""
        await self._make_certificates()
        self._fill_zone()
        await self.names.start()
        await self.meddler.start()
        if network.is_ours():
            self._dead = network.DropsSyn(network.DEAD, S2S_PORT)
        await asyncio.gather(
            self._start_relay(self.x, self.x_dns),
            self._start_relay(self.y, self.y_dns),
            self._start_plain_prosody(),
            self.e.start_plain(self.names.port, self.certificates, [self.tls, self.old], self.tls_port),
            self.y.start_behind_relay(self.y_dns),
            self.x.start_prosody(self.variant, self.x_dns),
        )

    async def _make_certificates(self) -> None:
        alone, expired, stripped = self.strangers
        for provider in (self.x, self.p, self.e, self.direct, self.tls, self.old, stripped):
            domains = [provider.domain, provider.rooms, provider.component]
            await make_certificates(self.fedmux, self.certificates, domains)
        await make_server_certificate(self.certificates, [self.y.domain, self.y.rooms])
        await make_server_certificate(self.certificates, [expired.domain], days=0)
        await make_self_signed_certificate(self.certificates, alone.domain)

    def _fill_zone(self) -> None:
        for provider in (self.p, self.e, self.direct, self.tls, *self.strangers):
            self.names.add_address(host_of(provider))
        self.names.add_address(self.old.domain, network.SERVER, network.DEAD)
        for provider, service in zip((self.x, self.y), QUIC):
            domains = [provider.domain, provider.rooms, provider.component]
            self.names.add_services(domains, service, host_of(provider), provider.ports.relay_quic)
            self.names.add_services(domains, STARTTLS, host_of(provider), self.tcp[provider], LATER)
        self.names.add_services([self.y.domain, self.y.rooms], DIRECT_TLS, host_of(self.y), self.y_direct)
        for provider in (self.p, self.e):
            self.names.add_services([provider.domain, provider.rooms], STARTTLS, host_of(provider), provider.ports.s2s)
        self.names.add_services([self.direct.domain], DIRECT_TLS, host_of(self.direct), self.direct_port)
        self.names.add_services([self.tls.domain], DIRECT_TLS, host_of(self.tls), self.tls_port)
        alone, expired, stripped = self.strangers
        for provider, port in ((alone, self.p.ports.s2s), (expired, self.p.ports.s2s), (stripped, self.meddler.port)):
            self.names.add_services([provider.domain], STARTTLS, host_of(provider), port)
        # Ejabberd E knows no such domain, and shows the certificate of another.
        self.names.add_services(["wrong.test"], DIRECT_TLS, host_of(self.tls), self.tls_port)

    async def _start_relay(self, provider: Provider, dns_port: int) -> None:
        ports = provider.ports
        secret = provider.folder / "component.secret"
        secret.write_text(f"{COMPONENT_SECRET}\n")
        secret.chmod(0o600)
        config = provider.folder / "fedmux.toml"
        config.write_text(f"""\
[identity]
certificates = "{self.certificates}/live/{provider.domain}"
trust = "{self.certificates}/ca.pem"
mux_key_file = "mux.key"

[remote]
quic = "127.0.0.1:{ports.relay_quic}"
starttls = "127.0.0.1:{self.tcp[provider]}"
{f'direct_tls = "127.0.0.1:{self.y_direct}"' if provider is self.y else ""}

[local]
s2s = "127.0.0.1:{ports.relay_local}"
dns = {f'["127.0.0.1:{dns_port}", "{network.RELAY}:{dns_port}"]' if network.is_ours() else f'"127.0.0.1:{dns_port}"'}
dns_clients = "{network.NAMED_CLIENT}/32"
components = "127.0.0.1:{ports.relay_components}"

[dns]
servers = "127.0.0.1:{self.names.port}"
allow_private = true

[admin]
listen = "127.0.0.1:{ports.relay_admin}"

[policy]
dialback = "tls"

[[host]]
domains = ["{provider.domain}", "{provider.rooms}"]
deliver = "127.0.0.1:{ports.s2s}"
{self.variant.local_auth}
""" + (f"""\

[[component]]
domain = "{provider.component}"
secret_file = "component.secret"
""" if provider is self.x else ""))
        provider.relay = Process(f"relay {provider.letter}", [self.fedmux, "run", "--config", config], provider.relay_log, provider.folder)
        await self.wake_relay(provider)

    async def wake_relay(self, provider: Provider) -> None:
        """Start a relay that isn't running, with the configuration that it has."""
        await provider.relay.start()

        async def up() -> bool:
            return await is_ready(provider.ports.relay_admin)

        await until(f"{provider.relay.name} is ready", up, seconds=START_SECONDS, watch=[provider.relay])

    @asynccontextmanager
    async def without_relay(self, provider: Provider) -> AsyncIterator[None]:
        """Stop a relay in good order, and start it anew at the end."""
        code = await provider.relay.stop()
        assert code == 0, f"{provider.relay.name} ended with exit code {code} on SIGTERM"
        yield
        await self.wake_relay(provider)

    async def _start_plain_prosody(self) -> None:
        folder, ports = self.p.folder, self.p.ports
        config = folder / "prosody.cfg.lua"
        # libunbound knows .test as a domain that doesn't exist; a zone of that name overrides it.
        config.write_text(f"""\
run_as_root = true
data_path = "{folder}/data"
pidfile = "{folder}/prosody.pid"
log = {{ {{ levels = {{ min = "debug" }}; to = "file"; filename = "{self.p.server_log}" }} }}
modules_enabled = {{ "tls"; "saslauth"; "dialback"; "s2s_bidi"; "smacks"; "roster"; "disco"; "ping" }}
interfaces = {{ "127.0.0.1" }}
s2s_ports = {{ {ports.s2s} }}
s2s_direct_tls_ports = {{ {self.direct_port} }}
c2s_ports = {{ {ports.c2s} }}
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
authentication = "internal_plain"
s2s_require_encryption = true
s2s_secure_auth = true
certificates = "{self.certificates}/live"
ssl = {{ cafile = "{self.certificates}/ca.pem" }}
unbound = {{
	resolvconf = false;
	hoststxt = false;
	forward = {{ "127.0.0.1@{self.names.port}" }};
	options = {{ ["local-zone:"] = "test. transparent"; ["do-not-query-localhost:"] = "no" }};
}}
VirtualHost "{self.p.domain}"
VirtualHost "{self.direct.domain}"
{chr(10).join(f'VirtualHost "{stranger.domain}"' for stranger in self.strangers)}
Component "{self.p.rooms}" "muc"
""")
        self.p.prosody = Process("prosody p", ["prosody", "-F", "--config", config], folder / "prosody.out", folder)
        await self.p.prosody.start()

        async def up() -> bool:
            return all([await listens(port) for port in (ports.c2s, ports.s2s, self.direct_port)])

        await until("prosody p listens", up, seconds=START_SECONDS, watch=[self.p.prosody])

    @property
    def _processes(self) -> list[Process]:
        """In the order in which they end: servers first, so that their streams end in good order."""
        servers = [provider.server for provider in self.providers if provider.server]
        return [*servers, *(provider.relay for provider in (self.x, self.y) if provider.relay), self.names.process]

    def ensure_standing(self) -> None:
        """Raise if a process has ended."""
        for process in self._processes:
            process.ensure_running()

    async def strike(self) -> None:
        """Stop everything."""
        processes = self._processes
        relays = [provider.relay for provider in (self.x, self.y)]
        await asyncio.gather(*(process.stop() for process in processes if process not in relays))
        for relay in relays:
            code = await relay.stop() if relay else 0
            if code != 0:
                raise StageError(f"{relay.name} ended with exit code {code} on SIGTERM; see {relay.log}")

    def kill(self) -> None:
        for process in self._processes:
            process.kill()
        self.meddler.close()
        if self._dead:
            self._dead.close()

    def logs(self) -> Iterator[Path]:
        """Every log that holds something."""
        return logs_below(self.folder)


def host_of(provider: Provider) -> str:
    """The name of the machine to which the provider's SRV records lead. Ejabberd asks the C library for its address, not our DNS
    server: so what ejabberd E dials, the relays, has the one name that the C library knows."""
    return "localhost" if provider.letter in ("x", "y") else f"xmpp.{provider.domain}"
