"""Relays that are killed and started again, and whose sockets are held by the test, as by a service manager."""

from __future__ import annotations

import asyncio
import os
import random
import select
import signal
import time
from collections import Counter
from pathlib import Path

from certificates import make_certificates
from flood import Flood
from metrics import scrape
from play import Cast, Skip, scenario, scenario_in
from processes import hold
from scenario_by_dns import is_reached
from scenario_acknowledged import firsts
from stage import PASSWORD, Provider, Scenery

KILLS = int(os.environ.get("FEDMUX_KILLS", "6"))
SEED = int(os.environ.get("FEDMUX_SEED", "1"))
STANZAS_A_SECOND = int(os.environ.get("FEDMUX_RATE", "300"))
SENTENCES = 20
# Longer than what is held for a peer that is away.
SETTLE_SECONDS = 90


@scenario
async def nothing_is_lost_silently_when_the_relay_of_the_sender_is_killed_and_nobody_is_refused(cast: Cast) -> None:
    await survive(cast, "kl", 0)


@scenario
async def nothing_is_lost_silently_when_the_relay_of_the_recipient_is_killed(cast: Cast) -> None:
    await survive(cast, "mn", 1)


async def survive(cast: Cast, letters: str, dies: int) -> None:
    """A user of one Prosody floods a user of another, while one of their relays is killed and started again at random moments."""
    stage = cast.stage
    if stage.is_direct or stage.variant.name != "with-module":
        raise Skip("the module, with a relay, and once")
    near, far = providers = [stage.make_guest(letter) for letter in letters]
    held = hold([near.ports.relay_local], [near.ports.relay_quic]), hold([far.ports.relay_local], [far.ports.relay_quic])
    flood, ear = Flood(f"romeo@{near.domain}", f"juliet@{far.domain}/flood", "u"), Flood(f"juliet@{far.domain}", "", "")
    tally = Tally(near, far)
    try:
        for provider in providers:
            await make_certificates(stage.fedmux, provider.folder / "certs", [provider.domain, provider.rooms, provider.component])

        async def start(which: int) -> None:
            await providers[which].start_relay(stage.fedmux, stage.variant, providers[1 - which], held[which])

        await start(1)
        await start(0)
        for provider, name in ((near, "romeo"), (far, "juliet")):
            await provider.start_prosody(stage.variant, provider.ports.relay_local)
            provider.add_account(name)
        await ear.log_in(far.ports.c2s, PASSWORD)
        await flood.log_in(near.ports.c2s, PASSWORD)
        await flood_through_kills(flood, ear, tally, dies, start)
        received, returned = firsts(ear.came), set(flood.errors)
        twice, both = len(ear.came) - len(received), len(returned & set(received))
        unmarked = tally.unmarked(ear)
        print(
            f"         {KILLS} kills: {flood.sent} sent, {len(received)} received, {len(returned)} returned ({both} of them received, too), "
            f"{twice} twice ({len(unmarked)} of them not marked as late), {tally.uncertain:.0f} counted uncertain, {tally.early:.0f} acknowledged early, 0 silent"
        )
        assert "connection refused" not in near.prosody_log.read_text(), "Prosody was refused"
        assert received == sorted(received), "out of order"
        assert len(received) > flood.sent / 2, "too little came through to show anything"
        assert not unmarked, f"twice, and neither says so: {unmarked[:5]}"
    finally:
        for each in (flood, ear):
            each.close()
        for provider in providers:
            for process in provider.processes:
                await process.stop()
        for each in (*held[0], *held[1]):
            each.close()


