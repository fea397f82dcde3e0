"""A provider without a relay, as most of them are: a plain Prosody that federates over TCP with its own TLS. And a relay that
reaches it, with its own Prosody behind it.

                            STARTTLS or Direct TLS
    Prosody M - relay M ============================== Prosody P        m.test | p.test        (others than M for other stages)
"""

from __future__ import annotations

from pathlib import Path

from certificates import make_certificates
from metrics import Metrics, is_ready, scrape
from processes import Process, free_ports, listens, until
from stage import START_SECONDS, Ports, Provider, Stage

# For each transport the service of the SRV record that leads to the relay, and Prosody's listeners.
TRANSPORTS = {
    "starttls": ("_xmpp-server._tcp", "s2s_ports = {{ {port} }}"),
    "direct-tls": ("_xmpps-server._tcp", "s2s_ports = {{}}\ns2s_direct_tls_ports = {{ {port} }}"),
}


class PlainStage:
    """Both of them, for one transport. `letter` is the relay's provider; no two stages share one."""

    def __init__(self, stage: Stage, transport: str, letter: str, *, dialback: bool = False, policy: str | None = None) -> None:
        self.stage = stage
        self.transport = transport
        self.service, listeners = TRANSPORTS[transport]
        self.letter = letter
        self.dialback = dialback
        """Prosody doesn't know the authority of the relay's certificate, and falls back on dialback."""
        self.policy = policy or f'dialback = "{"tls" if dialback else "never"}"'
        """What stands below the relay's [policy]."""
        self.folder = stage.folder / f"plain-{letter}"
        self.plain = Provider("p", self.folder / "p", Ports(*free_ports(6)))
        self.listeners = listeners.format(port=self.plain.ports.s2s)
        self.relayed: Provider | None = None
        self.relay: Process | None = None
        self.remote_port, self.local_port, self.admin_port = free_ports(3)

    async def set(self) -> None:
        """Start everything. When this returns, all of it answers."""
        await make_certificates(self.stage.fedmux, self.folder / "certs", [f"{self.letter}.test"])
        await make_certificates(self.stage.fedmux, self.folder / "plain-certs", ["p.test"])
        self.relayed = await self.stage.add_provider(self.letter, self.local_port)
        await self._start_relay(self.relayed)
        await self._start_plain_prosody()

    async def metrics(self) -> Metrics:
        """What the relay measures at this moment."""
        return await scrape(self.admin_port)

    async def _start_relay(self, relayed: Provider) -> None:
        config = self.folder / "fedmux.toml"
        config.write_text(f"""\
[identity]
certificates = "certs/live/{relayed.domain}"
trust = "certs/ca.pem"

[remote]
{self.transport.replace("-", "_")} = "127.0.0.1:{self.remote_port}"

[local]
s2s = "127.0.0.1:{self.local_port}"

[admin]
listen = "127.0.0.1:{self.admin_port}"

[[host]]
domain = "{relayed.domain}"
deliver = "127.0.0.1:{relayed.ports.s2s}"
{self.stage.variant.local_auth}

[[peer]]
domain = "p.test"
address = "127.0.0.1:{self.plain.ports.s2s}"
transport = "{self.transport}"
trust = "plain-certs/ca.pem"

[policy]
{self.policy}
""")
        self.relay = Process(f"relay {self.letter}", [self.stage.fedmux, "run", "--config", config], self.folder / "fedmux.log", self.folder)
        await self.relay.start()

        async def up() -> bool:
            return await is_ready(self.admin_port)

        await until(f"{self.relay.name} is ready", up, seconds=START_SECONDS, watch=[self.relay])

    async def _start_plain_prosody(self) -> None:
        folder, ports = self.plain.folder, self.plain.ports
        config = folder / "prosody.cfg.lua"
        authorities = self.folder / ("plain-certs" if self.dialback else "certs") / "ca.pem"
        # libunbound knows .test as a domain that doesn't exist; a zone of that name overrides it.
        config.write_text(f"""\
run_as_root = true
data_path = "{folder}/data"
pidfile = "{folder}/prosody.pid"
log = {{ {{ levels = {{ min = "debug" }}; to = "file"; filename = "{self.plain.prosody_log}" }} }}
modules_enabled = {{ "tls"; "saslauth"; "dialback"; "s2s_bidi"; "smacks"; "roster"; "disco"; "ping" }}
interfaces = {{ "127.0.0.1" }}
{self.listeners}
c2s_ports = {{ {ports.c2s} }}
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
authentication = "internal_plain"
s2s_require_encryption = true
s2s_secure_auth = {"false" if self.dialback else "true"}
certificates = "{self.folder}/plain-certs/live"
ssl = {{ cafile = "{authorities}" }}
unbound = {{
	resolvconf = false;
	hoststxt = false;
	forward = {{ "127.0.0.1@9" }};
	options = {{
		["local-zone:"] = "test. static";
		["local-data:"] = "{self.service}.{self.letter}.test. 60 IN SRV 0 0 {self.remote_port} localhost.";
	}};
}}
VirtualHost "p.test"
""")
        self.plain.prosody = Process("prosody p", ["prosody", "-F", "--config", config], folder / "prosody.out", folder)
        await self.plain.prosody.start()

        async def up() -> bool:
            return await listens(ports.c2s) and await listens(ports.s2s)

        await until("prosody p listens", up, seconds=START_SECONDS, watch=[self.plain.prosody])

    async def strike(self) -> None:
        """Stop everything, Prosodys first so that their streams end in good order."""
        prosodys = [provider.prosody for provider in (self.plain, self.relayed) if provider]
        for process in [*prosodys, self.relay]:
            if process:
                code = await process.stop()
                assert process is not self.relay or code == 0, f"{process.name} ended with exit code {code}"

    def kill(self) -> None:
        for process in (self.plain.prosody, self.relay):
            if process:
                process.kill()
