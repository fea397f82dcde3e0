"""A user with a real client (slixmpp), whose senses can be awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from xml.etree import ElementTree as ET

import slixmpp
from slixmpp.exceptions import IqError, IqTimeout
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import MatchXPath

PATIENCE_SECONDS = 15


class Inbox:
    """What came and nobody has looked at yet, in order."""

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.unread: list = []
        self._waiting: list[tuple[Callable[..., bool], asyncio.Future]] = []

    def put(self, stanza) -> None:
        for entry in self._waiting:
            wanted, future = entry
            if not future.done() and wanted(stanza):
                future.set_result(stanza)
                return
        self.unread.append(stanza)

    async def take(self, what: str, wanted: Callable[..., bool], seconds: float = PATIENCE_SECONDS):
        """The first stanza that is wanted, already here or still to come. Later ones stay."""
        for position, stanza in enumerate(self.unread):
            if wanted(stanza):
                return self.unread.pop(position)
        entry = (wanted, asyncio.get_running_loop().create_future())
        self._waiting.append(entry)
        try:
            return await asyncio.wait_for(entry[1], seconds)
        except TimeoutError:
            came = "".join(f"\n    {str(stanza)[:300]}" for stanza in self.unread[-10:]) or " nothing"
            raise AssertionError(f"{self.owner} waited {seconds:g} s for {what}; unread:{came}") from None
        finally:
            self._waiting.remove(entry)


class User(slixmpp.ClientXMPP):
    """Someone with an account, seen from their own client."""

    def __init__(self, jid: str, password: str, port: int) -> None:
        super().__init__(f"{jid}/{jid.partition('@')[0]}-client", password, sasl_mech="PLAIN")
        self._port = port
        self.enable_direct_tls = self.enable_starttls = False
        self.enable_plaintext = True
        self.use_ipv6 = False
        self.whitespace_keepalive = False
        self["feature_mechanisms"].unencrypted_plain = True
        # Nobody answers a subscription request unless the play says so.
        self.auto_authorize = None
        self.auto_subscribe = False
        for plugin in ("xep_0030", "xep_0045", "xep_0054", "xep_0199", "xep_0203"):
            self.register_plugin(plugin)
        self.messages = Inbox(jid)
        self.presences = Inbox(jid)
        for name, inbox in (("message", self.messages), ("presence", self.presences)):
            self.register_handler(Callback(f"inbox {name}", MatchXPath(f"{{jabber:client}}{name}"), inbox.put))

    @property
    def jid(self) -> str:
        return self.boundjid.bare

    @property
    def full_jid(self) -> str:
        return self.boundjid.full

    # --- coming and going ---

    async def log_in(self, *, present: bool = True) -> User:
        """Connect and authenticate; then say that we are here, unless `present` is false."""
        arrived = asyncio.get_running_loop().create_future()
        self.add_event_handler("session_start", lambda _: arrived.done() or arrived.set_result(None), disposable=True)
        self.add_event_handler("failed_auth", lambda _: arrived.done() or arrived.set_exception(AssertionError(f"{self.jid} can't log in")))
        self.connect("127.0.0.1", self._port)
        try:
            await asyncio.wait_for(arrived, PATIENCE_SECONDS)
        except TimeoutError:
            raise AssertionError(f"{self.jid} could not log in within {PATIENCE_SECONDS} s") from None
        await self.get_roster()
        if present:
            self.send_presence()
            await self.sees(self.full_jid)
        return self

    async def log_out(self) -> None:
        """Close the stream; our server tells the others that we left."""
        if self.is_connected():
            await self.disconnect()
        # slixmpp leaves its sending task running, for a reconnection; asyncio would report it as lost.
        if self._run_out_filters is not None:
            self._run_out_filters.cancel()
            await asyncio.gather(self._run_out_filters, return_exceptions=True)

    # --- messages ---

    def say(self, to: str, body: str, *, kind: str = "chat", id: str | None = None) -> slixmpp.Message:
        """Send a message. Returns it, with its id."""
        message = self.make_message(mto=to, mbody=body, mtype=kind)
        message["id"] = id or self.new_id()
        message.send()
        return message

    async def hears(self, body: str | None = None, *, sender: str | None = None, kind: str | None = None, seconds: float = PATIENCE_SECONDS) -> slixmpp.Message:
        """Wait for a message with this body, from this sender (bare JIDs match any resource), of this type."""

        def wanted(message: slixmpp.Message) -> bool:
            return (
                (body is None or message["body"] == body)
                and (sender is None or sender in (message["from"].full, message["from"].bare))
                and (kind is None or message["type"] == kind)
            )

        shown = body if body is None or len(body) < 80 else f"{body[:40]}... ({len(body)} characters)"
        return await self.messages.take(f"a message (body={shown!r}, sender={sender}, kind={kind})", wanted, seconds)

    async def hears_subject(self, subject: str, room: str) -> slixmpp.Message:
        """Wait until a room's subject is this one."""
        return await self.messages.take(
            f"the subject {subject!r} of {room}",
            lambda m: m["type"] == "groupchat" and m["from"].bare == room and m["subject"] == subject and m.xml.find("{jabber:client}subject") is not None,
        )

    # --- presence ---

    async def sees(self, sender: str, kind: str = "available", where: Callable[[slixmpp.Presence], bool] = lambda _: True) -> slixmpp.Presence:
        """Wait for presence from `sender` (a bare JID matches any resource) of this type ("available": no type)."""
        return await self.presences.take(
            f"{kind} presence from {sender}",
            lambda p: sender in (p["from"].full, p["from"].bare) and (p._get_attr("type") or "available") == kind and where(p),
        )

    # --- questions ---

    async def asks(self, to: str, payload: ET.Element, kind: str = "get") -> slixmpp.Iq:
        """Send an IQ and wait for its result. An error raises `IqError`."""
        iq = self.make_iq(ito=to, itype=kind)
        iq.append(payload)
        return await iq.send(timeout=PATIENCE_SECONDS)

    async def is_refused(self, to: str, payload: ET.Element, *conditions: str, kind: str = "get") -> IqError:
        """Send an IQ that must be answered with an error, with one of these conditions, from where it was sent to."""
        try:
            reply = await self.asks(to, payload, kind)
        except IqTimeout:
            raise AssertionError(f"{self.jid} had no answer from {to} in {PATIENCE_SECONDS} s") from None
        except IqError as error:
            assert error.condition in conditions, f"{to} refused with {error.condition}, not {' or '.join(conditions)}: {error.iq}"
            assert error.iq["from"].full == to, f"the error for {to} came from {error.iq['from']}"
            return error
        raise AssertionError(f"{to} answered instead of refusing: {reply}")

    async def ping(self, to: str) -> None:
        """XEP-0199."""
        await self.asks(to, ET.Element("{urn:xmpp:ping}ping"))

    async def has_heard_everything_from(self, other: User) -> None:
        """Fail if anything is left unread from `other`'s domain. An answered ping pushes out what was still on its way."""
        await self.ping(other.full_jid)
        left = [stanza for inbox in (self.messages, self.presences) for stanza in inbox.unread if stanza["from"].domain == other.boundjid.domain]
        assert not left, f"{self.jid} received what nobody expected: " + "; ".join(str(stanza)[:300] for stanza in left)
