"""How it all travelled. Played last: it looks at what the other scenarios have left in the logs and counters."""

from __future__ import annotations

from play import Cast, scenario


@scenario
async def prosody_authenticates_as_its_variant_says(cast: Cast) -> None:
    """With the module EXTERNAL and bidi on every stream, never dialback; without it dialback, never EXTERNAL."""
    romeo = await cast.enter("romeo", cast.stage.a)
    juliet = await cast.enter("juliet", cast.stage.b)
    await romeo.ping(juliet.full_jid)
    await juliet["xep_0030"].get_info("rooms.a.test")
    await romeo["xep_0030"].get_info("rooms.b.test")

    for provider in cast.stage.providers:
        log = provider.prosody_log.read_text(errors="replace")
        external = "Accepting SASL EXTERNAL identity from" in log or "SASL EXTERNAL with" in log
        bidi = "Requesting bidirectional stream" in log or "Requested bidirectional stream" in log
        dialback = "dialback key" in log
        expected = (True, True, False) if cast.stage.variant.has_module else (False, False, True)
        assert (external, bidi, dialback) == expected, f"Prosody {provider.letter}: EXTERNAL {external}, bidi {bidi}, dialback {dialback}"
        assert "Traceback" not in log, f"an error inside Prosody {provider.letter}; see {provider.prosody_log}"
