"""What really went over the wire between the two relays: tcpdump on loopback, and a look at QUIC's long headers.

QUIC encrypts nearly everything, but the first packets of a handshake show both ends' connection ids in clear (RFC 9000
section 17.2). Ids that appear in one packet belong to one connection, so the number of unconnected groups of ids is the number
of connections that were attempted, whatever the relays' counters say.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from processes import Process, free_ports, until

SNAPSHOT_BYTES = 192
# How far before the end of the file the last datagram is looked for: others may follow it.
END_BYTES = 1 << 20
PCAP_HEADER = struct.Struct("<IHHiIII")
PCAP_RECORD = struct.Struct("<IIII")
LONG_HEADER = 0x80


@dataclass
class Seen:
    """What a capture shows."""

    datagrams: int = 0
    bytes: int = 0
    # Unordered pairs of addresses: both directions of a conversation count once.
    paths: set[frozenset[tuple[str, int]]] = field(default_factory=set)
    # Groups of connection ids.
    connections: list[set[bytes]] = field(default_factory=list)

    def link(self, ids: set[bytes]) -> None:
        """These ids belong to one connection; so do the groups that share one with them."""
        apart = []
        for group in self.connections:
            if group & ids:
                ids = ids | group
            else:
                apart.append(group)
        self.connections = [*apart, ids]


class Capture:
    """tcpdump on loopback, limited to datagrams from or to the relays' QUIC ports."""

    def __init__(self, folder: Path, ports: list[int]) -> None:
        self.file = folder / "quic.pcap"
        self._end_port = free_ports(1)[0]
        self._end_mark = os.urandom(16)
        expression = " or ".join(f"udp port {port}" for port in [*ports, self._end_port])
        # -U: write each packet at once. -Z root: don't give up the right to write into our folder.
        options = ["-n", "-U", "--immediate-mode", "-s", str(SNAPSHOT_BYTES), "-B", "32768", "-Z", "root"]
        command = ["tcpdump", "-i", "lo", *options, "-w", self.file, expression]
        self._tcpdump = Process("tcpdump", command, folder / "tcpdump.log", folder)

    async def start(self) -> bool:
        """Whether a capture runs. Without tcpdump, or without the right to capture, there is none."""
        if not shutil.which("tcpdump"):
            return False
        await self._tcpdump.start()
        refused = False

        async def listening() -> bool:
            nonlocal refused
            log = self._tcpdump.log.read_text()
            refused = "permission" in log.lower()
            return refused or "listening on" in log

        await until("tcpdump listens", listening, seconds=10)
        return not refused

    async def finish(self) -> Seen:
        """Stop capturing and read what was captured."""
        # tcpdump drops what it has not yet read when it is stopped: wait for a datagram of ours, sent after all others.
        with socket.socket(type=socket.SOCK_DGRAM) as sender:
            sender.sendto(self._end_mark, ("127.0.0.1", self._end_port))

        async def complete() -> bool:
            with self.file.open("rb") as file:
                file.seek(-min(END_BYTES, self.file.stat().st_size), os.SEEK_END)
                return self._end_mark in file.read()

        await until("the capture is complete", complete, seconds=20, watch=[self._tcpdump])
        await self._tcpdump.stop(signal.SIGINT)
        log = self._tcpdump.log.read_text()
        assert "\n0 packets dropped by kernel" in log, f"the capture is incomplete: {log}"
        return await asyncio.to_thread(read, self.file, self._end_port)

    def kill(self) -> None:
        self._tcpdump.kill()


def read(file: Path, ignored_port: int) -> Seen:
    """All datagrams of a pcap file, but those to one port."""
    seen = Seen()
    for source, target, size, payload in datagrams(file):
        if target[1] == ignored_port:
            continue
        seen.datagrams += 1
        seen.bytes += size
        seen.paths.add(frozenset((source, target)))
        ids = connection_ids(payload)
        if ids:
            seen.link(ids)
    return seen


def datagrams(file: Path) -> Iterator[tuple[tuple[str, int], tuple[str, int], int, bytes]]:
    """Source, target, length on the wire and the first bytes of the payload of each UDP datagram over IPv4."""
    content = file.read_bytes()
    magic, *_, link_type = PCAP_HEADER.unpack_from(content)
    assert magic in (0xA1B2C3D4, 0xA1B23C4D) and link_type == 1, f"{file} is not a capture of ethernet frames by this machine"
    position = PCAP_HEADER.size
    while position < len(content):
        _, _, captured, size = PCAP_RECORD.unpack_from(content, position)
        packet = content[position + PCAP_RECORD.size + 14 : position + PCAP_RECORD.size + captured]
        position += PCAP_RECORD.size + captured
        header = (packet[0] & 0x0F) * 4
        source, target = (".".join(map(str, packet[start : start + 4])) for start in (12, 16))
        source_port, target_port = struct.unpack_from(">HH", packet, header)
        yield (source, source_port), (target, target_port), size, packet[header + 8 :]


def connection_ids(payload: bytes) -> set[bytes]:
    """The connection ids of a packet with a long header; empty for one with a short header, which names only its target's."""
    if len(payload) < 7 or not payload[0] & LONG_HEADER:
        return set()
    target_length = payload[5]
    target = payload[6 : 6 + target_length]
    source_length = payload[6 + target_length]
    source = payload[7 + target_length : 7 + target_length + source_length]
    return {one for one in (target, source) if one}
