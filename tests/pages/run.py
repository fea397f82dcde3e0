#!/usr/bin/env python3
"""The ten-minute pages of config/, followed word for word.

    target/venv/bin/python3 tests/pages/run.py --fedmux target/release/fedmux

Whoever follows a page has a Debian machine with a Prosody that already serves its domain: a systemd of its own, in namespaces, on
an internet of its own (`provider.py`, `internet.py`). Every fenced block is done as `page.py` says, and one that can't be done is a
failure. Then it is seen whether the page has kept its promise. What isn't word for word, and nothing else:

    page                        here
    example.com, .net, .org     names of the same length that relays look up in DNS, which they don't do with names of examples
    192.0.2.x, 198.51.100.x     193.0.2.x, 199.51.100.x, for the same reason: no relay dials what DNS says of the former
    cargo build --release       the binary of --fedmux is put where the build leaves it
    certbot                     an authority of the test's own, which everybody's system trusts (`certbot.py`)
    publishing DNS records      a DNS server that all machines ask
    a chat program              slixmpp (`chat.py`)
    a component                 slixmpp (`bot.py`)

Needs root, Prosody, systemd, dnsmasq, iproute2, openssl, and slixmpp (tests/interop/requirements.txt). Exit code 77: there can't be
such machines here, as in a container without privileges.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

try:
    import slixmpp  # noqa: F401
except ImportError:
    sys.exit("slixmpp is not installed: python3 -m pip install -r tests/interop/requirements.txt")

import internet
import page
from follower import Follower
from internet import Internet
from machine import NoMachine
from provider import PROJECT, Names, Provider

CONFIG = PROJECT / "config"
# Both ways of reading a page: by the provider that it calls example.com, and by the other one. In the order of the alphabet, as
# those of the pages are.
ADDRESSES = {"192.0.2.": "193.0.2.", "198.51.100.": "199.51.100."}
US = Names({**ADDRESSES, "example.com": "airports.zz", "example.net": "bakeries.zz", "example.org": "cottages.zz"})
THEIR_ADDRESSES = {"192.0.2.10": "199.51.100.20", "198.51.100.20": "193.0.2.10"}
OTHER = Names({**THEIR_ADDRESSES, "example.com": "bakeries.zz", "example.net": "airports.zz"})
# Where each provider's names lead before it follows a page: to its Prosody.
ZONE = """\
{domain}. A 192.0.2.10
_xmpp-server._tcp.{domain}. SRV 10 5 5269 xmpp.example.com.
"""
PROGRAMMES = ("prosody", "dnsmasq", "openssl", "unshare", "nsenter", "systemd-analyze")


@dataclass(frozen=True, kw_only=True)
class Play:
    """A page, who follows it, and what it promises."""

    page: str
    promise: Callable[[Follower], None]
    readers: int = 1
    """How many providers follow it, step by step together."""
    more_domains: tuple[str, ...] = ()
    """What the first reader's Prosody has besides example.com, from the beginning."""
    services: tuple[str, ...] = ()
    """What else leads there."""
    before: str | None = None
    """The page that the other provider has followed before, if it isn't a reader; it has a Prosody alone if there is none."""


def everybody_talks(follower: Follower) -> None:
    """Both ways, and in a room on each side."""
    for names in (US, OTHER):
        lines = """\
alice@example.com -> bob@example.net: Is it you?
bob@example.net -> alice@example.com: It is.
alice@example.com enters yard@rooms.example.com
bob@example.net enters yard@rooms.example.com
alice@example.com -> yard@rooms.example.com: Who is here?
bob@example.net -> yard@rooms.example.com: I am.
"""
        follower.talk(names.real(lines).splitlines())


def as_everywhere(follower: Follower) -> None:
    """The other provider has no relay: it is reached over TCP, and reaches us at the better of the two listeners for that."""
    everybody_talks(follower)
    (sessions,) = sessions_of(follower)
    assert {session["transport"] for session in sessions} == {"starttls", "direct-tls"}, sessions


