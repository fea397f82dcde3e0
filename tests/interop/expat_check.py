#!/usr/bin/env python3
"""Show stanzas that the framer passed to expat, the parser of most XMPP servers: it must accept every one.

Usage: expat_check.py FILE, a file of stanzas, each behind its length in four octets, big-endian.
`cargo test --test xml -- --ignored` writes one, see tests/xml/main.rs.
"""

import struct
import sys
from xml.parsers import expat

HEADER = b"<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams'>"
# What servers choose as separators: a space here, U+0001 in Prosody, a line feed in ejabberd; and one that would
# be a bad choice.
SEPARATORS = " \x01\n|"


def read(file):
    while prefix := file.read(4):
        (length,) = struct.unpack(">I", prefix)
        yield file.read(length)


def fault(stanza, separator):
    """Why expat doesn't take it as one child of a stream, or None."""
    parser = expat.ParserCreate(namespace_separator=separator)
    children = []
    depth = 0

    def start(name, _attributes):
        nonlocal depth
        if depth == 1:
            children.append(name)
        depth += 1

    def end(_name):
        nonlocal depth
        depth -= 1

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    try:
        parser.Parse(HEADER + stanza, False)
        if depth != 1:
            return f"it ends at depth {depth}"
        parser.Parse(b"</stream:stream>", True)
    except expat.ExpatError as error:
        return str(error)
    names = {f"jabber:server{separator}{name}" for name in ("message", "presence", "iq")}
    return None if len(children) == 1 and children[0] in names else f"children {children}"


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__.strip())
    count, distinct, faults = 0, set(), 0
    with open(sys.argv[1], "rb") as file:
        for stanza in read(file):
            count += 1
            if stanza in distinct:
                continue
            distinct.add(stanza)
            for separator in SEPARATORS:
                why = fault(stanza, separator)
                if why:
                    faults += 1
                    print(f"{why} (separator {separator!r}): {stanza!r}")
                    break
    print(f"{count} stanzas, {len(distinct)} distinct, {faults} refused by {expat.EXPAT_VERSION}")
    sys.exit(1 if faults or not count else 0)


if __name__ == "__main__":
    main()
