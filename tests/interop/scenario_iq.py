"""Questions to servers, services and users of the other side, and the errors that they answer with."""

from __future__ import annotations

import asyncio
from xml.etree import ElementTree as ET

from play import Cast, scenario

DISCO_INFO = "http://jabber.org/protocol/disco#info"
DISCO_ITEMS = "http://jabber.org/protocol/disco#items"
MUC = "http://jabber.org/protocol/muc"
PINGS = 100


@scenario
async def servers_and_users_answer_pings(cast: Cast) -> None:
    """In both directions, alone and a hundred at once."""
    romeo = await cast.enter("romeo", cast.stage.a)
    juliet = await cast.enter("juliet", cast.stage.b)

    for asker, asked in ((romeo, juliet), (juliet, romeo)):
        await asker.ping(asked.boundjid.domain)
        await asker.ping(asked.full_jid)
    await asyncio.gather(*(romeo.ping(juliet.full_jid) for _ in range(PINGS)), *(juliet.ping(romeo.full_jid) for _ in range(PINGS)))


@scenario
async def disco_shows_the_other_side(cast: Cast) -> None:
    """Identities, features and items of a server, of its rooms and of a client."""
    romeo = await cast.enter("romeo", cast.stage.a)
    juliet = await cast.enter("juliet", cast.stage.b)

    server = await romeo["xep_0030"].get_info("b.test")
    assert ("server", "im") in {identity[:2] for identity in server["disco_info"]["identities"]}, f"no server: {server}"
    items = await romeo["xep_0030"].get_items("b.test")
    assert "rooms.b.test" in {item[0] for item in items["disco_items"]["items"]}, f"the rooms aren't listed: {items}"
    service = await romeo["xep_0030"].get_info("rooms.b.test")
    assert MUC in service["disco_info"]["features"], f"no rooms: {service}"
    client = await juliet["xep_0030"].get_info(romeo.full_jid)
    assert ("client", "bot") in {identity[:2] for identity in client["disco_info"]["identities"]}, f"no client: {client}"


@scenario
async def vcard_is_read_across(cast: Cast) -> None:
    """A vCard with a picture that nobody could type, published here and read there."""
    nurse = await cast.enter("nurse", cast.stage.b)
    romeo = await cast.enter("romeo", cast.stage.a)

    photo = bytes(range(256)) * 64
    vcard = nurse["xep_0054"].make_vcard()
    vcard["FN"] = "Angelica, called Nurse \U0001f469\u200d\u2695\ufe0f"
    vcard["PHOTO"]["TYPE"] = "image/png"
    vcard["PHOTO"]["BINVAL"] = photo
    await nurse["xep_0054"].publish_vcard(vcard)

    read = (await romeo["xep_0054"].get_vcard(nurse.jid, cached=False))["vcard_temp"]
    assert read["FN"] == "Angelica, called Nurse \U0001f469\u200d\u2695\ufe0f", f"another name: {read['FN']!r}"
    assert read["PHOTO"]["BINVAL"] == photo, "another photo"


@scenario
async def errors_come_from_whom_was_asked(cast: Cast) -> None:
    """Each refusal arrives with its condition, from the very address that was asked."""
    romeo = await cast.enter("romeo", cast.stage.a)
    juliet = await cast.enter("juliet", cast.stage.b)
    ping = ET.Element("{urn:xmpp:ping}ping")
    unheard_of = ET.Element("{urn:example:unheard-of}query")

    await romeo.is_refused("b.test", unheard_of, "service-unavailable")
    await romeo.is_refused("b.test", unheard_of, "service-unavailable", kind="set")
    await romeo.is_refused("rooms.b.test", unheard_of, "service-unavailable")
    await romeo.is_refused(juliet.full_jid, unheard_of, "feature-not-implemented", "service-unavailable")
    await romeo.is_refused(f"{juliet.jid}/balcony", ping, "service-unavailable")
    await romeo.is_refused("nobody@b.test/anywhere", ping, "service-unavailable")
    await romeo.is_refused("nobody@b.test", unheard_of, "service-unavailable")
    await romeo.is_refused("b.test", ET.Element(f"{{{DISCO_INFO}}}query", node="no-such-node"), "item-not-found")
    await romeo.is_refused("no-such-room@rooms.b.test", ET.Element(f"{{{DISCO_INFO}}}query"), "item-not-found")
    await romeo.is_refused(juliet.jid, ET.Element(f"{{{DISCO_ITEMS}}}query"), "service-unavailable", "item-not-found")
    await romeo.is_refused("nowhere.test", ping, "remote-server-not-found", "remote-server-timeout")
    # After all of it, the way is as open as before.
    await romeo.ping(juliet.full_jid)
