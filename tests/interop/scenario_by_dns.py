"""Four providers who find each other by DNS: Prosody X and ejabberd Y behind a relay each, Prosody P and ejabberd E without one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from slixmpp.exceptions import IqError

import network
from client import User
from metrics import promtool_complaints
from play import SCENARIOS, Cast, Scenario, Skip, scenario_in
from processes import POLL_SECONDS, until
from scenario_components import friar
from scenario_rooms import join, open_room, talk_in_a_room
from stage import Provider, Scenery

SENTENCES = 50
SETTLE_SECONDS = 20
# Of two the first is a provider behind a relay. "direct" of Prosody P and "tls" of ejabberd E are reached by Direct TLS alone, and "old" has
# no SRV record: those three have no rooms.
PAIRS = (("x", "p"), ("x", "direct"), ("x", "e"), ("x", "tls"), ("x", "old"), ("y", "p"), ("y", "e"), ("y", "tls"), ("y", "old"), ("x", "y"))
WITHOUT_ROOMS = {"direct", "tls", "old"}


def scenario_for_pairs(pairs: list[tuple[str, str]]) -> Callable[[Callable[[Cast, Provider, Provider], Awaitable[None]]], None]:
    """Put a coroutine on the programme once for each of these pairs of providers."""

    def put(play: Callable[[Cast, Provider, Provider], Awaitable[None]]) -> None:
        for one, other in pairs:

            async def at(cast: Cast, one: str = one, other: str = other) -> None:
                if "old" in (one, other) and not network.is_ours():
                    raise Skip("only as root: port 5269 needs a network of our own")
                await play(cast, getattr(cast.stage, one), getattr(cast.stage, other))

            SCENARIOS.append(Scenario(f"{play.__name__}_{one}_{other}", at, Scenery.BY_DNS))

    return put


@scenario_for_pairs(list(PAIRS))
async def users_talk(cast: Cast, one: Provider, other: Provider) -> None:
    """Both ways, in order, nothing twice."""
    romeo = await cast.enter("romeo", one)
    juliet = await cast.enter("juliet", other)
    for speaker, listener in ((romeo, juliet), (juliet, romeo)):
        for n in range(SENTENCES):
            speaker.say(listener.full_jid, f"sentence {n}")
        for n in range(SENTENCES):
            heard = await listener.hears(sender=speaker.full_jid)
            assert heard["body"] == f"sentence {n}", f"{listener.jid} heard {heard['body']!r} where sentence {n} was due"
    await romeo.has_heard_everything_from(juliet)
    await juliet.has_heard_everything_from(romeo)


@scenario_for_pairs([(one, other) for pair in PAIRS if not WITHOUT_ROOMS & {*pair} for one, other in (pair, pair[::-1])])
async def users_meet_in_a_room(cast: Cast, home: Provider, abroad: Provider) -> None:
    """A room of the first provider, a guest from the second; who leaves is seen to leave, and may come back."""
    owner, guest, room = await open_room(cast, home, f"ball-{abroad.letter}", abroad)
    await talk_in_a_room(owner, guest, room)
    guest.send_presence(pto=f"{room}/guest", ptype="unavailable")
    await owner.sees(f"{room}/guest", "unavailable")
    await guest.sees(f"{room}/guest", "unavailable")
    await join(guest, room, "guest")
    await owner.sees(f"{room}/guest")
    await guest.log_out()
    await owner.sees(f"{room}/guest", "unavailable")


@scenario_for_pairs([(one, other) for pair in PAIRS for one, other in (pair, pair[::-1])])
async def nobody_is_reported(cast: Cast, one: Provider, other: Provider) -> None:
    """What is for a user or a room that isn't there comes back as the other server's own error."""
    romeo = await cast.enter("romeo", one)
    sent = romeo.say(f"nobody@{other.domain}", "Wherefore art thou?")
    error = await romeo.hears(kind="error", sender=f"nobody@{other.domain}")
    assert (error["id"], error["error"]["condition"]) == (sent["id"], "service-unavailable"), f"another error: {error}"
    if other.letter not in WITHOUT_ROOMS:
        sent = romeo.say(f"nowhere@{other.rooms}", "Is anybody here?", kind="groupchat")
        error = await romeo.hears(kind="error", sender=f"nowhere@{other.rooms}")
        assert error["id"] == sent["id"], f"another error: {error}"
        assert error["error"]["condition"] in ("item-not-found", "not-acceptable"), f"another error: {error}"


@scenario_in(Scenery.BY_DNS)
async def domain_that_does_not_exist_is_reported(cast: Cast) -> None:
    """By the server or the relay of whoever writes to it."""
    for provider in (cast.stage.x, cast.stage.y):
        romeo = await cast.enter("romeo", provider)
        romeo.say("juliet@nowhere.test", "Wherefore art thou?")
        error = await romeo.hears(kind="error", sender="juliet@nowhere.test")
        assert error["error"]["condition"] == "remote-server-not-found", f"another error: {error}"


@scenario_in(Scenery.BY_DNS)
async def component_is_reached_from_everywhere(cast: Cast) -> None:
    """A component behind relay X, from the users of all four servers; and it reaches them."""
    async with friar(cast, provider=cast.stage.x) as component:
        await component.come()
        for provider in cast.stage.providers:
            user = await cast.enter("balthasar", provider)
            address = f"cell@{component.boundjid.bare}"
            user.say(address, "Holy friar, ho!")
            await user.hears(f"{address}: Holy friar, ho!", sender=address)
            await user.ping(component.boundjid.bare)
            await component["xep_0199"].send_ping(user.boundjid, ifrom=component.boundjid.bare)


@scenario_in(Scenery.BY_DNS)
async def everybody_was_proven_as_their_certificate_allows(cast: Cast) -> None:
    """EXTERNAL wherever the server takes the certificate, dialback where ejabberd E refuses one that says serverAuth alone; and
    dialback between the servers behind the relays and these."""
    stage = cast.stage
    p, e, y, x = (provider.server_log.read_text(errors="replace") for provider in (stage.p, stage.e, stage.y, stage.x))
    for domain in (stage.x.domain, stage.y.domain):
        assert f"Accepting SASL EXTERNAL identity from {domain}" in p, f"Prosody P didn't believe {domain}'s certificate"
        assert f"SASL EXTERNAL with {domain}" in p, f"Prosody P didn't show {domain} a certificate"
    for proven in (
        f"Accepted inbound s2s EXTERNAL authentication {stage.x.domain} -> {stage.e.domain}",
        f"Accepted outbound s2s EXTERNAL authentication {stage.e.domain} -> {stage.x.domain}",
        f"Accepted inbound s2s dialback authentication {stage.y.domain} -> {stage.e.domain}",
        f"Accepted outbound s2s EXTERNAL authentication {stage.e.domain} -> {stage.y.domain}",
    ):
        assert proven in e, f"ejabberd E doesn't say {proven!r}"
    for proven in (
        f"Accepted outbound s2s dialback authentication {stage.y.domain} -> {stage.x.domain}",
        f"Accepted inbound s2s dialback authentication {stage.x.domain} -> {stage.y.domain}",
    ):
        assert proven in y, f"ejabberd Y doesn't say {proven!r}"
    assert "dialback key" in x and "EXTERNAL" not in x, "Prosody X and its relay don't use dialback"
    assert "Traceback" not in p + x, "an error inside a Prosody"


@scenario_in(Scenery.BY_DNS)
async def relays_found_each_other_and_share_one_quic_session(cast: Cast) -> None:
    """However many of their domains talk: one connection. Those without QUIC were met by what their own records offer."""
    for relay in (cast.stage.x, cast.stage.y):
        metrics = await relay.metrics()
        opened = metrics.total("fedmux_connections_opened_total", transport="quic")
        assert opened == 1, f"relay {relay.letter}: {opened:g} QUIC connections opened"
        assert metrics.total("fedmux_lanes") >= 3, f"{metrics.total('fedmux_lanes'):g} streams where three pairs talked"
    x, y = await cast.stage.x.metrics(), await cast.stage.y.metrics()
    for who, metrics, transport, direction in (
        ("x to p", x, "starttls", "outbound"),
        ("x to direct", x, "direct-tls", "outbound"),
        ("e to x", x, "starttls", "inbound"),
        ("p to y", y, "direct-tls", "inbound"),
    ):
        opened = metrics.sum("fedmux_connections_opened_total", transport=transport, direction=direction)
        assert opened >= 1, f"{who}: no {transport} connection {direction}"


@scenario_in(Scenery.BY_DNS)
async def relays_by_dns_did_nothing_they_should_not(cast: Cast) -> None:
    """Every stanza is accounted for, no task failed, nothing was refused, and Prometheus's own tool likes the metrics."""
    for relay in (cast.stage.x, cast.stage.y):
        deadline = asyncio.get_running_loop().time() + SETTLE_SECONDS
        while True:
            metrics = await relay.metrics()
            accepted = metrics.total("fedmux_stanzas_accepted_total")
            ends = ("fedmux_stanzas_delivered_total", "fedmux_stanzas_bounced_total", "fedmux_stanzas_discarded_total", "fedmux_queued_stanzas")
            if accepted == sum(metrics.sum(end) for end in ends):
                break
            assert asyncio.get_running_loop().time() < deadline, f"relay {relay.letter}: {accepted:g} accepted, and {[metrics.sum(end) for end in ends]}"
            await asyncio.sleep(POLL_SECONDS)
        assert metrics.total("fedmux_tasks_failed_total") == 0, "a task ended by a panic"
        refused = {labels["reason"] for labels, value in metrics.samples("fedmux_refusals_total") if value}
        assert not refused, f"relay {relay.letter} refused for {refused}"
        complaints = await promtool_complaints(metrics)
        assert not complaints, f"promtool check metrics: {complaints}"


