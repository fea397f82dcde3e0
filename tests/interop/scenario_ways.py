"""How real servers are reached, and which are not believed; and who may ask a relay's DNS responder."""

from __future__ import annotations

import network
from asking import Answer, ask
from play import Cast, Skip, scenario_in
from stage import Provider, Scenery


@scenario_in(Scenery.BY_DNS)
async def servers_that_nobody_should_believe_get_nothing(cast: Cast) -> None:
    """The sender is told why: a certificate that is over, one that nobody vouches for, or another's; or an offer of STARTTLS that
    somebody took out."""
    juliet = await cast.enter("juliet", cast.stage.x)
    for domain, reason in (
        ("self.test", "certificate-unknown-issuer"),
        ("expired.test", "certificate-expired"),
        ("wrong.test", "certificate-wrong-name"),
        ("stripped.test", "starttls-not-offered"),
    ):
        sent = juliet.say(f"paris@{domain}", "Good pilgrim?")
        error = await juliet.hears(kind="error", sender=f"paris@{domain}")
        said = error["error"]["text"]
        assert error["id"] == sent["id"] and reason in said, f"{domain}: not {reason} but {said!r}: {error}"
    assert cast.stage.meddler.taken_out, "nobody meddled"


@scenario_in(Scenery.BY_DNS)
async def stripped_server_is_a_good_one_without_the_meddler(cast: Cast) -> None:
    """What passes him unchanged is the same server: so it was he."""
    meddler = cast.stage.meddler
    meddler.meddles = False
    try:
        # X remembers for a while what it was told; Y doesn't know yet.
        benvolio = await cast.enter("benvolio", cast.stage.y)
        stripped = next(provider for provider in cast.stage.strangers if provider.letter == "stripped")
        paris = await cast.enter("paris", stripped)
        benvolio.say(paris.full_jid, "Good pilgrim?")
        await paris.hears("Good pilgrim?", sender=benvolio.full_jid)
    finally:
        meddler.meddles = True


@scenario_in(Scenery.BY_DNS)
async def servers_are_reached_by_the_way_that_their_records_name(cast: Cast) -> None:
    """Direct TLS to a listener of ejabberd's and from ejabberd; and port 5269 of an address, beside one that drops every SYN."""
    stage = cast.stage
    ways = [
        (stage.x, "direct-tls", f"{stage.x.domain}->{stage.tls.domain}"),
        (stage.y, "direct-tls", f"{stage.y.domain}->{stage.tls.domain}"),
        (stage.y, "direct-tls", f"{stage.e.domain}->{stage.y.domain}"),
        (stage.y, "direct-tls", f"{stage.p.domain}->{stage.y.domain}"),
        (stage.x, "starttls", f"{stage.e.domain}->{stage.x.domain}"),
    ]
    for one, other in ((stage.x, stage.tls), (stage.y, stage.tls), (stage.e, stage.x), (stage.e, stage.y), (stage.p, stage.y)):
        for asking, asked in ((one, other), (other, one)):
            await is_heard(cast, asking, asked)
    if network.is_ours():
        for relay in (stage.x, stage.y):
            await is_heard(cast, relay, stage.old)
            ways.append((relay, "starttls", f"{relay.domain}->{stage.old.domain}"))
    for relay, transport, pair in ways:
        assert came_up(relay, transport, pair), f"relay {relay.letter} has no session by {transport} for {pair}; see {relay.relay_log}"
    e = stage.e.server_log.read_text(errors="replace")
    for said in (
        f"Accepted inbound s2s EXTERNAL authentication {stage.x.domain} -> {stage.tls.domain}",
        f"Accepted inbound s2s dialback authentication {stage.y.domain} -> {stage.tls.domain}",
        f"Accepted outbound s2s EXTERNAL authentication {stage.tls.domain} -> {stage.y.domain}",
    ):
        assert said in e, f"ejabberd E doesn't say {said!r}"


def came_up(relay: Provider, transport: str, pair: str) -> bool:
    """Whether the relay has logged such a session."""
    lines = relay.relay_log.read_text(errors="replace").splitlines()
    return any("session up" in line and f"transport={transport} " in line and f"pair={pair} " in line for line in lines)


async def is_heard(cast: Cast, asking: Provider, asked: Provider) -> None:
    balthasar, peter = await cast.enter("balthasar", asking), await cast.enter("peter", asked)
    await balthasar.ping(peter.full_jid)


@scenario_in(Scenery.BY_DNS)
async def responder_answers_loopback_and_whom_it_was_told_of(cast: Cast) -> None:
    """What is asked for XMPP between servers leads to the relay, everything else is forwarded, and nobody else is answered."""
    stage = cast.stage
    port, relay, p = stage.y_dns, stage.y.ports.relay_local, stage.p.domain
    knows = {
        ("SRV", f"_xmpp-server._tcp.{p}"): Answer("NOERROR", [f"0 0 {relay} 127.0.0.1."]),
        ("SRV", "_xmpp-server._tcp.nowhere.test"): Answer("NOERROR", [f"0 0 {relay} 127.0.0.1."]),
        ("A", "127.0.0.1"): Answer("NOERROR", ["127.0.0.1"]),
        ("AAAA", "127.0.0.1"): Answer("NOERROR"),
        ("SRV", f"_xmpps-server._tcp.{p}"): Answer("NOERROR", ["0 0 0 ."]),
        ("SRV", f"_xmpp-server._quic.{p}"): Answer("NOERROR", ["0 0 0 ."]),
        ("TLSA", f"_{relay}._tcp.127.0.0.1"): Answer("NOERROR"),
        # What dnsmasq says.
        ("A", f"xmpp.{p}"): Answer("NOERROR", ["127.0.0.1"]),
        ("A", "nowhere.test"): Answer("NXDOMAIN"),
    }
    for tcp in (False, True):
        for (kind, name), expected in knows.items():
            answer = await ask(("127.0.0.1", port), kind, name, source="127.0.0.1", tcp=tcp)
            assert answer == expected, f"{kind} {name}: {answer}, not {expected}"
    if not network.is_ours():
        raise Skip("only as root: others than loopback need a network of our own")
    for tcp in (False, True):
        for (kind, name), expected in knows.items():
            answer = await ask((network.RELAY, port), kind, name, source=network.NAMED_CLIENT, tcp=tcp)
            assert answer == expected, f"{kind} {name} for whom it was told of: {answer}, not {expected}"
            answer = await ask((network.RELAY, port), kind, name, source=network.STRANGER, tcp=tcp)
            assert answer == Answer("REFUSED"), f"{kind} {name} for a stranger: {answer}"
