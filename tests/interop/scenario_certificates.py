"""b.test's certificate doesn't cover rooms.b.test, which has its own: it joins the relays' session by a mux secret (XEP-0451)."""

from __future__ import annotations

import asyncio

from play import Cast, Skip, scenario_in
from processes import POLL_SECONDS
from scenario_rooms import join, open_room
from stage import Scenery

SETTLE_SECONDS = 20


@scenario_in(Scenery.SEPARATE_ROOMS)
async def room_with_a_certificate_of_its_own_is_joined_over_the_one_session(cast: Cast) -> None:
    """A user of a.test talks in a room there; when it is quiet, one session is left, and the secret was taken once."""
    if cast.stage.is_direct:
        raise Skip("no relays here")
    romeo = await cast.enter("romeo", cast.stage.a)
    juliet = await cast.enter("juliet", cast.stage.b)
    await romeo.ping(juliet.full_jid)
    owner, guest, room = await open_room(cast, cast.stage.b, "ball")
    await join(guest, room, "guest")
    await owner.sees(f"{room}/guest")
    await one_session_is_left(cast)

    for speaker, nick in ((owner, "owner"), (guest, "guest")):
        speaker.say(room, f"said by {nick}", kind="groupchat")
        for listener in (owner, guest):
            await listener.hears(f"said by {nick}", kind="groupchat", sender=f"{room}/{nick}")
    await one_session_is_left(cast)


async def one_session_is_left(cast: Cast) -> None:
    """Both relays have one session, and each counted one proof by secret."""
    deadline = asyncio.get_running_loop().time() + SETTLE_SECONDS
    while True:
        found = [
            (metrics.total("fedmux_sessions"), metrics.sum("fedmux_proofs_total", proof="mux-secret", result="granted"))
            for metrics in [await provider.metrics() for provider in cast.stage.providers]
        ]
        if found == [(1, 1), (1, 1)]:
            return
        assert asyncio.get_running_loop().time() < deadline, f"sessions and proofs of the relays: {found}"
        await asyncio.sleep(POLL_SECONDS)
