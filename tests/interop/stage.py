"""The stage: two providers, each a Prosody and (unless they federate directly) a relay, all on loopback.

                         QUIC
    Prosody A - relay A ====== relay B - Prosody B        a.test, rooms.a.test | b.test, rooms.b.test
    Prosody A ------------------------ Prosody B          with --direct

Prosody's configuration is the operator's example from config/prosody, with names and ports exchanged: what the page tells
people to write is what is tested.
"""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from certificates import make_certificates
from capture import Capture
from metrics import Metrics, is_ready, scrape
from processes import Process, StageError, free_ports, listens, until

PROJECT = Path(__file__).resolve().parents[2]
EXAMPLES = PROJECT / "config"
PROSODY_EXAMPLES = EXAMPLES / "prosody"
PASSWORD = "wherefore"
COMPONENT_SECRET = "pilgrim"
START_SECONDS = 20


class Scenery(Enum):
    """Who stands on the stage, and so which scenarios can be played."""

    TWO_PROVIDERS = "two providers, each with one certificate for all its domains"
    SEPARATE_ROOMS = "the same, but the rooms of provider B have a certificate of their own"
    BY_DNS = "four providers of which each finds the others by DNS alone; see dns_stage.py"


@dataclass(frozen=True)
class Variant:
    """A way to put Prosody behind the relay."""

    name: str
    example: str
    """Below `config/`."""
    local_auth: str
    scenery: Scenery = Scenery.TWO_PROVIDERS

    @property
    def has_module(self) -> bool:
        return self.example == "prosody/with-module.cfg.lua"

    @property
    def separate_rooms(self) -> bool:
        return self.scenery is Scenery.SEPARATE_ROOMS


TRUSTED = 'local_auth = "trusted"\ntrusted_loopback = true'
VARIANTS = (
    Variant("with-module", "prosody/with-module.cfg.lua", TRUSTED),
    Variant("separate-certificates", "prosody/with-module.cfg.lua", TRUSTED, Scenery.SEPARATE_ROOMS),
    Variant("configuration-only", "prosody/configuration-only.cfg.lua", 'local_auth = "dialback"'),
    Variant("by-dns", "any-server-by-dns/prosody.cfg.lua", 'local_auth = "dialback"', Scenery.BY_DNS),
)


@dataclass(frozen=True)
class Ports:
    """Where the parts of one provider listen, all on 127.0.0.1."""

    c2s: int
    s2s: int
    relay_local: int
    relay_components: int
    relay_quic: int
    relay_admin: int


