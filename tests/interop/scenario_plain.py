"""A relay and a plain Prosody, which knows nothing of relays: over TCP, with the certificates of both."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from plain import TRANSPORTS, PlainStage
from play import Cast, Skip, scenario, scenario_for_each

SENTENCES = 50
DIALBACK = "xmlns='jabber:server:dialback'"


@scenario_for_each(TRANSPORTS)
async def plain_prosody_is_a_peer(cast: Cast, transport: str) -> None:
    """Paris of p.test and Mercutio behind a relay talk: EXTERNAL both ways, a connection for each direction, nothing refused."""
    if cast.stage.is_direct or not cast.stage.variant.has_module:
        raise Skip("what is behind the relay makes no difference here")
    plain = PlainStage(cast.stage, transport, "m" if transport == "starttls" else "n")
    log = await play(cast, plain)
    for said in (f"Accepting SASL EXTERNAL identity from {plain.relayed.domain}", f"SASL EXTERNAL with {plain.relayed.domain}"):
        assert said in log, f"Prosody P doesn't say {said!r}; see {plain.plain.prosody_log}"
    assert DIALBACK not in log, f"dialback was used; see {plain.plain.prosody_log}"


@scenario
async def plain_prosody_that_does_not_believe_our_certificate_believes_dialback(cast: Cast) -> None:
    """It asks the relay about the key, over TLS, and hears that it is good."""
    if cast.stage.is_direct or not cast.stage.variant.has_module:
        raise Skip("what is behind the relay makes no difference here")
    plain = PlainStage(cast.stage, "starttls", "o", dialback=True)
    log = await play(cast, plain)
    assert "Accepting SASL EXTERNAL identity from" not in log, f"EXTERNAL was taken; see {plain.plain.prosody_log}"
    assert "<db:verify " in log, f"no dialback; see {plain.plain.prosody_log}"


@scenario
async def plain_prosody_that_knows_dialback_only_hears_what_may_go_out_where_nothing_may_come_in(cast: Cast) -> None:
    """It may ask about the key, once it is believed itself; and what it sends comes back."""
    if cast.stage.is_direct or not cast.stage.variant.has_module:
        raise Skip("what is behind the relay makes no difference here")
    log = await play(cast, PlainStage(cast.stage, "starttls", "k", dialback=True, policy='dialback = "tls"\ndeny_in = ["p.test"]'), one_way)
    assert "<db:verify " in log, "no dialback"


@scenario
async def plain_prosody_that_does_not_believe_our_certificate_is_not_spoken_to_without_dialback(cast: Cast) -> None:
    """It doesn't offer EXTERNAL, and the sender is told so."""
    if cast.stage.is_direct or not cast.stage.variant.has_module:
        raise Skip("what is behind the relay makes no difference here")
    await play(cast, PlainStage(cast.stage, "direct-tls", "l", dialback=True, policy='dialback = "never"'), no_way)


async def one_way(cast: Cast, plain: PlainStage) -> None:
    mercutio = await cast.enter("mercutio", plain.relayed)
    paris = await cast.enter("paris", plain.plain)
    for n in range(SENTENCES):
        mercutio.say(paris.full_jid, f"sentence {n}")
    for n in range(SENTENCES):
        heard = await paris.hears(sender=mercutio.full_jid)
        assert heard["body"] == f"sentence {n}", f"{paris.jid} heard {heard['body']!r} where sentence {n} was due"
    sent = paris.say(mercutio.full_jid, "I will answer it.")
    error = await paris.hears(kind="error", sender=mercutio.full_jid)
    said = error["error"]["text"]
    assert error["id"] == sent["id"] and "policy-denied" in said, f"not policy-denied but {said!r}: {error}"
    mercutio.say(paris.full_jid, "What, wouldst thou have me run?")
    await paris.hears("What, wouldst thou have me run?", sender=mercutio.full_jid)
    assert not mercutio.messages.unread, f"{mercutio.jid} heard {mercutio.messages.unread}"


async def no_way(cast: Cast, plain: PlainStage) -> None:
    mercutio = await cast.enter("mercutio", plain.relayed)
    sent = mercutio.say("paris@p.test", "Consort?")
    error = await mercutio.hears(kind="error", sender="paris@p.test")
    said = error["error"]["text"]
    assert error["id"] == sent["id"] and "external-not-offered" in said, f"not external-not-offered but {said!r}"


async def play(cast: Cast, plain: PlainStage, act: Callable[[Cast, PlainStage], Awaitable[None]] | None = None) -> str:
    """Set the stage, let the two talk, or act, and strike it. What Prosody P has logged."""
    try:
        await plain.set()
        await (act or talk)(cast, plain)
        await cast.leave()
        await plain.strike()
    finally:
        plain.kill()
    log = plain.plain.prosody_log.read_text(errors="replace")
    assert "Traceback" not in log, f"an error inside Prosody P; see {plain.plain.prosody_log}"
    return log


async def talk(cast: Cast, plain: PlainStage) -> None:
    mercutio = await cast.enter("mercutio", plain.relayed)
    paris = await cast.enter("paris", plain.plain)
    for speaker, listener in ((mercutio, paris), (paris, mercutio)):
        for n in range(SENTENCES):
            speaker.say(listener.full_jid, f"sentence {n}")
        for n in range(SENTENCES):
            heard = await listener.hears(sender=speaker.full_jid)
            # What isn't there may have come back to its sender, with the reason in it.
            assert heard["body"] == f"sentence {n}", (
                f"{listener.jid} heard {heard['body']!r} where sentence {n} was due; {speaker.jid} heard {speaker.messages.unread}"
            )
    await mercutio.ping(paris.full_jid)
    await paris.ping(mercutio.full_jid)

    metrics = await plain.metrics()
    for direction in ("inbound", "outbound"):
        opened = metrics.total("fedmux_connections_opened_total", transport=plain.transport, direction=direction)
        # Prosody asks about a dialback key on the stream that then carries its own stanzas.
        assert opened == 1, f"{opened:g} connections {direction}"
    refused = {labels["reason"] for labels, value in metrics.samples("fedmux_refusals_total") if value}
    assert not refused, f"refused for {refused}"