class Tally:
    """What the relays have counted while they lived: stanzas of which they don't know whether they were handled, and stanzas that they
    acknowledged before the next hop had."""

    def __str__(self) -> str:
        return f"{self.uncertain:.0f} counted uncertain, {self.early:.0f} acknowledged early"

    def __init__(self, *providers: Provider) -> None:
        self.providers = providers
        self.uncertain = 0.0
        self.early = 0.0

    async def add(self, provider: Provider) -> None:
        """What this relay has counted since it was started: it is about to be killed, or everything is over."""
        metrics = await scrape(provider.ports.relay_admin)
        self.uncertain += metrics.sum("fedmux_stanzas_uncertain_total")
        self.early += metrics.sum("fedmux_custody_acknowledged_early_total")

    @staticmethod
    def unmarked(ear: Flood) -> list[str]:
        """Those of which two copies came without a word on it. The later ones have to say that they are late."""
        plain = Counter(name for name, late in zip(ear.came, ear.late, strict=True) if not late)
        return sorted(name for name, count in plain.items() if count > 1)


async def flood_through_kills(flood: Flood, ear: Flood, tally: Tally, dies: int, start) -> None:
    dice = random.Random(SEED)
    flood.start(STANZAS_A_SECOND)
    flood.go.set()
    for _ in range(KILLS):
        came = len(ear.came)
        await until(60, "stanzas flow", lambda came=came: len(ear.came) > came + STANZAS_A_SECOND / 2)
        await asyncio.sleep(dice.random())
        await tally.add(tally.providers[dies])
        await tally.providers[dies].relay.stop(signal.SIGKILL)
        await start(dies)
    came = len(ear.came)
    await until(60, "stanzas flow again", lambda: len(ear.came) > came + STANZAS_A_SECOND / 2)
    flood.go.clear()

    def silent() -> list[str]:
        accounted = {*ear.came, *flood.errors}
        return [name for name in map(flood.name, range(flood.sent)) if name not in accounted]

    # What nobody will ever hear of shows in the figures.
    await until(SETTLE_SECONDS, "each is received or back", lambda: not silent(), lambda: f"{len(silent())} of them: {silent()[:200]}; {tally}")
    for provider in tally.providers:
        await tally.add(provider)


@scenario_in(Scenery.BY_DNS)
async def ejabberd_waits_for_a_relay_that_was_killed(cast: Cast) -> None:
    """It asks the relay's DNS responder and connects to the relay, neither of which runs, and returns nothing to anybody."""
    stage = cast.stage
    y, ports = stage.y, stage.y.ports
    async with stage.without_relay(y):
        held = y.relay.sockets = hold([ports.relay_local, stage.y_dns], [stage.y_dns])
    try:
        romeo, juliet, paris = await cast.enter("romeo", y), await cast.enter("juliet", stage.x), await cast.enter("paris", stage.p)
        for listener in (juliet, paris):
            await is_reached(romeo, listener)
        await y.relay.stop(signal.SIGKILL)
        # What it writes before it has noticed is lost: it knows no acknowledgement between servers.
        await until(20, "ejabberd has noticed", lambda: not connections_to(ports.relay_local))
        for n in range(SENTENCES):
            for listener in (juliet, paris):
                romeo.say(listener.full_jid, f"while nobody hears: {n}")
        await until(20, "ejabberd comes, or asks where the relay is", lambda: select.select(held, [], [], 0)[0])
        await stage.wake_relay(y)
        for listener in (juliet, paris):
            for n in range(SENTENCES):
                heard = await listener.hears(sender=romeo.full_jid)
                assert heard["body"] == f"while nobody hears: {n}", f"{listener.jid} heard {heard['body']!r}"
        returned = [str(stanza) for stanza in romeo.messages.unread if stanza["type"] == "error"]
        assert not returned, f"it came back: {returned[:3]}"
    finally:
        y.relay.sockets = ()
        await y.relay.stop()
        for each in held:
            each.close()
        await stage.wake_relay(y)


def connections_to(port: int) -> int:
    """Connections whose other end is `port` and that nobody has closed at this end."""
    established, close_wait = "01", "08"
    rows = [row.split() for table in ("tcp", "tcp6") for row in Path("/proc/net", table).read_text().splitlines()[1:]]
    return sum(row[2].endswith(f":{port:04X}") and row[3] in (established, close_wait) for row in rows)


async def until(seconds: float, what: str, holds, detail=lambda: "") -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"after {seconds:g} s still not true: {what} {detail()}"
        await asyncio.sleep(0.02)
