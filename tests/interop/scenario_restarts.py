"""Relays that are killed and started again, and whose sockets are held by the test, as by a service manager."""

from __future__ import annotations

import asyncio
import os
import signal
import select
import time
from pathlib import Path

from certificates import make_certificates
from flood import Flood
from play import Cast, Skip, scenario, scenario_in
from processes import hold
from scenario_by_dns import is_reached
from scenario_acknowledged import firsts
from stage import PASSWORD, Provider, Scenery

KILLS = int(os.environ.get("FEDMUX_KILLS", "6"))
STANZAS_A_SECOND = 300
SENTENCES = 20
# Longer than what is held for a peer that is away.
SETTLE_SECONDS = 90


@scenario
async def nothing_is_lost_silently_when_a_relay_is_killed_and_nobody_is_refused(cast: Cast) -> None:
    stage = cast.stage
    if stage.is_direct or stage.variant.name != "with-module":
        raise Skip("the module, with a relay, and once")
    near, far = (stage.make_guest(letter) for letter in "kl")
    held = hold([near.ports.relay_local], [near.ports.relay_quic])
    flood, ear = Flood("romeo@k.test", "juliet@l.test/flood", "u"), Flood("juliet@l.test", "", "")
    try:
        for provider, peer in ((near, far), (far, near)):
            await make_certificates(stage.fedmux, provider.folder / "certs", [provider.domain, provider.rooms, provider.component])
        await far.start_relay(stage.fedmux, stage.variant, near)
        await near.start_relay(stage.fedmux, stage.variant, far, held)
        for provider, name in ((near, "romeo"), (far, "juliet")):
            await provider.start_prosody(stage.variant, provider.ports.relay_local)
            provider.add_account(name)
        await ear.log_in(far.ports.c2s, PASSWORD)
        await flood.log_in(near.ports.c2s, PASSWORD)
        await flood_through_kills(flood, ear, near, lambda: near.start_relay(stage.fedmux, stage.variant, far, held))
        received, returned = firsts(ear.came), set(flood.errors)
        twice, both = len(ear.came) - len(received), len(returned & set(received))
        print(f"         {flood.sent} sent, {len(received)} received, {len(returned)} returned ({both} of them received, too), {twice} twice, 0 silent")
        assert "connection refused" not in near.prosody_log.read_text(), "Prosody was refused"
        assert received == sorted(received), "out of order"
        assert len(received) > flood.sent / 2, "too little came through to show anything"
    finally:
        for each in (flood, ear):
            each.close()
        for provider in (near, far):
            for process in provider.processes:
                await process.stop()
        for each in held:
            each.close()


async def flood_through_kills(flood: Flood, ear: Flood, near: Provider, start) -> None:
    flood.start(STANZAS_A_SECOND)
    flood.go.set()
    for _ in range(KILLS):
        came = len(ear.came)
        await until(60, "stanzas flow", lambda came=came: len(ear.came) > came + STANZAS_A_SECOND / 2)
        await near.relay.stop(signal.SIGKILL)
        await start()
    came = len(ear.came)
    await until(60, "stanzas flow again", lambda: len(ear.came) > came + STANZAS_A_SECOND / 2)
    flood.go.clear()

    def silent() -> list[str]:
        accounted = {*ear.came, *flood.errors}
        return [name for name in map(flood.name, range(flood.sent)) if name not in accounted]

    await until(SETTLE_SECONDS, "each is received or back", lambda: not silent(), silent)


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
