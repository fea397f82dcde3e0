"""A DNS server on loopback, dnsmasq, for the zone `test.`: everybody on the stage finds everybody else by it alone."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from pathlib import Path

from processes import Process, listens, until

START_SECONDS = 20


class NameServer:
    """dnsmasq with a fixed set of records. What it doesn't hold below `test.` doesn't exist; else it
    knows `localhost` alone."""

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        self.log = folder / "dnsmasq.log"
        self._config = folder / "dnsmasq.conf"
        self._lines: list[str] = []
        self.process = Process("dnsmasq", ["dnsmasq", "--keep-in-foreground", f"--conf-file={self._config}"], folder / "dnsmasq.out", folder)

    def add_address(self, name: str, *addresses: str) -> None:
        """A and AAAA records: `name` is at these addresses; on this machine if there is none."""
        self._lines.append(",".join([f"host-record={name}", *(addresses or ["127.0.0.1"])]))

    def add_services(self, domains: Sequence[str], service: str, target: str, port: int, priority: int = 0) -> None:
        """The SRV record of this service, for each of these domains."""
        self._lines += [f"srv-host={service}.{domain},{target},{port},{priority}" for domain in domains]

    async def start(self) -> None:
        """Serve what was added."""
        user = getpass.getuser()
        head = f"""\
port={self.port}
listen-address=127.0.0.1
bind-interfaces
no-resolv
no-hosts
local=/test/
host-record=localhost,127.0.0.1
user={user}
pid-file
log-queries
log-facility={self.log}
"""
        self._config.write_text(head + "".join(f"{line}\n" for line in self._lines))
        await self.process.start()

        async def up() -> bool:
            return await listens(self.port)

        await until("dnsmasq listens", up, seconds=START_SECONDS, watch=[self.process])
