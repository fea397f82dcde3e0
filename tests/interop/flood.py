"""Numbered stanzas at a steady rate, and what comes back of them: a client of a Prosody, or a component of it, in a few lines, because
hundreds of stanzas a second are a lot for a client library.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import time

FEATURES_END = b"</stream:features>"
TOKEN = re.compile(rb"<(?:message|iq|presence)\b([^>]*)>|<(delay)\b")
PATIENCE_SECONDS = 20


class Flood:
    """A sender. `go` opens the gate."""

    def __init__(self, sender: str, recipient: str, label: str) -> None:
        """`label` begins the id of each of its stanzas."""
        self.sender = sender
        self.recipient = recipient
        self.label = label
        self.sent = 0
        self.errors: list[str] = []
        """The ids of stanzas that came back."""
        self.came: list[str] = []
        """The ids of those that others sent us."""
        self.late: list[bool] = []
        """Whether each of these says that it is late (XEP-0203)."""
        self._in_error = True
        self.go = asyncio.Event()
        self._tasks: list[asyncio.Task] = []

    async def log_in(self, port: int, password: str) -> None:
        """As a client."""
        user, _, host = self.sender.partition("@")
        opening = f"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='{host}' version='1.0'>"
        await self._connect(port)
        await self._exchange(opening, FEATURES_END)
        name = base64.b64encode(f"\0{user}\0{password}".encode()).decode()
        await self._exchange(f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{name}</auth>", b"<success")
        await self._exchange(opening, FEATURES_END)
        bind = "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>flood</resource></bind>"
        await self._exchange(f"<iq type='set' id='bind'>{bind}</iq>", b"</iq>")
        self._begin("")

    async def join(self, port: int, secret: str) -> None:
        """As a component, which the sender is."""
        await self._connect(port)
        opening = f"<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' to='{self.sender}'>"
        header = await self._exchange(opening, b">")
        if b"<stream:stream" not in header:
            header = await self._exchange("", b">")
        stream_id = re.search(rb"id='([^']+)'", header)[1].decode()
        digest = hashlib.sha1(f"{stream_id}{secret}".encode()).hexdigest()
        await self._exchange(f"<handshake>{digest}</handshake>", b"<handshake/>")
        self._begin(f" from='{self.sender}'")

    async def _connect(self, port: int) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", port)

    async def _exchange(self, text: str, until: bytes) -> bytes:
        self._writer.write(text.encode())
        return await asyncio.wait_for(self._reader.readuntil(until), PATIENCE_SECONDS)

    def _begin(self, origin: str) -> None:
        self._origin = origin
        self._tasks = [asyncio.create_task(self._listen())]

    def name(self, number: int) -> str:
        return f"{self.label}{number:06}"

    def send(self) -> None:
        """One stanza: every tenth is an IQ request."""
        attributes = f"{self._origin} to='{self.recipient}' id='{self.name(self.sent)}'"
        if self.sent % 10 == 9:
            stanza = f"<iq type='get'{attributes}><ping xmlns='urn:xmpp:ping'/></iq>"
        else:
            stanza = f"<message type='chat'{attributes}><body>{self.sent} &amp; so on</body></message>"
        self._writer.write(stanza.encode())
        self.sent += 1

    def start(self, rate: float) -> None:
        """From now on send so many a second while the gate is open."""
        self._tasks.append(asyncio.create_task(self._flow(rate)))

    async def _flow(self, rate: float) -> None:
        started, due = time.monotonic(), 0
        while True:
            if not self.go.is_set():
                await self.go.wait()
                started, due = time.monotonic(), 0
            while due < (time.monotonic() - started) * rate:
                self.send()
                due += 1
            await self._writer.drain()
            await asyncio.sleep(1 / rate)

    async def _listen(self) -> None:
        rest = b""
        while octets := await self._reader.read(65536):
            whole, end, last = (rest + octets).rpartition(b">")
            for attributes, delay in TOKEN.findall(whole + end):
                if delay:
                    self._is_late()
                else:
                    self._note(attributes)
            rest = last

    def _note(self, attributes: bytes) -> None:
        name = re.search(rb"\bid='([^']+)'", attributes)
        self._in_error = b"type='error'" in attributes or not name
        if name and self._in_error:
            self.errors.append(name[1].decode())
        elif name:
            self.came.append(name[1].decode())
            self.late.append(False)

    def _is_late(self) -> None:
        if not self._in_error:
            self.late[-1] = True

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._writer.close()
