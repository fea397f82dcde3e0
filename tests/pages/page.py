"""A page as somebody reads who does what it says: its fenced blocks, in order, and whether what was seen is what it says.

The language of a block says what its reader does with it:

    sh         type it, as root in the folder of the sources; each command has to succeed
    text       compare it with what the commands above have said. `...` stands for what varies, and alone on a line for any lines
    dns        publish it: lines of a zone file
    chat       say it with a chat program; see chat.py
    component  give these settings to a component, and start it
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

LANGUAGES = ("sh", "text", "dns", "chat", "component")
FENCE = re.compile(r"```(?P<language>\w*)$")


class Unclear(Exception):
    """The page can't be followed; the message says where and why."""


@dataclass(frozen=True)
class Block:
    """What stands between two fences."""

    language: str
    lines: tuple[str, ...]
    place: str

    @property
    def text(self) -> str:
        return "\n".join(self.lines) + "\n"


def read(path: Path) -> list[Block]:
    """The blocks of a page."""
    blocks: list[Block] = []
    lines = iter(enumerate(path.read_text().splitlines(), 1))
    for number, line in lines:
        place = f"{path.parent.name}/{path.name}:{number}"
        if fence := FENCE.match(line):
            if fence["language"] not in LANGUAGES:
                raise Unclear(f"{place}: nobody knows what to do with a block of {fence['language'] or 'no language'}")
            inside = []
            for _, line in lines:
                if line == "```":
                    break
                inside.append(line)
            else:
                raise Unclear(f"{place}: the block has no end")
            blocks.append(Block(fence["language"], tuple(inside), place))
        elif line.startswith(("    ", "\t")) or "```" in line:
            raise Unclear(f"{place}: this looks like a block and has no fence of its own, so nobody would follow it: {line!r}")
    for before, block in zip([None, *blocks], blocks):
        if block.language == "text" and (before is None or before.language != "sh"):
            raise Unclear(f"{block.place}: there are no commands above whose output this could be")
    return blocks


def differs(expected: str, seen: str) -> str | None:
    """Where what was seen isn't what the page says; nothing if it is. How wide columns are doesn't matter."""
    wanted, got = ([" ".join(line.split()) for line in text.splitlines()] for text in (expected, seen))
    furthest = (0, 0)

    def fits(at_wanted: int, at_got: int) -> bool:
        nonlocal furthest
        while at_wanted < len(wanted):
            if wanted[at_wanted] == "...":
                return any(fits(at_wanted + 1, start) for start in range(at_got, len(got) + 1))
            furthest = max(furthest, (at_wanted, at_got))
            if at_got == len(got) or not fits_line(wanted[at_wanted], got[at_got]):
                return False
            at_wanted, at_got = at_wanted + 1, at_got + 1
        furthest = max(furthest, (at_wanted, at_got))
        return at_got == len(got)

    if fits(0, 0):
        return None
    at_wanted, at_got = furthest
    after = f" after {wanted[at_wanted - 1]!r}" if at_wanted else ""
    if at_wanted == len(wanted):
        return f"the page says nothing of {got[at_got]!r}{after}"
    return f"the page says {wanted[at_wanted]!r}{after}, and that was not seen"


def fits_line(wanted: str, got: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, wanted.split("..."))), got) is not None