class Provider:
    """One provider: a domain with its rooms, their Prosody, and the relay before it, to which a component may connect."""

    def __init__(self, letter: str, folder: Path, ports: Ports) -> None:
        self.letter = letter
        self.domain = f"{letter}.test"
        self.rooms = f"rooms.{letter}.test"
        self.component = f"cell.{letter}.test"
        self.folder = folder
        self.ports = ports
        self.prosody: Process | None = None
        self.relay: Process | None = None
        (folder / "data").mkdir(parents=True, exist_ok=True)

    @property
    def prosody_log(self) -> Path:
        return self.folder / "prosody.log"

    @property
    def server_log(self) -> Path:
        """The log of this provider's XMPP server, whatever it is."""
        return self.prosody_log

    @property
    def server(self) -> Process | None:
        """That server, once it was started."""
        return self.prosody

    @property
    def relay_log(self) -> Path:
        return self.folder / "fedmux.log"

    def add_account(self, name: str) -> None:
        """An account, as Prosody's internal storage keeps it on disk. It looks there at each login."""
        accounts = self.folder / "data" / self.domain.replace(".", "%2e") / "accounts"
        accounts.mkdir(parents=True, exist_ok=True)
        (accounts / f"{name}.dat").write_text(f'return {{ ["password"] = "{PASSWORD}"; }};\n')

    async def metrics(self) -> Metrics:
        """What the relay measures at this moment."""
        return await scrape(self.ports.relay_admin)

    async def start_prosody(self, variant: Variant, next_hop: int, more: str = "") -> None:
        """`next_hop` is the port of the relay: of its DNS responder if the variant leads there by DNS. `more` goes to the end of the
        configuration."""
        config = self._write_prosody_config(variant, next_hop, more)
        self.prosody = Process(f"prosody {self.letter}", ["prosody", "-F", "--config", config], self.folder / "prosody.out", self.folder)
        await self.prosody.start()

        async def up() -> bool:
            return await listens(self.ports.c2s) and await listens(self.ports.s2s)

        await until(f"{self.prosody.name} listens", up, seconds=START_SECONDS, watch=[self.prosody])

    def _write_prosody_config(self, variant: Variant, next_hop: int, more: str) -> Path:
        example = (EXAMPLES / variant.example).read_text()
        exchanged = {"example.org": self.domain, "s2s_ports = { 5267 }": f"s2s_ports = {{ {self.ports.s2s} }}"}
        if variant.has_module:
            exchanged |= {"/etc/prosody/fedmux": str(PROSODY_EXAMPLES), "fedmux_port = 5266": f"fedmux_port = {next_hop}"}
        # libunbound knows .test as a domain that doesn't exist; a zone of that name overrides it.
        elif variant.scenery is Scenery.BY_DNS:
            transparent = '["local-zone:"] = "test. transparent"; ["do-not-query-localhost:"]'
            exchanged |= {"127.0.0.1@5353": f"127.0.0.1@{next_hop}", '["do-not-query-localhost:"]': transparent}
        else:
            exchanged |= {'". redirect"': '"test. redirect"', '". 60 IN SRV 0 0 5266': f'"test. 60 IN SRV 0 0 {next_hop}'}
        (self.folder / "example.cfg.lua").write_text(exchange(example, exchanged, variant.example))
        # What is set after the Include takes precedence. Only what makes it run here, nothing about server-to-server.
        config = self.folder / "prosody.cfg.lua"
        config.write_text(f"""\
Include "example.cfg.lua"
run_as_root = true
data_path = "{self.folder}/data"
pidfile = "{self.folder}/prosody.pid"
certificates = "{self.folder}/certs"
log = {{ {{ levels = {{ min = "debug" }}; to = "file"; filename = "{self.prosody_log}" }} }}
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {self.ports.c2s} }}
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
authentication = "internal_plain"
{more}
""")
        return config

    async def start_relay(self, fedmux: Path, variant: Variant, peer: Provider, sockets: Sequence[socket.socket] = ()) -> None:
        """`sockets` are handed over to it."""
        config = self.folder / "fedmux.toml"
        secret = self.folder / "component.secret"
        secret.write_text(f"{COMPONENT_SECRET}\n")
        secret.chmod(0o600)
        config.write_text(f"""\
[identity]
certificates = "certs"
trust = "certs/ca.pem"
mux_key_file = "mux.key"

[remote]
quic = "127.0.0.1:{self.ports.relay_quic}"

[local]
s2s = "127.0.0.1:{self.ports.relay_local}"
components = "127.0.0.1:{self.ports.relay_components}"

[admin]
listen = "127.0.0.1:{self.ports.relay_admin}"

[[host]]
domains = ["{self.domain}", "{self.rooms}"]
deliver = "127.0.0.1:{self.ports.s2s}"
{variant.local_auth}

[[component]]
domain = "{self.component}"
secret_file = "component.secret"

[[peer]]
domains = ["{peer.domain}", "*.{peer.domain}"]
address = "127.0.0.1:{peer.ports.relay_quic}"
transport = "quic"
trust = "{peer.folder}/certs/ca.pem"
announce = "{"all" if variant.separate_rooms else "default"}"
""")
        self.relay = Process(f"relay {self.letter}", [fedmux, "run", "--config", config], self.relay_log, self.folder, sockets=sockets)
        await self.relay.start()

        async def up() -> bool:
            return await is_ready(self.ports.relay_admin) and await listens(self.ports.relay_local)

        await until(f"{self.relay.name} is ready", up, seconds=START_SECONDS, watch=[self.relay])

    @property
    def processes(self) -> list[Process]:
        return [process for process in (self.prosody, self.relay) if process]


