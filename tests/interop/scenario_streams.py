"""How it all travelled. Played last: it looks at what the other scenarios have left in logs, counters and the capture."""

from __future__ import annotations

import asyncio

from metrics import Metrics, promtool_complaints
from play import Cast, Skip, scenario
from processes import POLL_SECONDS

# Longer than what a relay that cannot pass it on, because a component has left, has unacknowledged (limits.ack_hold).
SETTLE_SECONDS = 30
# By scenario_components: a second connection, and a wrong secret.
PROVOKED_REFUSALS = {"component-connected", "component-secret-wrong"}


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


async def both_metrics(cast: Cast) -> tuple[Metrics, Metrics]:
    """A scrape of each relay."""
    if cast.stage.is_direct:
        raise Skip("no relays here")
    return await cast.stage.a.metrics(), await cast.stage.b.metrics()


@scenario
async def pairs_have_streams_of_their_own(cast: Cast) -> None:
    """One authenticated session; in it a QUIC stream for a.test and b.test, and one more for each room service."""
    await both_metrics(cast)
    await use_every_domain_pair(cast)
    for metrics in await both_metrics(cast):
        assert metrics.total("fedmux_sessions") == 1, f"{metrics.total('fedmux_sessions'):g} sessions"
        for metric in ("fedmux_domain_pairs", "fedmux_lanes", "fedmux_quic_streams_opened_total"):
            assert metrics.total(metric) >= 3, f"{metric} is {metrics.total(metric):g} where three pairs talked"


@scenario
async def every_stanza_is_accounted_for(cast: Cast) -> None:
    """What was accepted was delivered, bounced, discarded or waits; and what one relay gave the other has taken."""
    await both_metrics(cast)
    await use_every_domain_pair(cast)
    deadline = asyncio.get_running_loop().time() + SETTLE_SECONDS
    # The last acknowledgements are on their way.
    while difference := imbalance(*await both_metrics(cast)):
        assert asyncio.get_running_loop().time() < deadline, difference
        await asyncio.sleep(POLL_SECONDS)


def imbalance(a: Metrics, b: Metrics) -> str | None:
    """Which equation doesn't hold."""
    for letter, metrics in (("a", a), ("b", b)):
        accepted = metrics.total("fedmux_stanzas_accepted_total")
        delivered = metrics.total("fedmux_stanzas_delivered_total")
        bounced, discarded = metrics.sum("fedmux_stanzas_bounced_total"), metrics.sum("fedmux_stanzas_discarded_total")
        waiting = metrics.total("fedmux_queued_stanzas")
        if accepted != delivered + bounced + discarded + waiting:
            return (
                f"relay {letter}: {accepted:g} accepted, but {delivered:g} delivered, {bounced:g} bounced, "
                f"{discarded:g} discarded and {waiting:g} waiting"
            )
    for giver, taker, way in ((a, b, "a to b"), (b, a, "b to a")):
        given = giver.total("fedmux_stanzas_delivered_total", side="remote")
        taken = taker.total("fedmux_stanzas_accepted_total", side="remote")
        if given != taken:
            return f"{way}: {given:g} given, {taken:g} taken"
    return None


@scenario
async def relays_did_nothing_they_should_not(cast: Cast) -> None:
    """No task failed, no stream was refused that should not be, and Prometheus's own tool likes the metrics."""
    for metrics in await both_metrics(cast):
        assert metrics.total("fedmux_tasks_failed_total") == 0, "a task ended by a panic"
        refused = {labels["reason"] for labels, value in metrics.samples("fedmux_refusals_total") if value} - PROVOKED_REFUSALS
        assert not refused, f"refused for {refused}"
        complaints = await promtool_complaints(metrics)
        assert not complaints, f"promtool check metrics: {complaints}"


@scenario
async def all_of_it_went_over_one_quic_connection(cast: Cast) -> None:
    """One path, one handshake in the capture; one connection opened in the counters of each relay."""
    await both_metrics(cast)
    await use_every_domain_pair(cast)
    for metrics in await both_metrics(cast):
        opened = metrics.total("fedmux_connections_opened_total")
        assert opened == 1, f"{opened:g} connections opened"
        assert metrics.total("fedmux_connections", transport="quic") == 1, "the connection is gone"
    if not cast.stage.capture:
        raise Skip("the counters say so; tcpdump is not installed or may not capture here")
    seen = await cast.stage.capture.finish()
    assert len(seen.paths) == 1, f"datagrams went along {len(seen.paths)} paths: {seen.paths}"
    assert len(seen.connections) == 1, f"{len(seen.connections)} handshakes in {seen.datagrams} datagrams"
