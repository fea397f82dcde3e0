"""A network of our own, where the machine lets us: there nobody else holds the ports that can't be chosen, and addresses can be
added that reach further than loopback."""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import subprocess

CLONE_NEWNET = 0x40000000
QUEUE_MAX = 16
CONNECT_SECONDS = 0.3

RELAY = "10.99.0.1"
"""Where a relay's DNS responder listens, besides loopback."""
NAMED_CLIENT = "10.99.0.2"
"""Who may ask it."""
STRANGER = "10.99.0.3"
SERVER = "10.99.0.9"
"""Where a server listens at port 5269."""
DEAD = "fd00:99::9"
"""Its IPv6 address, where nothing answers."""

_entered = False


def enter() -> None:
    """Go on in a network namespace of our own, with these addresses, if we may. To be called before there is any thread."""
    global _entered
    if os.geteuid() != 0 or not shutil.which("ip"):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        return
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    addresses = (f"{RELAY}/32", f"{NAMED_CLIENT}/32", f"{STRANGER}/32", f"{SERVER}/32", f"{DEAD}/128")
    # A system without IPv6 doesn't take the last one: what needs it is left out then.
    added = [subprocess.run(["ip", "address", "add", address, "dev", "lo"], check=False).returncode == 0 for address in addresses]
    _entered = all(added)


def is_ours() -> bool:
    """Whether we have it."""
    return _entered


class DropsSyn:
    """An address and port that swallow what comes: a listener whose queue is full, which Linux answers with silence."""

    def __init__(self, address: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._listener = socket.socket(family)
        self._listener.bind((address, port))
        self._listener.listen(0)
        self._queued: list[socket.socket] = []
        while True:
            one = socket.socket(family)
            one.settimeout(CONNECT_SECONDS)
            try:
                one.connect((address, port))
            except TimeoutError:
                one.close()
                return
            self._queued.append(one)
            assert len(self._queued) < QUEUE_MAX, "this system takes connections for which there is no room"

    def close(self) -> None:
        """Answer again."""
        for one in (*self._queued, self._listener):
            one.close()
