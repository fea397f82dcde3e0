"""The test in the relay's place: one stream with a Prosody that has mod_fedmux, dialled by it or by us, up to the point where the
relay dies.
"""

from __future__ import annotations

import asyncio
import base64
import random
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from xml.etree import ElementTree as ET

STREAMS = "http://etherx.jabber.org/streams"
SASL = "urn:ietf:params:xml:ns:xmpp-sasl"
SM = "urn:xmpp:sm:3"
BIDI = "urn:xmpp:features:bidi"
STANZAS = {f"{{jabber:server}}{name}" for name in ("message", "presence", "iq")}
PATIENCE_SECONDS = 20


class Died(Exception):
    """The relay has died, where the script wanted it."""


@dataclass(frozen=True)
class Death:
    """Where and how the relay dies."""

    point: str
    """A step of the stream; see `Stream.reach`."""
    how: str = "reset"
    """"reset", "fin", "error" or "close"."""
    linger: float = 0
    """For so long it does nothing before."""
    stanzas: int = 0
    """At the point "carrying": after so many stanzas."""
    acknowledges: bool = True
    """Whether it acknowledges until then."""


@dataclass
class Post:
    """Numbered messages for a user behind the Prosody, each sent until the Prosody has acknowledged it."""

    recipient: str
    count: int
    acknowledged: int = 0
    every_seconds: float = 0.005


@dataclass
class Heard:
    """What all streams together have brought."""

    received: list[str] = field(default_factory=list)
    """The ids of stanzas, in the order in which they came."""
    uncovered: list[str] = field(default_factory=list)
    """Those of them that came before stream management was on."""
    managed: int = 0
    """Streams on which it was."""
