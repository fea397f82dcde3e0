"""mod_fedmux, looked at from the relay's side of its streams: here the test itself takes the relay's part."""

from __future__ import annotations

import asyncio
import base64
import time

from client import User
from play import Cast, Skip, scenario

# A remote domain that nobody else speaks for.
REMOTE = "dream.test"
HEADER = (
    "<?xml version='1.0'?><stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' "
    f"from='{REMOTE}' to='a.test' version='1.0'>"
)
AUTHENTICATE = (
    "<bidi xmlns='urn:xmpp:bidi'/><auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>"
    f"{base64.b64encode(REMOTE.encode()).decode()}</auth>"
)
ANSWER = (
    "<?xml version='1.0'?><stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' "
    f"from='{REMOTE}' to='c.test' id='{{id}}' version='1.0'>"
)
EXTERNAL_OFFERED = (
    "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>EXTERNAL</mechanism></mechanisms>"
    "<bidi xmlns='urn:xmpp:features:bidi'/></stream:features>"
)
MANAGEMENT_OFFERED = "<stream:features><sm xmlns='urn:xmpp:sm:3'/></stream:features>"
FEATURES_END = "</stream:features>"


class RawStream:
    """A stream of octets to or from a Prosody."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, cast: Cast, source: str = "127.0.0.1") -> RawStream:
        if not cast.stage.variant.has_module:
            raise Skip("no module here")
        return cls(*await asyncio.open_connection("127.0.0.1", cast.stage.a.ports.s2s, local_addr=(source, 0)))

    async def exchange(self, sent: str, until: str) -> str:
        """Send, and read up to and with `until`, or to the end."""
        self._writer.write(sent.encode())
        try:
            return (await asyncio.wait_for(self._reader.readuntil(until.encode()), 10)).decode()
        except asyncio.IncompleteReadError as ended:
            return ended.partial.decode()

    def close(self) -> None:
        self._writer.close()


@scenario
async def module_trusts_the_relays_address_alone(cast: Cast) -> None:
    """From the relay's address a stream is offered EXTERNAL; from another one of this machine it isn't."""
    for source, trusted in (("127.0.0.1", True), ("127.0.0.9", False)):
        stream = await RawStream.open(cast, source)
        answer = await stream.exchange(HEADER, FEATURES_END)
        stream.close()
        assert answer.startswith("<?xml"), f"{source} was answered {answer!r}"
        assert ("EXTERNAL" in answer) == trusted, f"{source} was answered {answer!r}"
        assert not (trusted and "starttls" in answer), f"the relay is asked for TLS: {answer!r}"


async def stream_with_three_held_messages(cast: Cast, romeo: User) -> RawStream:
    """A stream that has authenticated and not yet restarted; meanwhile Romeo has dreamt three times."""
    stream = await RawStream.open(cast)
    assert "EXTERNAL" in await stream.exchange(HEADER, FEATURES_END)
    assert "<success" in await stream.exchange(AUTHENTICATE, "/>")
    for number in range(3):
        romeo.say(f"mab@{REMOTE}", f"dream {number}")
    # Prosody handles what a client sends in order: after the answer it has handled the messages too.
    await romeo.ping("a.test")
    return stream


def is_in_order(text: str, *words: str) -> bool:
    """Whether all of these stand in `text`, in this order."""
    places = [text.find(word) for word in words]
    return -1 not in places and places == sorted(places)


@scenario
async def module_holds_stanzas_until_stream_management_covers_them(cast: Cast) -> None:
    """What is sent between <success/> and the restart follows after <enabled/>, in order."""
    romeo = await cast.enter("romeo", cast.stage.a)
    stream = await stream_with_three_held_messages(cast, romeo)
    restart = await stream.exchange(HEADER, FEATURES_END)
    assert restart.startswith("<?xml") and "<message" not in restart, f"too early: {restart!r}"
    answer = await stream.exchange("<enable xmlns='urn:xmpp:sm:3'/>", "dream 2</body></message>")
    assert is_in_order(answer, "<enabled", "<message", "dream 0", "dream 1", "dream 2"), f"not so: {answer!r}"
    stream.close()
    # Nobody acknowledged them: stream management bounces them, which shows that it covered them.
    for _ in range(3):
        await romeo.hears(sender=f"mab@{REMOTE}", kind="error")


@scenario
async def module_lets_stanzas_go_to_a_relay_without_stream_management(cast: Cast) -> None:
    """As soon as it sends something else than <enable/>."""
    romeo = await cast.enter("romeo", cast.stage.a)
    stream = await stream_with_three_held_messages(cast, romeo)
    restart = await stream.exchange(HEADER, FEATURES_END)
    assert restart.startswith("<?xml") and "<message" not in restart, f"too early: {restart!r}"
    ping = f"<iq type='get' id='mab-1' from='{REMOTE}' to='a.test'><ping xmlns='urn:xmpp:ping'/></iq>"
    started = time.monotonic()
    answer = await stream.exchange(ping, "mab-1")
    assert is_in_order(answer, "dream 0", "dream 1", "dream 2", "mab-1"), f"not so: {answer!r}"
    assert time.monotonic() - started < 1, "only after a time-out"
    stream.close()


@scenario
async def module_bounces_what_it_holds_when_the_stream_ends(cast: Cast) -> None:
    """A relay that dies between <success/> and the restart leaves no message without an answer."""
    romeo = await cast.enter("romeo", cast.stage.a)
    stream = await RawStream.open(cast)
    await stream.exchange(HEADER, FEATURES_END)
    assert "<success" in await stream.exchange(AUTHENTICATE, "/>")
    romeo.say(f"mab@{REMOTE}", "lost?")
    await romeo.ping("a.test")
    stream.close()
    error = await romeo.hears(sender=f"mab@{REMOTE}", kind="error")
    assert error["error"]["condition"] == "remote-server-timeout", f"another error: {error}"


@scenario
async def module_lets_no_stanza_overtake_another(cast: Cast) -> None:
    """What is sent between <success/> and <features/> follows what was waiting, and stream management covers both."""
    if not cast.stage.variant.has_module:
        raise Skip("no module here")
    streams: asyncio.Queue[RawStream] = asyncio.Queue()
    relay = await asyncio.start_server(lambda *stream: streams.put_nowait(RawStream(*stream)), "127.0.0.1", 0)
    async with relay:
        provider = await cast.stage.add_provider("c", next_hop=relay.sockets[0].getsockname()[1])
        mercutio = await cast.enter("mercutio", provider)
        mercutio.say(f"mab@{REMOTE}", "dream 0")
        stream = await asyncio.wait_for(streams.get(), 10)
        await stream.exchange("", "<stream:stream")
        await stream.exchange(ANSWER.format(id=1) + EXTERNAL_OFFERED, "</auth>")
        await stream.exchange("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>", "<stream:stream")
        mercutio.say(f"mab@{REMOTE}", "dream 1")
        await mercutio.ping("c.test")
        answer = await stream.exchange(ANSWER.format(id=2) + MANAGEMENT_OFFERED, "dream 1</body></message>")
        stream.close()
        await mercutio.log_out()
        await provider.prosody.stop()
    assert is_in_order(answer, "<enable", "dream 0", "dream 1"), f"not so: {answer!r}"
