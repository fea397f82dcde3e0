"""A small internet in a network namespace of its own: one wire, a DNS server for whatever has been published, and an authority whose
certificates everybody believes. Machines with a systemd each (`../systemd/machine.py`) are put on it.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "systemd"))

from machine import Machine, NoMachine  # noqa: E402

CLONE_NEWNET = 0x40000000
RESOLVER = "193.0.2.53"
WIRE = "wire"
# Below it every name exists that was published, and no other does; nobody has it outside.
ZONE = "zz"
DNS_SECONDS = 10
RECORD = re.compile(
    r"(?P<name>\S+)\.\s+(\d+\s+)?(IN\s+)?"
    r"(A\s+(?P<address>\S+)|SRV\s+(?P<priority>\d+)\s+(?P<weight>\d+)\s+(?P<port>\d+)\s+(?P<target>\S+)\.)$"
)


def enter() -> None:
    """Go on in a network namespace of our own. To be called before there is any thread."""
    if os.geteuid() != 0 or not shutil.which("ip"):
        raise NoMachine("needs root and iproute2")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        raise NoMachine(f"no network namespace can be made here: {os.strerror(ctypes.get_errno())}")
    ip("link", "set", "lo", "up")


def ip(*words: str) -> None:
    ran = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        raise NoMachine(f"ip {' '.join(words)}: {ran.stderr.strip()}")


class Internet:
    """It is there from when it is made until `end`."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="fedmux-pages-")
        self.folder = Path(self._folder.name)
        self._zone: list[str] = []
        self._dnsmasq: subprocess.Popen[bytes] | None = None
        self._ports: list[str] = []
        ip("link", "add", WIRE, "type", "bridge")
        ip("address", "add", f"{RESOLVER}/32", "dev", WIRE)
        ip("link", "set", WIRE, "up")
        ip("route", "add", "default", "dev", WIRE)
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{self.folder}/ca.key"]
        authority = ["-subj", "/CN=The authority of the pages", "-days", "30", "-out", f"{self.folder}/ca.pem"]
        subprocess.run(["openssl", "req", "-x509", *key, *authority], check=True, capture_output=True)

    @property
    def authority(self) -> Path:
        return self.folder / "ca.pem"

    def join(self, machine: Machine, address: str) -> None:
        """Put a machine on the wire. Everybody is reached directly."""
        ours = f"port{len(self._ports)}"
        ip("link", "add", ours, "type", "veth", "peer", "name", "eth0", "netns", str(machine.pid))
        ip("link", "set", ours, "master", WIRE, "up")
        self._ports.append(ours)
        machine.run(f"ip address add {address}/32 dev eth0; ip link set eth0 up; ip route add default dev eth0")
        machine.run(f"rm -f /etc/resolv.conf; echo 'nameserver {RESOLVER}' >/etc/resolv.conf")

    def publish(self, zone: str) -> None:
        """Add the records of these lines of a zone file."""
        for line in zone.splitlines():
            record = RECORD.match(line)
            if not record:
                raise AssertionError(f"this is no A or SRV record: {line!r}")
            if record["target"]:
                fields = ",".join([record["target"], record["port"], record["priority"], record["weight"]])
                self._zone.append(f"srv-host={record['name']},{fields}")
            else:
                self._zone.append(f"host-record={record['name']},{record['address']}")
        self._serve()

    def _serve(self) -> None:
        if self._dnsmasq:
            self._dnsmasq.terminate()
            self._dnsmasq.wait()
        config = self.folder / "dnsmasq.conf"
        head = [f"listen-address={RESOLVER}", f"local=/{ZONE}/", "bind-interfaces", "no-resolv", "no-hosts", "user=root", "pid-file"]
        config.write_text("".join(f"{line}\n" for line in [*head, "log-queries", "log-facility=-", *self._zone]))
        with (self.folder / "dnsmasq.log").open("ab") as log:
            command = ["dnsmasq", "--keep-in-foreground", f"--conf-file={config}"]
            self._dnsmasq = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + DNS_SECONDS
        while f"{RESOLVER}:53 " not in subprocess.run(["ss", "-lunH"], check=True, capture_output=True, text=True).stdout:
            if self._dnsmasq.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"dnsmasq doesn't serve: {(self.folder / 'dnsmasq.log').read_text()}")
            time.sleep(0.01)

    def end(self) -> None:
        if self._dnsmasq:
            self._dnsmasq.kill()
            self._dnsmasq.wait()
        # A machine's end goes with its namespace, which goes when it likes.
        for link in (*self._ports, WIRE):
            subprocess.run(["ip", "link", "delete", link], check=False, capture_output=True)
        self._folder.cleanup()
