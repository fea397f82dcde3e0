"""Users of both sides in a room, once on this side and once on the other.

The room's owner is a user of the room's own provider; "guest" is someone of the other one.
"""

from __future__ import annotations

from client import User
from play import Cast, scenario_for_each_provider
from stage import Provider

MUC_USER = "{http://jabber.org/protocol/muc#user}"


async def join(user: User, room: str, nick: str) -> None:
    """Enter a room and wait for one's own presence in it (status 110)."""
    user["xep_0045"].rooms[None][room] = {}
    user["xep_0045"].make_join_stanza(room, nick).send()
    await user.sees(f"{room}/{nick}", where=lambda presence: 110 in statuses(presence))


def statuses(presence) -> set[int]:
    """The status codes of a room's presence."""
    return {int(status.get("code")) for status in presence.xml.iter(f"{MUC_USER}status")}


def item(presence) -> dict[str, str]:
    """What a room says about an occupant."""
    return dict(presence.xml.find(f"{MUC_USER}x/{MUC_USER}item").attrib)


async def open_room(cast: Cast, home: Provider, name: str, abroad: Provider | None = None) -> tuple[User, User, str]:
    """A room at `home` with its owner in it as "owner"; the guest, from `abroad`, the other provider, stands at the door."""
    owner = await cast.enter("capulet", home)
    guest = await cast.enter("montague", abroad or cast.stage.other(home))
    room = f"{name}@{home.rooms}"
    await join(owner, room, "owner")
    # A new room is locked until its owner accepts the configuration.
    await owner["xep_0045"].set_room_config(room, owner["xep_0004"].make_form(ftype="submit"))
    return owner, guest, room


@scenario_for_each_provider
async def everybody_talks_in_a_room(cast: Cast, home: Provider) -> None:
    """Presence, room messages, topic and private messages between occupants of both sides."""
    await talk_in_a_room(*await open_room(cast, home, "ball"))


async def talk_in_a_room(owner: User, guest: User, room: str) -> None:
    """The guest enters, and both speak to all and to each other."""
    await join(guest, room, "guest")
    seen = await owner.sees(f"{room}/guest")
    assert item(seen)["affiliation"] == "none" and item(seen)["role"] == "participant", f"a strange guest: {seen}"
    await guest.sees(f"{room}/owner")

    for number in range(20):
        speaker = (owner, guest)[number % 2]
        speaker.say(room, f"line {number}", kind="groupchat")
        for listener in (owner, guest):
            heard = await listener.hears(kind="groupchat", sender=f"{room}/{('owner', 'guest')[number % 2]}")
            assert heard["body"] == f"line {number}", f"{listener.jid} heard {heard['body']!r} where line {number} was due"

    owner["xep_0045"].set_subject(room, "A feast of Capulets \U0001f3ad")
    await guest.hears_subject("A feast of Capulets \U0001f3ad", room)
    guest.say(f"{room}/owner", "a word in private")
    private = await owner.hears("a word in private", kind="chat")
    assert private["from"].full == f"{room}/guest", f"from whom? {private}"


@scenario_for_each_provider
async def nick_changes_in_a_room(cast: Cast, home: Provider) -> None:
    """The old nick leaves with 303 and its successor, the new one arrives; a nick that is taken is refused."""
    owner, guest, room = await open_room(cast, home, "masks")
    await join(guest, room, "guest")

    guest.send_presence(pto=f"{room}/masked")
    for observer in (owner, guest):
        left = await observer.sees(f"{room}/guest", "unavailable")
        assert 303 in statuses(left) and item(left)["nick"] == "masked", f"no nick change: {left}"
        await observer.sees(f"{room}/masked")

    guest.send_presence(pto=f"{room}/owner")
    refused = await guest.sees(f"{room}/owner", "error")
    assert refused["error"]["condition"] == "conflict", f"another error: {refused}"


@scenario_for_each_provider
async def guest_is_kicked_from_a_room(cast: Cast, home: Provider) -> None:
    """Everyone sees 307 with the reason; who was kicked may come back; who is banned may not."""
    owner, guest, room = await open_room(cast, home, "street")
    await join(guest, room, "guest")

    await owner["xep_0045"].set_role(room, "guest", "none", reason="a plague on both your houses")
    for observer in (owner, guest):
        left = await observer.sees(f"{room}/guest", "unavailable")
        assert 307 in statuses(left), f"no kick: {left}"
        reason = left.xml.findtext(f"{MUC_USER}x/{MUC_USER}item/{MUC_USER}reason")
        assert reason == "a plague on both your houses", f"another reason: {reason!r}"
    guest.say(room, "from outside", kind="groupchat")
    error = await guest.hears(kind="error", sender=room)
    assert error["error"]["condition"] == "not-acceptable", f"another error: {error}"

    await join(guest, room, "guest")
    await owner["xep_0045"].set_affiliation(room, "outcast", jid=guest.jid)
    left = await guest.sees(f"{room}/guest", "unavailable")
    assert 301 in statuses(left), f"no ban: {left}"
    guest["xep_0045"].make_join_stanza(room, "guest").send()
    refused = await guest.sees(f"{room}/guest", "error")
    assert refused["error"]["condition"] == "forbidden", f"another error: {refused}"


@scenario_for_each_provider
async def latecomer_reads_history_of_a_room(cast: Cast, home: Provider) -> None:
    """Occupants first, then what was said before with its time, then the topic; and what is said from now on."""
    owner, guest, room = await open_room(cast, home, "history")
    owner["xep_0045"].set_subject(room, "before")
    for number in range(5):
        owner.say(room, f"old {number}", kind="groupchat")
        await owner.hears(f"old {number}")

    await join(guest, room, "guest")
    for number in range(5):
        heard = await guest.hears(kind="groupchat")
        assert heard["body"] == f"old {number}", f"{heard['body']!r} where old {number} was due"
        assert heard["from"].full == f"{room}/owner" and heard.xml.find("{urn:xmpp:delay}delay") is not None, f"no history: {heard}"
    await guest.hears_subject("before", room)
    owner.say(room, "new", kind="groupchat")
    heard = await guest.hears("new")
    assert heard.xml.find("{urn:xmpp:delay}delay") is None, f"new, yet delayed: {heard}"

    # Leaving, and losing the connection, look the same to those who stay.
    guest.send_presence(pto=f"{room}/guest", ptype="unavailable")
    await owner.sees(f"{room}/guest", "unavailable")
    await guest.sees(f"{room}/guest", "unavailable")
    await join(guest, room, "guest")
    await owner.sees(f"{room}/guest")
    await guest.log_out()
    await owner.sees(f"{room}/guest", "unavailable")
