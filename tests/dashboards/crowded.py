"""A third relay, to which other things happen than to those of trouble.py: a host of it that no certificate carries, few file descriptors
and many who connect, a peer that is away while hundreds of megabytes are for it, peers with certificates that nobody vouches for, and a path
that loses packets."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import ssl
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "interop"))

from certificates import make_self_signed_certificate, make_server_certificate  # noqa: E402
from metrics import is_ready  # noqa: E402
from processes import Process, free_ports, until  # noqa: E402
from trouble import START_SECONDS, Component  # noqa: E402

CROWDED = """
[identity]
certificates = "crowded"
trust = "ca.pem"
[remote]
starttls = "127.0.0.1:{starttls}"
direct_tls = "127.0.0.1:{direct_tls}"
[local]
s2s = "127.0.0.1:{s2s}"
components = "127.0.0.1:{components}"
[admin]
listen = "127.0.0.1:{metrics}"
[dns]
servers = ["127.0.0.1:{closed}"]
[limits]
# One pair may fill what all may; nothing comes back meanwhile.
pair_queue_bytes = 268435456
hold = "10m"
[[host]]
domain = "bare.test"
deliver = "127.0.0.1:{closed}"
[[component]]
domain = "crowded.test"
secret_file = "secret"
[[peer]]
domains = ["gone.test"]
address = "127.0.0.1:{closed}"
transport = "direct-tls"
[[peer]]
domains = ["bot.worn.test"]
address = "127.0.0.1:{lossy}"
"""
# Descriptors of the relay, and connections that take them: together more than four of five, and not all.
DESCRIPTORS = 100
CONNECTIONS = 70
# More than 80 % of limits.queue_bytes (FedmuxQueuesFull), and less than all of it.
STANZA_BYTES = 400_000
STANZAS_HELD = 580
# More than twenty: FedmuxProofsRefused.
PROOFS = 25
# Every tenth packet of the relay is lost: more than 2 % (FedmuxPathLoss).
LOST_EVERY = 10
STANZA_EVERY_SECONDS = 0.05


class LossyPath(asyncio.DatagramProtocol):
    """UDP from `port` to `beyond` and back, both on loopback; it loses each so-and-so-many-eth packet of whoever came first."""

    def __init__(self, port: int, beyond: int) -> None:
        self.port = port
        self.beyond = beyond
        self._near: tuple[str, int] | None = None
        self._count = itertools.count(1)

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._here, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", self.port))
        self._there, _ = await loop.create_datagram_endpoint(lambda: _Back(self), remote_addr=("127.0.0.1", self.beyond))

    def datagram_received(self, octets: bytes, address: tuple[str, int]) -> None:
        self._near = address
        if next(self._count) % LOST_EVERY:
            self._there.sendto(octets)

    def back(self, octets: bytes) -> None:
        if self._near:
            self._here.sendto(octets, self._near)

    def close(self) -> None:
        self._here.close()
        self._there.close()


class _Back(asyncio.DatagramProtocol):
    """What comes back is passed on whole."""

    def __init__(self, path: LossyPath) -> None:
        self.path = path

    def datagram_received(self, octets: bytes, _address: tuple[str, int]) -> None:
        self.path.back(octets)


class Crowded:
    """The relay, and the component behind it."""

    def __init__(self, fedmux: Path, folder: Path, beyond: int) -> None:
        """`folder` has an authority; the path that loses leads to the relay that listens for QUIC at `beyond`."""
        self.folder = folder
        names = ("starttls", "direct_tls", "s2s", "components", "metrics", "closed", "lossy")
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))
        command = ["prlimit", f"--nofile={DESCRIPTORS}:{DESCRIPTORS}", fedmux, "run", "--config", "crowded.toml"]
        self.relay = Process("crowded", command, folder / "crowded.log", folder)
        self.component = Component("crowded.test", self.ports["components"])
        self.path = LossyPath(self.ports["lossy"], beyond)
        self._held: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._steady: asyncio.Task | None = None

    @property
    def instance(self) -> str:
        return f"127.0.0.1:{self.ports['metrics']}"

    async def start(self) -> None:
        await make_server_certificate(self.folder, ["crowded.test"])
        (self.folder / "live/crowded.test").rename(self.folder / "crowded")
        await make_self_signed_certificate(self.folder, "forged.test")
        (self.folder / "crowded.toml").write_text(CROWDED.format(**self.ports))
        await self.path.start()
        await self.relay.start()
        await until("the third relay is ready", lambda: is_ready(self.ports["metrics"]), seconds=START_SECONDS, watch=[self.relay])
        await self.component.come()
        self._steady = asyncio.create_task(self._go_on())

    async def _go_on(self) -> None:
        """Something for the path to lose."""
        while True:
            self.component.message("bot.worn.test", "over a bad line")
            await asyncio.sleep(STANZA_EVERY_SECONDS)

    async def fill(self) -> None:
        """Say more to a peer that is away than the relay wants to hold."""
        for _ in range(STANZAS_HELD):
            self.component.message("gone.test", "x" * STANZA_BYTES)
            await self.component.drain()

    async def connect(self) -> None:
        """Come as many peers that say nothing. The relay ends each after limits.handshake."""
        for _ in range(CONNECTIONS):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.ports["starttls"])
            self._held.append((reader, writer))
        # Until the last one has been given up.
        with contextlib.suppress(ConnectionError):
            await self._held[-1][0].read()

    async def forge(self) -> None:
        """Come as peers whose certificate no authority vouches for."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["xmpp-server"])
        live = self.folder / "live/forged.test"
        context.load_cert_chain(live / "fullchain.pem", live / "privkey.pem")
        for _ in range(PROOFS):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.ports["direct_tls"], ssl=context, server_hostname="crowded.test")
            try:
                # By TLS 1.3 we are through before the relay has looked at it.
                octets = await asyncio.wait_for(reader.read(), 10)
            except OSError:
                octets = b""
            assert not octets, f"the relay takes a certificate that nobody vouches for: {octets!r}"
            writer.transport.abort()

    async def end(self) -> None:
        if self._steady:
            self._steady.cancel()
            self.path.close()
        for _, writer in self._held:
            writer.close()
        self.relay.kill()
        await self.relay.stop()
