"""A DNS client that chooses the address from which it asks, and says what it was told."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from dataclasses import dataclass, field

TYPES = {"A": 1, "TLSA": 52, "AAAA": 28, "SRV": 33}
CODES = {0: "NOERROR", 2: "SERVFAIL", 3: "NXDOMAIN", 5: "REFUSED"}
ANSWER_SECONDS = 5
HEADER = struct.Struct("!6H")
RECORD = struct.Struct("!HHIH")


@dataclass
class Answer:
    """The code, and the data of the records of the kind that was asked for."""

    code: str
    records: list[str] = field(default_factory=list)


async def ask(server: tuple[str, int], kind: str, name: str, *, source: str, tcp: bool = False) -> Answer:
    """Ask `server` from the address `source`."""
    number = random.randrange(1 << 16)
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.rstrip(".").split("."))
    question = HEADER.pack(number, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", TYPES[kind], 1)
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM) as asking:
        asking.setblocking(False)
        asking.bind((source, 0))
        await asyncio.wait_for(loop.sock_connect(asking, server), ANSWER_SECONDS)
        await loop.sock_sendall(asking, struct.pack("!H", len(question)) + question if tcp else question)
        said = await asyncio.wait_for(loop.sock_recv(asking, 65536), ANSWER_SECONDS)
    if tcp:
        assert len(said) >= 2 and struct.unpack("!H", said[:2])[0] == len(said) - 2, "the answer came in pieces, or none did"
        said = said[2:]
    return _read(said, number, TYPES[kind])


def _read(said: bytes, number: int, kind: int) -> Answer:
    answered, flags, _, count, _, _ = HEADER.unpack_from(said)
    assert answered == number, "an answer to another question"
    _, at = _name(said, HEADER.size)
    at += 4
    answer = Answer(CODES.get(flags & 0xF, str(flags & 0xF)))
    for _ in range(count):
        _, at = _name(said, at)
        found, _, _, length = RECORD.unpack_from(said, at)
        at += RECORD.size
        if found == kind:
            answer.records.append(_data(said, at, length, kind))
        at += length
    return answer


def _data(said: bytes, at: int, length: int, kind: int) -> str:
    if kind == TYPES["SRV"]:
        return " ".join(map(str, struct.unpack_from("!3H", said, at))) + f" {_name(said, at + 6)[0]}"
    if kind in (TYPES["A"], TYPES["AAAA"]):
        return socket.inet_ntop(socket.AF_INET if length == 4 else socket.AF_INET6, said[at : at + length])
    return said[at : at + length].hex()


def _name(said: bytes, at: int) -> tuple[str, int]:
    """The name at this place, and what comes behind it."""
    labels = []
    while (length := said[at]) & 0xC0 == 0:
        at += 1
        if length == 0:
            return ".".join([*labels, ""]) or ".", at
        labels.append(said[at : at + length].decode())
        at += length
    rest, _ = _name(said, struct.unpack_from("!H", said, at)[0] & 0x3FFF)
    return ".".join([*labels, rest]), at + 2
