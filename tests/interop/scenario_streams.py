"""How it all travelled. Played last: it looks at what the other scenarios have left in logs, counters and the capture."""

from __future__ import annotations

from play import Cast, scenario


async def use_every_domain_pair(cast: Cast) -> None:
    """Something goes back and forth between each domain of one side and each user domain of the other."""
    romeo = await cast.enter("romeo", cast.stage.a)
    juliet = await cast.enter("juliet", cast.stage.b)
    await romeo.ping(juliet.full_jid)
    await romeo["xep_0030"].get_info("rooms.b.test")
    await juliet["xep_0030"].get_info("rooms.a.test")


@scenario
async def prosody_authenticates_as_its_variant_says(cast: Cast) -> None:
    """With the module EXTERNAL and bidi on every stream, never dialback; without it dialback, never EXTERNAL."""
    await use_every_domain_pair(cast)
    for provider in cast.stage.providers:
        log = provider.prosody_log.read_text(errors="replace")
        external = "Accepting SASL EXTERNAL identity from" in log or "SASL EXTERNAL with" in log
        bidi = "Requesting bidirectional stream" in log or "Requested bidirectional stream" in log
        dialback = "dialback key" in log
        expected = (True, True, False) if cast.stage.variant.has_module else (False, False, True)
        assert (external, bidi, dialback) == expected, f"Prosody {provider.letter}: EXTERNAL {external}, bidi {bidi}, dialback {dialback}"
        assert "Traceback" not in log, f"an error inside Prosody {provider.letter}; see {provider.prosody_log}"
