"""Somebody on the way between two servers, who takes the offer of STARTTLS out of what passes."""

from __future__ import annotations

import asyncio
import re

OFFER = re.compile(rb"<starttls[^>]*(?:/>|>.*?</starttls>)", re.DOTALL)
READ_BYTES = 65536


class Meddler:
    """Listens at `port`, and passes on to and from `beyond`, both on loopback."""

    def __init__(self, port: int, beyond: int) -> None:
        self.port = port
        self.beyond = beyond
        self.taken_out = 0
        self.meddles = True
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._between, "127.0.0.1", self.port)

    def close(self) -> None:
        if self._server:
            self._server.close()

    async def _between(self, near: asyncio.StreamReader, near_out: asyncio.StreamWriter) -> None:
        far, far_out = await asyncio.open_connection("127.0.0.1", self.beyond)
        ways = [asyncio.create_task(self._pass(near, far_out, False)), asyncio.create_task(self._pass(far, near_out, True))]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        near_out.close()
        far_out.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, meddle: bool) -> None:
        while octets := await reader.read(READ_BYTES):
            if meddle and self.meddles:
                # On loopback the features arrive in one piece.
                octets, count = OFFER.subn(b"", octets)
                self.taken_out += count
            writer.write(octets)
            await writer.drain()