@scenario_in(Scenery.BY_DNS)
async def servers_go_on_when_a_relay_was_restarted(cast: Cast) -> None:
    """Last, since it resets counters. Whoever writes meanwhile is told, and afterwards nobody shuns anybody for minutes."""
    stage = cast.stage
    romeo = await cast.enter("romeo", stage.y)
    juliet, paris = await cast.enter("juliet", stage.x), await cast.enter("paris", stage.p)
    for user in (juliet, paris):
        await romeo.ping(user.full_jid)
    async with stage.without_relay(stage.y):
        sent = romeo.say(juliet.full_jid, "Where be these enemies?")
        error = await romeo.hears(kind="error", sender=juliet.full_jid)
        assert error["id"] == sent["id"], f"another error: {error}"
        await until("ejabberd Y has given up", stage.y.ejabberd.has_given_up, seconds=SETTLE_SECONDS, watch=[stage.y.server])
    for asking, asked in ((romeo, juliet), (juliet, romeo), (romeo, paris), (paris, romeo)):
        await is_reached(asking, asked)


async def is_reached(asking: User, asked: User) -> None:
    """A ping is answered, sooner or later: until the servers have noticed, and tried again, they return errors."""
    deadline = asyncio.get_running_loop().time() + SETTLE_SECONDS
    while True:
        try:
            return await asking.ping(asked.full_jid)
        except IqError as error:
            left = deadline - asyncio.get_running_loop().time()
            assert left > 0, f"{asking.jid} doesn't reach {asked.jid} again: {error.condition}"
        await asyncio.sleep(POLL_SECONDS)