class Stage:
    """Both providers under one variant."""

    def __init__(self, folder: Path, variant: Variant, fedmux: Path | None) -> None:
        self.folder = folder
        self.variant = variant
        self.fedmux = fedmux
        self.capture: Capture | None = None
        ports = iter(free_ports(12))
        self.a = Provider("a", folder / "a", Ports(*itertools.islice(ports, 6)))
        self.b = Provider("b", folder / "b", Ports(*itertools.islice(ports, 6)))
        self._guests: list[Provider] = []

    @property
    def is_direct(self) -> bool:
        """Whether the two Prosodys federate with each other, without relays."""
        return self.fedmux is None

    @property
    def providers(self) -> tuple[Provider, Provider]:
        return self.a, self.b

    def other(self, provider: Provider) -> Provider:
        return self.b if provider is self.a else self.a

    async def set(self) -> None:
        """Start everything. When this returns, all of it answers."""
        if self.fedmux:
            for provider in self.providers:
                folder = provider.folder / "certs"
                if self.variant.separate_rooms and provider is self.b:
                    await make_certificates(self.fedmux, folder, [provider.domain, provider.component])
                    await make_certificates(self.fedmux, folder, [provider.rooms])
                else:
                    await make_certificates(self.fedmux, folder, [provider.domain, provider.rooms, provider.component])
            capture = Capture(self.folder, [provider.ports.relay_quic for provider in self.providers])
            self.capture = capture if await capture.start() else None
        for provider in self.providers:
            other = self.other(provider)
            if self.fedmux:
                await provider.start_relay(self.fedmux, self.variant, other)
            next_hop = other.ports.s2s if self.is_direct else provider.ports.relay_local
            await provider.start_prosody(self.variant, next_hop)

    async def add_provider(self, letter: str, next_hop: int, more: str = "") -> Provider:
        """One more Prosody, which believes that the relay listens at this port, with `more` in its configuration. Who adds it stops it."""
        guest = self.make_guest(letter)
        await guest.start_prosody(self.variant, next_hop, more)
        return guest

    def make_guest(self, letter: str) -> Provider:
        """One more provider, of which nothing runs yet."""
        guest = Provider(letter, self.folder / letter, Ports(*free_ports(6)))
        self._guests.append(guest)
        return guest

    def ensure_standing(self) -> None:
        """Raise if a process has ended that both providers need."""
        for provider in self.providers:
            for process in provider.processes:
                process.ensure_running()

    async def strike(self) -> None:
        """Stop everything, Prosodys first so that their streams end in good order."""
        for provider in self.providers:
            if provider.prosody:
                await provider.prosody.stop()
        for provider in self.providers:
            if provider.relay:
                code = await provider.relay.stop()
                if code != 0:
                    raise StageError(f"{provider.relay.name} ended with exit code {code} on SIGTERM; see {provider.relay_log}")

    def kill(self) -> None:
        for provider in (*self.providers, *self._guests):
            for process in provider.processes:
                process.kill()
        if self.capture:
            self.capture.kill()

    def logs(self) -> Iterator[Path]:
        """Every log that holds something."""
        return logs_below(self.folder)


def logs_below(folder: Path) -> Iterator[Path]:
    """Every log in `folder` that holds something."""
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".log", ".out") and path.stat().st_size:
            yield path


def exchange(text: str, exchanged: dict[str, str], where: str) -> str:
    """`text` with each key exchanged for its value. A key that isn't there means that the example was changed."""
    for old, new in exchanged.items():
        if old not in text:
            raise StageError(f"{where} no longer contains {old!r}, which the stage exchanges for {new!r}: adapt stage.py")
        text = text.replace(old, new)
    return text


def find_prosody() -> None:
    """Raise if there is no Prosody to play with."""
    if not any((Path(folder) / "prosody").exists() for folder in os.get_exec_path()):
        raise StageError("prosody is not installed: apt-get install prosody")
