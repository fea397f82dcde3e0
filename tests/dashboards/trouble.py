"""Two real relays to which something happens: one whose peers, resolver and server are away, and one that is killed. A component
(XEP-0114) behind the first sends."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import re
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "interop"))

from certificates import make_certificates, make_server_certificate  # noqa: E402
from processes import Process, free_ports, until  # noqa: E402
from metrics import is_ready  # noqa: E402

PEERS_AWAY = 6
DOMAINS_SOUGHT = 15
KNOCKING = 10
START_SECONDS = 20
SECRET = "a secret between a relay and its component"
WORN = """
[identity]
certificates = "worn"
trust = "ca.pem"
[remote]
starttls = "127.0.0.1:{starttls}"
quic = "127.0.0.1:{quic_worn}"
[local]
s2s = "127.0.0.1:{s2s}"
components = "127.0.0.1:{components}"
[admin]
listen = "127.0.0.1:{metrics}"
name_hosts = true
[dns]
servers = ["127.0.0.1:{closed}"]
allow_private = true
[limits]
hold_iq = "2s"
read_pause = "10ms"
path_idle = "5s"
resume_wait = "2s"
[[host]]
domain = "worn.test"
deliver = "127.0.0.1:{closed}"
[[component]]
domain = "bot.worn.test"
secret_file = "secret"
[[peer]]
domains = ["killed.test"]
address = "127.0.0.1:{quic}"
announce = "all"
[[peer]]
domains = ["starved.test"]
address = "127.0.0.1:{quic_starved}"
"""
AWAY = """
[[peer]]
domains = ["away{number}.test"]
address = "127.0.0.1:{closed}"
transport = "direct-tls"
"""
KILLED = """
[identity]
certificates = "killed"
trust = "ca.pem"
[remote]
quic = "127.0.0.1:{quic}"
[local]
components = "127.0.0.1:{components_killed}"
[admin]
listen = "127.0.0.1:{metrics_killed}"
[limits]
ack_hold = "2s"
[[component]]
domain = "killed.test"
secret_file = "secret"
[[peer]]
domains = ["worn.test", "*.worn.test"]
address = "127.0.0.1:{closed}"
announce = "all"
"""


class Component:
    """Speaks XEP-0114, counts what it hears, and says what it is told to."""

    def __init__(self, domain: str, port: int) -> None:
        self.domain = domain
        self.port = port
        self.heard = ""
        self._reading: asyncio.Task | None = None

    async def come(self) -> None:
        reader, self._writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.say(f"<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' to='{self.domain}'>")
        head = (await reader.readuntil(b">")).decode()
        while "id=" not in head:
            head = (await reader.readuntil(b">")).decode()
        stream = re.search(r"id=['\"]([^'\"]+)", head)
        assert stream, head
        self.say(f"<handshake>{hashlib.sha1((stream[1] + SECRET).encode()).hexdigest()}</handshake>")
        answer = (await reader.readuntil(b">")).decode()
        assert "handshake" in answer, answer
        self._reading = asyncio.create_task(self._hear(reader))

    async def _hear(self, reader: asyncio.StreamReader) -> None:
        # Its relay may be killed.
        with contextlib.suppress(ConnectionError):
            while octets := await reader.read(65536):
                self.heard = (self.heard + octets.decode(errors="replace"))[-100_000:]

    def say(self, text: str) -> None:
        self._writer.write(text.encode())

    async def drain(self) -> None:
        """Wait until what was said is on its way, or nearly."""
        await self._writer.drain()

    def message(self, to: str, body: str) -> None:
        self.say(f"<message from='a@{self.domain}' to='b@{to}' type='chat'><body>{body}</body></message>")

    def request(self, to: str, number: int) -> None:
        self.say(f"<iq from='a@{self.domain}' to='{to}' type='get' id='q{number}'><ping xmlns='urn:xmpp:ping'/></iq>")


class Trouble:
    """Both relays, and the components behind them."""

    def __init__(self, fedmux: Path, folder: Path, quic_starved: int) -> None:
        """`quic_starved`: where a further peer is."""
        self.fedmux = fedmux
        self.folder = folder
        names = ("starttls", "s2s", "components", "metrics", "closed", "quic", "quic_worn", "components_killed", "metrics_killed")
        self.ports = dict(zip(names, free_ports(len(names)), strict=True)) | {"quic_starved": quic_starved}
        self.worn = self._relay("worn")
        self.killed = self._relay("killed")
        self.bot = Component("bot.worn.test", self.ports["components"])
        self.far = Component("killed.test", self.ports["components_killed"])
        self._steady: asyncio.Task | None = None

    def _relay(self, name: str) -> Process:
        return Process(name, [self.fedmux, "run", "--config", f"{name}.toml"], self.folder / f"{name}.log", self.folder)

    @property
    def instances(self) -> dict[str, str]:
        return {"worn": f"127.0.0.1:{self.ports['metrics']}", "killed": f"127.0.0.1:{self.ports['metrics_killed']}"}

    async def start(self) -> None:
        await make_certificates(self.fedmux, self.folder, ["killed.test"])
        (self.folder / "live/killed.test").rename(self.folder / "killed")
        await make_server_certificate(self.folder, ["worn.test", "bot.worn.test"], days=1)
        (self.folder / "live/worn.test").rename(self.folder / "worn")
        (self.folder / "secret").write_text(SECRET)
        (self.folder / "secret").chmod(0o600)
        away = [AWAY.format(number=number, **self.ports) for number in range(PEERS_AWAY)]
        (self.folder / "worn.toml").write_text(WORN.format(**self.ports) + "".join(away))
        (self.folder / "killed.toml").write_text(KILLED.format(**self.ports))
        for relay in (self.worn, self.killed):
            await relay.start()
        await self.are_ready()
        await self.bot.come()
        await self.far.come()
        # What waits has to wait for half a minute: FedmuxStanzasWait.
        self.bot.message("worn.test", "for the server that is away")

    async def are_ready(self) -> None:
        for relay, port in ((self.worn, "metrics"), (self.killed, "metrics_killed")):
            await until(f"{relay.name} is ready", lambda port=port: is_ready(self.ports[port]), seconds=START_SECONDS, watch=[relay])

    async def is_heard(self) -> bool:
        """Whether what the one component says arrives at the other."""
        self.bot.message("killed.test", "are you there?")
        await asyncio.sleep(0.2)
        return "are you there?" in self.far.heard

    def begin(self) -> None:
        """All that goes on by itself: stanzas to whoever is away, in ever greater numbers."""
        for number in range(60):
            self.bot.request(f"away{number % PEERS_AWAY}.test", number)
        for number in range(DOMAINS_SOUGHT):
            self.bot.request(f"sought{number}.test", number)
        for _ in range(60):
            self.bot.message("away0.test", "x" * 60_000)
        self._steady = asyncio.create_task(self._go_on())

    async def _go_on(self) -> None:
        for number in range(1100):
            self.bot.message(f"away{1 + number % (PEERS_AWAY - 1)}.test", "waits")
        for turn in itertools.count():
            for number in range(1, PEERS_AWAY):
                self.bot.message(f"away{number}.test", "waits")
                self.bot.request(f"away{number}.test", turn)
            self.bot.message("away0.test", "x" * 60_000)
            self.bot.request(f"sought-later{turn}.test", turn)
            await asyncio.sleep(0.2)

    async def knock(self, times: int) -> None:
        """Come as peers that speak something else, some at once."""

        async def one_after_the_other(times: int) -> None:
            for _ in range(times):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.ports["starttls"])
                writer.write(b"GET / HTTP/1.0\r\n\r\n")
                await asyncio.wait_for(reader.read(), 10)
                writer.close()

        await asyncio.gather(*(one_after_the_other(times // KNOCKING) for _ in range(KNOCKING)))

    async def stop_between(self) -> None:
        """Kill the far relay while it has something in its hands that it hasn't acknowledged."""
        self.killed.send_signal(signal.SIGSTOP)
        for _ in range(5):
            self.bot.message("killed.test", "what became of it?")
        await asyncio.sleep(0.5)
        await self.killed.stop(signal.SIGKILL)

    def spoil(self) -> None:
        """Let the first relay read a configuration that makes no sense."""
        file = self.folder / "worn.toml"
        file.write_text(file.read_text() + '\n[[host]]\ndomain = "not a domain"\n')
        self.worn.send_signal(signal.SIGHUP)

    def end_gently(self) -> None:
        """Ask the first relay to end, which has much in its hands."""
        self.quiet()
        self.worn.send_signal(signal.SIGTERM)

    def quiet(self) -> None:
        """Say nothing more."""
        if self._steady:
            self._steady.cancel()

    async def end(self) -> None:
        self.quiet()
        for relay in (self.worn, self.killed):
            relay.kill()
            await relay.stop()
