"""An external component (XEP-0114) with a real library (slixmpp), behind a relay."""

from __future__ import annotations

import asyncio

import slixmpp
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import MatchXPath

from client import PATIENCE_SECONDS, Inbox


class Component(slixmpp.ComponentXMPP):
    """A bot that answers every message with its body and the address that it was sent to."""

    def __init__(self, domain: str, secret: str, port: int) -> None:
        super().__init__(domain, secret, "127.0.0.1", port)
        self.use_ipv6 = False
        self.whitespace_keepalive = False
        for plugin in ("xep_0030", "xep_0199"):
            self.register_plugin(plugin)
        self["xep_0030"].add_identity(category="gateway", itype="irc", name="Friar Laurence")
        self.messages = Inbox(domain)
        self.presences = Inbox(domain)
        self.ended: asyncio.Future = asyncio.get_running_loop().create_future()
        self.register_handler(Callback("inbox", MatchXPath("{jabber:component:accept}message"), self._hear))
        self.register_handler(Callback("presences", MatchXPath("{jabber:component:accept}presence"), self.presences.put))
        self.add_event_handler("stream_error", lambda error: self.ended.done() or self.ended.set_result(error["condition"]))

    def _hear(self, message: slixmpp.Message) -> None:
        self.messages.put(message)
        if message["type"] != "error" and message["body"]:
            self.send_message(mto=message["from"], mfrom=message["to"], mtype=message["type"], mbody=f"{message['to']}: {message['body']}")

    async def come(self) -> Component:
        """Connect and prove ourselves."""
        arrived = asyncio.get_running_loop().create_future()
        self.add_event_handler("session_start", lambda _: arrived.done() or arrived.set_result(None), disposable=True)
        self.connect()
        try:
            await asyncio.wait_for(arrived, PATIENCE_SECONDS)
        except TimeoutError:
            raise AssertionError(f"{self.boundjid} was not accepted within {PATIENCE_SECONDS} s") from None
        return self

    async def is_sent_away(self) -> str:
        """Connect and be refused: the condition of the stream error."""
        self.connect()
        return await asyncio.wait_for(self.ended, PATIENCE_SECONDS)

    async def leave(self) -> None:
        """Close the stream, and come no more."""
        if self.is_connected():
            await self.disconnect()
        self.cancel_connection_attempt()
        if self._run_out_filters is not None:
            self._run_out_filters.cancel()
            await asyncio.gather(self._run_out_filters, return_exceptions=True)
