"""A relay and a plain Prosody, which knows nothing of relays: over TCP, with the certificates of both."""

from __future__ import annotations

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


async def play(cast: Cast, plain: PlainStage) -> str:
    """Set the stage, let the two talk, and strike it. What Prosody P has logged."""
    try:
        await plain.set()
        await talk(cast, plain)
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
            assert heard["body"] == f"sentence {n}", f"{listener.jid} heard {heard['body']!r} where sentence {n} was due"
    await mercutio.ping(paris.full_jid)
    await paris.ping(mercutio.full_jid)

    metrics = await plain.metrics()
    for direction in ("inbound", "outbound"):
        opened = metrics.total("fedmux_connections_opened_total", transport=plain.transport, direction=direction)
        # Prosody asks about a dialback key on the stream that then carries its own stanzas.
        assert opened == 1, f"{opened:g} connections {direction}"
    refused = {labels["reason"] for labels, value in metrics.samples("fedmux_refusals_total") if value}
    assert not refused, f"refused for {refused}"
