"""Whoever connects: run inside the machine, it opens a stream to [local] s2s as our own server would, and says what came of it.

    caller.py once      connect, print "waiting", and when the relay has answered, "answered"
    caller.py for-ever  connect and wait for the answer, again and again until stdin is closed; then the figures
"""

from __future__ import annotations

import select
import socket
import sys

RELAY = ("127.0.0.1", 5266)
PATIENCE_SECONDS = 30
HEADER = (
    "<?xml version='1.0'?><stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' "
    "from='a.example' to='b.example' version='1.0'>"
)


def connect() -> socket.socket:
    caller = socket.create_connection(RELAY, PATIENCE_SECONDS)
    caller.sendall(HEADER.encode())
    return caller


def once() -> None:
    caller = connect()
    print("waiting", flush=True)
    text = caller.recv(4096).decode()
    print("answered" if "id=" in text else f"not answered but {text!r}", flush=True)


def for_ever() -> None:
    answered = cut = refused = 0
    while not select.select([sys.stdin], [], [], 0)[0]:
        try:
            with connect() as caller:
                answered += bool(caller.recv(4096))
        except ConnectionRefusedError:
            refused += 1
        except OSError:
            cut += 1
    print(f"{answered} {cut} {refused}", flush=True)


if __name__ == "__main__":
    {"once": once, "for-ever": for_ever}[sys.argv[1]]()