class Stream:
    """One stream, as the relay's end of it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, heard: Heard, death: Death | None, ours: str, post: Post | None) -> None:
        """`death`: None for a relay that lives on. `ours`: the remote domain that the relay speaks for."""
        self._reader = reader
        self._writer = writer
        self._heard = heard
        self._death = death
        self._ours = ours
        self._post = post
        self._posted_before = 0
        self._theirs = ""
        self._parser = ET.XMLPullParser(["start", "end"])
        self._waiting: list[ET.Element] = []
        self._depth = 0
        self._handled = 0
        self._managed = False

    # --- octets and elements ---

    async def _element(self, patience: float | None = PATIENCE_SECONDS) -> ET.Element:
        """The next header or first-level element."""
        while not self._waiting:
            octets = await asyncio.wait_for(self._reader.read(65536), patience)
            if not octets:
                raise Died
            self._parser.feed(octets)
            for event, element in self._parser.read_events():
                self._depth += 1 if event == "start" else -1
                if (event, self._depth) in (("start", 1), ("end", 1)):
                    self._waiting.append(element)
        return self._waiting.pop(0)

    async def _expect(self, name: str) -> ET.Element:
        while (element := await self._element()).tag != name:
            self._take(element)
        return element

    def _restart(self) -> None:
        self._parser = ET.XMLPullParser(["start", "end"])
        self._depth = 0

    def say(self, text: str) -> None:
        self._writer.write(text.encode())

    def _header(self, more: str) -> str:
        to = f"to='{self._theirs}'" if self._theirs else ""
        opening = f"<stream:stream xmlns='jabber:server' xmlns:stream='{STREAMS}' from='{self._ours}' {to} {more} version='1.0'>"
        return f"<?xml version='1.0'?>{opening}"

    def _take(self, element: ET.Element) -> None:
        """An element of an established stream."""
        if element.tag in STANZAS:
            name = element.get("id", "")
            self._heard.received.append(name)
            if self._managed:
                self._handled += 1
            else:
                self._heard.uncovered.append(name)
        elif element.tag == f"{{{SM}}}a":
            self._post.acknowledged = self._posted_before + int(element.get("h"))
        elif element.tag == f"{{{SM}}}r" and (not self._death or self._death.acknowledges):
            self.say(f"<a xmlns='{SM}' h='{self._handled}'/>")
        elif element.tag == f"{{{STREAMS}}}error":
            raise AssertionError(f"Prosody ends the stream: {ET.tostring(element)}")

    # --- life and death ---

    async def reach(self, point: str) -> None:
        """The stream is at this step: die, if it is the one."""
        if self._death and self._death.point == point:
            await self._writer.drain()
            await asyncio.sleep(self._death.linger)
            self.die()

    def die(self) -> None:
        how = self._death.how if self._death else "fin"
        if how == "error":
            self.say("<stream:error><undefined-condition xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>")
        elif how == "close":
            self.say("</stream:stream>")
        elif how == "reset":
            self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.close()
        raise Died

    async def _carry(self) -> None:
        self._managed = True
        self._heard.managed += 1
        posting = asyncio.create_task(self._deliver())
        seen = len(self._heard.received)
        try:
            while True:
                self._take(await self._element(None))
                if self._death and self._death.point == "carrying" and len(self._heard.received) - seen >= self._death.stanzas:
                    await self.reach("carrying")
        finally:
            posting.cancel()

    async def _deliver(self) -> None:
        if not self._post or f"@{self._theirs}/" not in self._post.recipient:
            return
        self._posted_before = self._post.acknowledged
        for number in range(self._posted_before, self._post.count):
            origin = f"from='mab@{self._ours}' to='{self._post.recipient}'"
            self.say(f"<message type='chat' {origin} id='p{number:06}'><body>{number}</body></message><r xmlns='{SM}'/>")
            await asyncio.sleep(self._post.every_seconds)

    # --- the two roles ---

    async def accepted(self) -> None:
        """Prosody has dialled us."""
        await self.reach("accepted")
        header = await self._expect(f"{{{STREAMS}}}stream")
        self._theirs = header.get("from", "")
        await self.reach("header")
        mechanisms = f"<mechanisms xmlns='{SASL}'><mechanism>EXTERNAL</mechanism></mechanisms><bidi xmlns='{BIDI}'/>"
        self.say(self._header(f"id='{random.random()}'"))
        self.say(f"<stream:features>{mechanisms}</stream:features>")
        await self.reach("offered")
        await self._expect(f"{{{SASL}}}auth")
        await self.reach("auth")
        self.say(f"<success xmlns='{SASL}'/>")
        self._restart()
        await self.reach("success")
        await self._expect(f"{{{STREAMS}}}stream")
        await self.reach("restart")
        self.say(self._header(f"id='{random.random()}'"))
        await self.reach("answered")
        self.say(f"<stream:features><sm xmlns='{SM}'/></stream:features>")
        await self.reach("features")
        await self._expect(f"{{{SM}}}enable")
        await self.reach("enable")
        self.say(f"<enabled xmlns='{SM}'/>")
        await self.reach("enabled")
        await self._carry()

    async def dialled(self, theirs: str, authenticating: Callable[[], None] = lambda: None) -> None:
        """We have dialled Prosody, for `theirs`, one of its hosts. `authenticating` is called as soon as we have authenticated."""
        self._theirs = theirs
        self.say(self._header(""))
        await self._expect(f"{{{STREAMS}}}stream")
        await self._expect(f"{{{STREAMS}}}features")
        await self.reach("offered")
        name = base64.b64encode(self._ours.encode()).decode()
        self.say(f"<bidi xmlns='urn:xmpp:bidi'/><auth xmlns='{SASL}' mechanism='EXTERNAL'>{name}</auth>")
        await self.reach("auth")
        await self._expect(f"{{{SASL}}}success")
        authenticating()
        self._restart()
        await self.reach("success")
        self.say(self._header(""))
        await self.reach("restart")
        await self._expect(f"{{{STREAMS}}}stream")
        await self._expect(f"{{{STREAMS}}}features")
        await self.reach("features")
        self.say(f"<enable xmlns='{SM}'/>")
        await self.reach("enable")
        await self._expect(f"{{{SM}}}enabled")
        await self.reach("enabled")
        await self._carry()


class ScriptedRelay:
    """What Prosody takes for its relay, for one remote domain. It listens until it is told not to."""

    def __init__(self, domain: str, port: int) -> None:
        self.domain = domain
        self.port = port
        self.heard = Heard()
        self.post: Post | None = None
        self.deaths: list[Death] = []
        """What becomes of the streams that Prosody opens, in their order; those that come later live on."""
        self.failures: list[BaseException] = []
        self._server: asyncio.Server | None = None
        self._streams: set[asyncio.Task] = set()

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, reuse_address=True)

    async def hang_up(self) -> None:
        """Stop listening: who connects is refused."""
        self._server.close()
        await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        death = self.deaths.pop(0) if self.deaths else None
        self._run(writer, Stream(reader, writer, self.heard, death, self.domain, self.post).accepted())

    async def dial(self, port: int, theirs: str, death: Death | None, authenticating: Callable[[], None]) -> None:
        """Open a stream to Prosody; returns when it has ended."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await self._run(writer, Stream(reader, writer, self.heard, death, self.domain, self.post).dialled(theirs, authenticating))

    def _run(self, writer: asyncio.StreamWriter, stream: Awaitable[None]) -> asyncio.Task:
        task = asyncio.create_task(self._until_death(writer, stream))
        self._streams.add(task)
        task.add_done_callback(self._streams.discard)
        return task

    async def _until_death(self, writer: asyncio.StreamWriter, stream: Awaitable[None]) -> None:
        try:
            await stream
        except (Died, ConnectionError):
            pass
        except Exception as error:  # told by whoever looks at what happened
            self.failures.append(error)
        finally:
            writer.close()

    async def close(self) -> None:
        for task in list(self._streams):
            task.cancel()
        await asyncio.gather(*self._streams, return_exceptions=True)
