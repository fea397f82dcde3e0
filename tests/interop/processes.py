"""Child processes with a log each, ports to give them, and polling of real conditions."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

# Below the kernel's ephemeral range (32768 and up): an outgoing connection can't take the port between our choosing it and
# the server's binding it.
PORTS = range(20000, 32000)
POLL_SECONDS = 0.02
# Longer than a relay's limits.drain.
STOP_SECONDS = 20
ACTIVATE = Path(__file__).with_name("activate.py")


class StageError(Exception):
    """The stage can't be set; the message says what and where to look."""


def free_ports(count: int) -> list[int]:
    """Ports that nobody has bound on 127.0.0.1, for TCP or UDP. All are held until all are chosen."""
    held: list[socket.socket] = []
    chosen: list[int] = []
    try:
        while len(chosen) < count:
            port = random.choice(PORTS)
            pair = [socket.socket(type=socket.SOCK_STREAM), socket.socket(type=socket.SOCK_DGRAM)]
            held += pair
            try:
                for one in pair:
                    one.bind(("127.0.0.1", port))
            except OSError:
                continue
            chosen.append(port)
    finally:
        for one in held:
            one.close()
    return chosen


def hold(tcp: Sequence[int] = (), udp: Sequence[int] = ()) -> list[socket.socket]:
    """Sockets at these ports of 127.0.0.1, as a service manager holds them for a service."""
    held = [socket.create_server(("127.0.0.1", port), backlog=1000) for port in tcp]
    for port in udp:
        held.append(socket.socket(type=socket.SOCK_DGRAM))
        held[-1].bind(("127.0.0.1", port))
    return held


class Process:
    """A child in a process group of its own, which writes to a log."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        log: Path,
        cwd: Path,
        variables: dict[str, str] | None = None,
        sockets: Sequence[socket.socket] = (),
    ) -> None:
        """`variables` join our own environment; `sockets` are handed over as by a service manager, at each start."""
        self.name = name
        self.sockets = sockets
        self.command = [str(word) for word in command]
        self.log = log
        self.cwd = cwd
        self.environment = os.environ | (variables or {})
        self._child: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        descriptors = [each.fileno() for each in self.sockets]
        handing = [sys.executable, str(ACTIVATE), ",".join(map(str, descriptors))] if descriptors else []
        with self.log.open("ab") as log:
            self._child = await asyncio.create_subprocess_exec(
                *handing,
                *self.command,
                cwd=self.cwd,
                env=self.environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=descriptors,
            )

    @property
    def pid(self) -> int:
        return self._child.pid

    def ensure_running(self) -> None:
        """Raise if the child has ended."""
        code = self._child.returncode if self._child else None
        if self._child is None or code is not None:
            raise StageError(f"{self.name} is not running (exit code {code}); see {self.log}")

    async def stop(self, stop_signal: int = signal.SIGTERM) -> int | None:
        """Ask the child to end, then make it. The exit code."""
        child = self._child
        if child is None:
            return None
        if child.returncode is None:
            self.send_signal(stop_signal)
            try:
                await asyncio.wait_for(child.wait(), STOP_SECONDS)
            except TimeoutError:
                self.send_signal(signal.SIGKILL)
                await child.wait()
        return child.returncode

    def kill(self) -> None:
        """End the child at once, without waiting: for when the run itself is being ended."""
        if self._child is not None and self._child.returncode is None:
            self.send_signal(signal.SIGKILL)

    def send_signal(self, number: int) -> None:
        try:
            os.killpg(self._child.pid, number)
        except ProcessLookupError:
            pass


async def until(what: str, condition: Callable[[], Awaitable[bool]], *, seconds: float, watch: Sequence[Process] = ()) -> None:
    """Wait until `condition` holds. Fails at once when a process in `watch` has ended."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not await condition():
        for process in watch:
            process.ensure_running()
        if asyncio.get_running_loop().time() > deadline:
            logs = ", ".join(str(process.log) for process in watch)
            raise StageError(f"after {seconds:g} s still not true: {what}" + (f"; see {logs}" if logs else ""))
        await asyncio.sleep(POLL_SECONDS)


async def listens(port: int) -> bool:
    """Whether something accepts TCP connections on 127.0.0.1:`port`."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
