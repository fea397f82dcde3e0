"""What a page asks people to say, said by real clients (slixmpp), from outside, with STARTTLS; and that the others hear it.

    alice@example.com -> bob@example.net: Hello
    bob@example.net enters lobby@rooms.example.com
    alice@example.com -> lobby@rooms.example.com: Welcome
"""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "interop"))

from client import User  # noqa: E402

SAYS = re.compile(r"(?P<who>\S+) -> (?P<to>\S+): (?P<body>.+)$")
ENTERS = re.compile(r"(?P<who>\S+) enters (?P<room>\S+)$")
LEAVE_SECONDS = 10
HIMSELF, NEW = "110", "201"
C2S_PORT = 5222


def statuses(presence) -> set[str]:
    """The status codes of a room's presence (XEP-0045)."""
    return {status.get("code") for status in presence.xml.iter("{http://jabber.org/protocol/muc#user}status")}


class Someone(User):
    """A user as anybody's client is: it finds the server at its public address, and believes its certificate only."""

    def __init__(self, jid: str, password: str, server: str, authority: Path) -> None:
        super().__init__(jid, password, C2S_PORT)
        self.enable_starttls, self.enable_plaintext = True, False
        self["feature_mechanisms"].unencrypted_plain = False
        self.ca_certs = authority
        self._server = server

    def connect(self, host: str = "", port: int = 0) -> asyncio.Future:
        return super().connect(self._server, C2S_PORT)


class Conversation:
    """The lines of a block, with everybody who has something to say in it. Rooms are left at its end."""

    def __init__(self, servers: dict[str, str], password: str, authority: Path) -> None:
        """`servers`: the address of each domain's server."""
        self._servers = servers
        self._password = password
        self._authority = authority
        self._users: dict[str, Someone] = {}
        self._inside: dict[str, list[Someone]] = {}

    def hold(self, lines: list[str]) -> None:
        asyncio.run(self._hold(lines))

    async def _hold(self, lines: list[str]) -> None:
        try:
            # Whoever is spoken to has to be there before.
            for jid in {word.rstrip(":") for line in lines for word in line.split()}:
                await self._user(jid)
            for line in lines:
                if said := SAYS.match(line):
                    await self._say(**said.groupdict())
                elif entered := ENTERS.match(line):
                    await self._enter(**entered.groupdict())
                else:
                    raise AssertionError(f"nobody knows how to do this: {line!r}")
        finally:
            await asyncio.wait_for(asyncio.gather(*(user.log_out() for user in self._users.values())), LEAVE_SECONDS)

    async def _user(self, jid: str) -> Someone | None:
        """Who has this address; nobody if it isn't that of an account."""
        _, at, domain = jid.partition("@")
        if at and domain in self._servers and jid not in self._users:
            self._users[jid] = Someone(jid, self._password, self._servers[domain], self._authority)
            await self._users[jid].log_in()
        return self._users.get(jid)

    async def _say(self, who: str, to: str, body: str) -> None:
        speaker = await self._user(who)
        assert speaker, f"{who} has no account on any server of this page"
        listener = await self._user(to)
        if listener:
            speaker.say(to, body)
            await listener.hears(body, sender=who, kind="chat")
        elif to in self._inside:
            speaker.say(to, body, kind="groupchat")
            for occupant in self._inside[to]:
                await occupant.hears(body, sender=f"{to}/{who.partition('@')[0]}", kind="groupchat")
        else:
            speaker.say(to, body)
            # A component of the page: it answers everybody.
            await speaker.hears(f"{to}: {body}", sender=to)

    async def _enter(self, who: str, room: str) -> None:
        user = await self._user(who)
        assert user, f"{who} has no account on any server of this page"
        nick = who.partition("@")[0]
        user["xep_0045"].rooms[None][room] = {}
        user["xep_0045"].make_join_stanza(room, nick).send()
        presence = await user.sees(f"{room}/{nick}", where=lambda presence: HIMSELF in statuses(presence))
        if NEW in statuses(presence):
            # It is locked until its owner accepts the configuration, which clients do unasked.
            await user["xep_0045"].set_room_config(room, user["xep_0004"].make_form(ftype="submit"))
        for occupant in self._inside.get(room, []):
            await occupant.sees(f"{room}/{nick}")
        self._inside.setdefault(room, []).append(user)