def over_one_session(follower: Follower) -> None:
    everybody_talks(follower)
    for sessions in sessions_of(follower):
        assert [session["transport"] for session in sessions] == ["quic"], sessions


def sessions_of(follower: Follower) -> list[list[dict]]:
    """What each reader's relay says of its sessions."""
    return [json.loads(reader.run("fedmux status --json"))["sessions"] for reader in follower.readers]


PLAYS = (
    Play(page="one-server", promise=as_everywhere),
    Play(page="two-providers", promise=over_one_session, readers=2),
    Play(
        page="muc-and-services",
        promise=over_one_session,
        more_domains=("example.org",),
        services=("irc.example.com",),
        before="one-server",
    ),
)


def silently(blocks: list[page.Block]) -> list[page.Block]:
    """The page up to where people begin to talk."""
    return list(itertools.takewhile(lambda block: block.language != "chat", blocks))


@contextmanager
def providers(play: Play, fedmux: Path) -> Iterator[tuple[Internet, list[Provider]]]:
    """Two of them, each with a Prosody that the other one reaches."""
    world = Internet()
    there: list[Provider] = []
    try:
        for names, more, services in ((US, play.more_domains, play.services), (OTHER, (), ())):
            served = [prefix + domain for domain in ("example.com", *more) for prefix in ("", "rooms.")]
            zone = "xmpp.example.com. A 192.0.2.10\n" + "".join(ZONE.format(domain=domain) for domain in (*served, *services))
            world.publish(names.real(zone))
            there.append(Provider(world, names, fedmux))
            there[-1].start_prosody([names.real(domain) for domain in more])
        yield world, there
    finally:
        for provider in there:
            provider.end()
        world.end()


def perform(play: Play, fedmux: Path) -> None:
    with providers(play, fedmux) as (world, there):
        try:
            if play.before:
                Follower(world, there[1:], there).follow(silently(page.read(CONFIG / play.before / "README.md")))
            follower = Follower(world, there[: play.readers], there)
            try:
                follower.follow(page.read(CONFIG / play.page / "README.md"))
                play.promise(follower)
            finally:
                follower.end()
        except Exception:
            for provider in there:
                print(f"--- {provider.domain}\n{provider.logs()}")
            raise


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fedmux", type=Path, required=True, metavar="PATH", help="the relay's binary")
    parser.add_argument("--only", default="", metavar="NAME", help="only pages with this in their name")
    parser.add_argument("-v", "--verbose", action="store_true", help="say each step, and what was seen")
    chosen = parser.parse_args()
    chosen.fedmux = chosen.fedmux.resolve()
    if not chosen.fedmux.is_file():
        parser.error(f"{chosen.fedmux} does not exist; build it with cargo build --release")
    missing = [name for name in PROGRAMMES if not shutil.which(name)]
    if missing:
        sys.exit(f"not installed: {', '.join(missing)}; .ci/run says in which Debian packages they are")
    return chosen


def report(play: Play, fedmux: Path) -> bool:
    """Perform a play and print its line."""
    started = time.monotonic()
    verdict, detail = "ok", ""
    try:
        perform(play, fedmux)
    except (AssertionError, page.Unclear) as error:
        verdict, detail = "FAILED", f"\n{error}"
    except NoMachine:
        raise
    except Exception:  # whatever it is, the next page can still be followed
        verdict = "FAILED"
        traceback.print_exc()
    print(f"{verdict:>6} {time.monotonic() - started:6.2f} s  config/{play.page}{detail}", flush=True)
    return verdict == "ok"


def main() -> int:
    chosen = options()
    Follower.verbose = chosen.verbose
    # So that what was started is ended, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped by a signal"))
    plays = [play for play in PLAYS if chosen.only in play.page]
    if not plays:
        sys.exit(f"no page has {chosen.only!r} in its name")
    try:
        internet.enter()
        return 0 if all([report(play, chosen.fedmux) for play in plays]) else 1
    except NoMachine as error:
        print(error)
        return 77


if __name__ == "__main__":
    sys.exit(main())
