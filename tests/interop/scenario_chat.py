"""Romeo of a.test and Juliet of b.test write to each other."""

from __future__ import annotations

import asyncio
from xml.etree import ElementTree as ET

from play import Cast, scenario

CHAPTERS = 200
LARGE = 200_000


@scenario
async def romeo_and_juliet_chat(cast: Cast) -> None:
    """A message arrives with its addresses, id, type and body, and so does the answer."""
    romeo = await cast.enter("romeo", cast.stage.a)
    juliet = await cast.enter("juliet", cast.stage.b)

    sent = romeo.say(juliet.jid, "Art thou not Capulet & <Montague>?")
    heard = await juliet.hears("Art thou not Capulet & <Montague>?")
    assert (heard["from"], heard["to"].bare) == (romeo.boundjid, juliet.jid), f"wrong addresses: {heard}"
    assert (heard["id"], heard["type"]) == (sent["id"], "chat"), f"wrong id or type: {heard}"

    juliet.say(heard["from"].full, "'Tis but thy name that is my enemy.")
    answer = await romeo.hears("'Tis but thy name that is my enemy.")
    assert (answer["from"], answer["to"]) == (juliet.boundjid, romeo.boundjid), f"wrong addresses: {answer}"

    await juliet.has_heard_everything_from(romeo)
    await romeo.has_heard_everything_from(juliet)


@scenario
async def everything_in_a_message_arrives(cast: Cast) -> None:
    """Elements of other namespaces, attributes with prefixes, languages and white space come through as they were."""
    romeo = await cast.enter("romeo", cast.stage.a)
    juliet = await cast.enter("juliet", cast.stage.b)

    romeo.send_raw(
        f"<message to='{juliet.jid}' id='payload' type='headline' xml:lang='it'>"
        "<body>Ciao &#x1F339;</body><body xml:lang='en'>Hello</body><thread parent='p'>t</thread>"
        "<x:letter xmlns:x='urn:example:letter' xmlns:y='urn:example:wax' y:seal='&quot;&apos;&amp;&lt;&gt;&#x1F339;'>"
        "<x:page n='1'> two  spaces </x:page><empty xmlns=''/><![CDATA[<not>&amp;markup]]></x:letter></message>"
    )
    heard = await juliet.messages.take("the letter", lambda message: message["id"] == "payload")

    letter = heard.xml.find("{urn:example:letter}letter")
    assert letter is not None, f"the letter was lost: {heard}"
    assert letter.get("{urn:example:wax}seal") == "\"'&<>\U0001f339", f"the seal is broken: {ET.tostring(letter)!r}"
    page, empty = list(letter)
    assert (page.tag, page.text, page.attrib) == ("{urn:example:letter}page", " two  spaces ", {"n": "1"})
    assert (empty.tag, empty.tail) == ("empty", "<not>&amp;markup"), f"what follows is damaged: {ET.tostring(letter)!r}"
    language = "{http://www.w3.org/XML/1998/namespace}lang"
    bodies = {body.get(language): body.text for body in heard.xml.findall("{jabber:client}body")}
    assert bodies == {None: "Ciao \U0001f339", "en": "Hello"}, f"the bodies differ: {bodies}"
    assert (heard.xml.get("type"), heard.xml.get(language)) == ("headline", "it"), f"an attribute differs: {heard}"


@scenario
async def long_conversation_stays_in_order(cast: Cast) -> None:
    """Both talk at the same time; each hears every sentence once, in order."""
    romeo = await cast.enter("romeo", cast.stage.a)
    juliet = await cast.enter("juliet", cast.stage.b)

    for chapter in range(CHAPTERS):
        romeo.say(juliet.full_jid, f"chapter {chapter}")
        juliet.say(romeo.full_jid, f"chapter {chapter}")

    async def listens(listener, speaker) -> None:
        for chapter in range(CHAPTERS):
            heard = await listener.hears(sender=speaker.full_jid)
            assert heard["body"] == f"chapter {chapter}", f"{listener.jid} heard {heard['body']!r} where chapter {chapter} was due"

    await asyncio.gather(listens(juliet, romeo), listens(romeo, juliet))
    await juliet.has_heard_everything_from(romeo)
    await romeo.has_heard_everything_from(juliet)


@scenario
async def message_of_200_kb_arrives_whole(cast: Cast) -> None:
    """In both directions at once, and what is said after it waits its turn."""
    romeo = await cast.enter("romeo", cast.stage.a)
    juliet = await cast.enter("juliet", cast.stage.b)

    sonnet = "".join(f"{line:07}, shall I compare thee to a summer's day?\n" for line in range(LARGE // 40))[:LARGE]
    assert len(sonnet) == LARGE
    for speaker, listener in ((romeo, juliet), (juliet, romeo)):
        speaker.say(listener.full_jid, sonnet)
        speaker.say(listener.full_jid, "Thou art more lovely.")
    for listener in (romeo, juliet):
        heard = await listener.hears()
        assert heard["body"] == sonnet, f"{listener.jid} received {len(heard['body'])} of {len(sonnet)} characters, or others"
        heard = await listener.hears()
        assert heard["body"] == "Thou art more lovely.", f"{listener.jid} heard {heard['body'][:80]!r} after the sonnet"


@scenario
async def every_character_of_every_plane_arrives(cast: Cast) -> None:
    """All 1,112,033 characters that XML 1.0 can carry in text, white space apart, in the seventeen planes of Unicode."""
    romeo = await cast.enter("romeo", cast.stage.a)
    juliet = await cast.enter("juliet", cast.stage.b)

    for plane in range(17):
        for page in pages(plane):
            romeo.say(juliet.full_jid, page)
            heard = await juliet.hears()
            damaged = [f"U+{ord(sent):04X}" for sent, came in zip(page, heard["body"]) if sent != came]
            assert heard["body"] == page, f"plane {plane}: {len(heard['body'])} of {len(page)} characters came, first damaged: {damaged[:5]}"


def pages(plane: int) -> list[str]:
    """The plane's characters, in pieces that stay below the 256 kB that Prosody takes from a client."""
    characters = [chr(point) for point in range(plane * 0x10000, (plane + 1) * 0x10000) if is_xml_character(point)]
    return ["".join(characters[start : start + 40_000]) for start in range(0, len(characters), 40_000)]


def is_xml_character(point: int) -> bool:
    """The production Char of XML 1.0, without white space (which clients trim at the ends)."""
    return 0x21 <= point <= 0xD7FF or 0xE000 <= point <= 0xFFFD or 0x10000 <= point <= 0x10FFFF


@scenario
async def message_that_cannot_arrive_comes_back(cast: Cast) -> None:
    """An error with the reason, from the address that was meant, for an account and for a domain that aren't there."""
    romeo = await cast.enter("romeo", cast.stage.a)
    juliet = await cast.enter("juliet", cast.stage.b)

    for nobody, conditions in (
        ("nobody@b.test", {"service-unavailable", "item-not-found"}),
        ("nobody@nowhere.test", {"remote-server-not-found", "remote-server-timeout"}),
    ):
        sent = romeo.say(nobody, "Who's there?")
        error = await romeo.hears(sender=nobody, kind="error")
        assert error["id"] == sent["id"], f"the error has another id: {error}"
        assert error["error"]["condition"] in conditions, f"{nobody}: {error}"

    romeo.say(juliet.jid, "Still there?")
    await juliet.hears("Still there?")
