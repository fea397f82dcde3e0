"""A fourth relay, from which the machine withholds something while it runs: further threads, and then random numbers. strace does that, to
the binary as it is: it lets system calls fail."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "interop"))

from certificates import make_server_certificate  # noqa: E402
from metrics import is_ready, scrape  # noqa: E402
from processes import Process, free_ports, until  # noqa: E402
from trouble import START_SECONDS, Component  # noqa: E402

STARVED = """
[identity]
certificates = "starved"
trust = "ca.pem"
[remote]
quic = "127.0.0.1:{quic}"
[local]
components = "127.0.0.1:{components}"
[admin]
listen = "127.0.0.1:{metrics}"
socket = "{socket}"
[[component]]
domain = "starved.test"
secret_file = "secret"
"""
ATTACH_SECONDS = 20
ANSWER_SECONDS = 20
# What the machine says when there are as many threads as there may be.
NO_THREADS = "clone,clone3:error=EAGAIN"
# The first time that a thread asks. If it failed again while what panicked is cleaned up, the process would end.
NO_RANDOMNESS = "getrandom:error=EIO:when=1"


class Withheld(Exception):
    """strace can't do here what is asked of it; the message says why."""


class Starved:
    """The relay, and the component behind it."""

    def __init__(self, fedmux: Path, folder: Path) -> None:
        """`folder` has an authority and a secret."""
        self.fedmux = fedmux
        self.folder = folder
        names = ("quic", "components", "metrics")
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))
        self.relay = Process("starved", [fedmux, "run", "--config", "starved.toml"], folder / "starved.log", folder)
        self.component = Component("starved.test", self.ports["components"])

    @property
    def instance(self) -> str:
        return f"127.0.0.1:{self.ports['metrics']}"

    async def start(self) -> None:
        await make_server_certificate(self.folder, ["starved.test"])
        (self.folder / "live/starved.test").rename(self.folder / "starved")
        (self.folder / "starved.toml").write_text(STARVED.format(socket=self.folder / "starved.sock", **self.ports))
        await self.relay.start()
        await until("starved is ready", lambda: is_ready(self.ports["metrics"]), seconds=START_SECONDS, watch=[self.relay])
        await self.component.come()

    async def failed(self) -> float:
        """Tasks that ended by a panic."""
        return (await scrape(self.ports["metrics"])).total("fedmux_tasks_failed_total")

    @contextlib.asynccontextmanager
    async def without(self, what: str) -> AsyncIterator[Path]:
        """The relay is without this. Gives the file in which strace writes down what it let fail."""
        strace = shutil.which("strace")
        if strace is None:
            raise Withheld("strace is not installed")
        calls = what.partition(":")[0]
        failed = self.folder / f"strace-{calls}.log"
        command = [strace, "-f", "-p", str(self.relay.pid), "-o", str(failed), "-e", f"trace={calls}", "-e", f"inject={what}"]
        child = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE)
        try:
            said = ""
            while "attached" not in said:
                line = await asyncio.wait_for(child.stderr.readline(), ATTACH_SECONDS)
                if not line:
                    raise Withheld(f"strace may not do it: {said.strip()}")
                said += line.decode(errors="replace")
            yield failed
        finally:
            if child.returncode is None:
                child.send_signal(signal.SIGINT)
            await child.wait()

    async def ask(self) -> None:
        """`fedmux status` answers, which takes a thread."""
        command = [str(self.fedmux), "status", "--socket", str(self.folder / "starved.sock")]
        child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
        said, _ = await asyncio.wait_for(child.communicate(), ANSWER_SECONDS)
        assert child.returncode == 0, f"fedmux status without further threads: {said.decode(errors='replace')}"

    async def end(self) -> None:
        self.relay.kill()
        await self.relay.stop()
