"""A component of provider A that connects to the relay, not to a Prosody: users of both providers reach it."""

from __future__ import annotations

from contextlib import asynccontextmanager

from component import Component
from play import Cast, Skip, scenario
from stage import COMPONENT_SECRET, Provider


@asynccontextmanager
async def friar(cast: Cast, secret: str = COMPONENT_SECRET, *, provider: Provider | None = None):
    """The component of `provider`, or of provider A, not connected yet; it leaves at the end."""
    if cast.stage.is_direct:
        raise Skip("no relays here")
    home = provider or cast.stage.a
    component = Component(home.component, secret, home.ports.relay_components)
    try:
        yield component
    finally:
        await component.leave()


@scenario
async def component_is_reached_from_both_sides(cast: Cast) -> None:
    """Messages, pings and service discovery, from the Prosody beside it and from the other provider; and it answers."""
    async with friar(cast) as component:
        await component.come()
        for name, provider in (("romeo", cast.stage.a), ("juliet", cast.stage.b)):
            user = await cast.enter(name, provider)
            for address in (component.boundjid.bare, f"cell@{component.boundjid.bare}", f"cell@{component.boundjid.bare}/door"):
                user.say(address, "Holy <Franciscan> friar & brother, ho!")
                answer = await user.hears(f"{address}: Holy <Franciscan> friar & brother, ho!")
                assert (answer["from"].full, answer["to"]) == (address, user.boundjid), f"wrong addresses: {answer}"
            await user.ping(component.boundjid.bare)
            info = await user["xep_0030"].get_info(component.boundjid.bare)
            assert ("gateway", "irc", None, "Friar Laurence") in info["disco_info"]["identities"], f"no gateway: {info}"
            await component["xep_0199"].send_ping(user.boundjid, ifrom=component.boundjid.bare)


@scenario
async def component_has_presence(cast: Cast) -> None:
    """A user subscribes to a contact at the component and sees it; the component sees the user come and go."""
    async with friar(cast) as component:
        await component.come()
        contact = f"laurence@{component.boundjid.bare}"
        for name, provider in (("balthasar", cast.stage.a), ("rosaline", cast.stage.b)):
            user = await cast.enter(name, provider)
            user.send_presence(pto=contact, ptype="subscribe")
            await component.presences.take("a subscription request", lambda p: p["type"] == "subscribe" and p["from"].bare == user.jid)
            component.send_presence(pto=user.jid, pfrom=contact, ptype="subscribed")
            component.send_presence(pto=user.jid, pfrom=f"{contact}/cell", pstatus="at prayer")
            await user.sees(f"{contact}/cell", where=lambda p: p["status"] == "at prayer")
            user.send_presence(pto=contact)
            for kind in ("available", "unavailable"):
                await component.presences.take(f"{kind} presence", lambda p: p["type"] == kind and p["from"] == user.boundjid)
                await user.log_out()


@scenario
async def component_that_comes_late_has_missed_nothing(cast: Cast) -> None:
    """What is said to it before it is there waits."""
    async with friar(cast) as component:
        users = [await cast.enter("romeo", cast.stage.a), await cast.enter("juliet", cast.stage.b)]
        for user in users:
            for chapter in range(5):
                user.say(component.boundjid.bare, f"chapter {chapter}")
        await component.come()
        for user in users:
            for chapter in range(5):
                heard = await component.messages.take(f"a message of {user.jid}", lambda m: m["from"] == user.boundjid)
                assert heard["body"] == f"chapter {chapter}", f"{heard['body']!r} where chapter {chapter} was due"


@scenario
async def second_connection_of_a_component_is_a_conflict(cast: Cast) -> None:
    """The first stays and goes on; whoever has the wrong secret isn't told of it."""
    juliet = await cast.enter("juliet", cast.stage.b)
    async with friar(cast) as component:
        await component.come()
        async with friar(cast) as second:
            assert await second.is_sent_away() == "conflict"
        async with friar(cast, "wherefore not") as stranger:
            assert await stranger.is_sent_away() == "not-authorized"
        juliet.say(component.boundjid.bare, "Are you at leisure?")
        await juliet.hears(f"{component.boundjid.bare}: Are you at leisure?")
