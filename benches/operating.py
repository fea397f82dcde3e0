#!/usr/bin/env python3
"""What it costs to look at a relay with thousands of pairs: `fedmux status` and a scrape, and what the traffic feels of them.

    python3 benches/operating.py --fedmux target/release/fedmux

Two real relays, with as many components (XEP-0114) behind each as are asked for; each exchanges messages with each at the other end,
at a steady rate. Then both questions are asked again and again, and timed. Then the traffic is measured with both asked once a second and
without, in turns: how late messages arrive, and the processor time that the relay takes. Quotients are of neighbouring turns; in these the
admin socket is asked without `fedmux status`, whose own work is shown before.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path[:0] = [str(TESTS / "interop"), str(TESTS / "dashboards")]

from certificates import make_certificates  # noqa: E402
from metrics import is_ready, scrape  # noqa: E402
from processes import Process, StageError, free_ports, until  # noqa: E402
from trouble import SECRET, Component  # noqa: E402

# What a status and a scrape may take.
STATUS_SECONDS_MAX = 1.0
SCRAPE_SECONDS_MAX = 0.1
START_SECONDS = 60
TICK_SECONDS = 0.01
# What is still on its way when a turn ends belongs to it.
LATE_SECONDS = 2
# To see what the traffic alone takes.
QUIET_SECONDS = 4
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
ADMIN_SOCKET, SCRAPE = "the admin socket alone", "scrape"
ID = re.compile(rb"""\bid=['"](\d+)['"]""")
RELAY = """
[identity]
certificates = "{name}"
trust = "ca.pem"
[remote]
quic = "127.0.0.1:{quic}"
[local]
components = "127.0.0.1:{components}"
[admin]
listen = "127.0.0.1:{metrics}"
socket = "{name}.sock"
[[peer]]
domains = ["*.{other}.test"]
address = "127.0.0.1:{other_quic}"
"""
COMPONENT = """
[[component]]
domain = "{domain}"
secret_file = "secret"
"""


class Counting(Component):
    """Remembers when each message arrived."""

    def __init__(self, domain: str, port: int, arrived: dict[int, float]) -> None:
        super().__init__(domain, port)
        self.arrived = arrived

    async def _hear(self, reader: asyncio.StreamReader) -> None:
        rest = b""
        while octets := await reader.read(65536):
            now = time.perf_counter()
            whole, tag, rest = (rest + octets).rpartition(b"</message>")
            for number in ID.findall(whole + tag):
                self.arrived[int(number)] = now

    def number(self, to: str, number: int) -> None:
        self.say(f"<message from='a@{self.domain}' to='b@{to}' type='chat' id='{number}'><body>a message of a hundred octets, or about as many</body></message>")


class End:
    """A relay with its components."""

    def __init__(self, fedmux: Path, folder: Path, name: str, hosts: int, arrived: dict[int, float]) -> None:
        self.name = name
        self.folder = folder
        self.ports = dict(zip(("quic", "components", "metrics"), free_ports(3), strict=True))
        self.relay = Process(name, [fedmux, "run", "--config", f"{name}.toml"], folder / f"{name}.log", folder)
        self.components = [Counting(f"h{number}.{name}.test", self.ports["components"], arrived) for number in range(hosts)]

    async def start(self, other: End) -> None:
        fedmux = Path(self.relay.command[0])
        domains = [component.domain for component in self.components]
        await make_certificates(fedmux, self.folder, domains)
        (self.folder / f"live/{domains[0]}").rename(self.folder / self.name)
        text = RELAY.format(name=self.name, other=other.name, other_quic=other.ports["quic"], **self.ports)
        (self.folder / f"{self.name}.toml").write_text(text + "".join(COMPONENT.format(domain=domain) for domain in domains))
        await self.relay.start()
        await until("the relay is ready", lambda: is_ready(self.ports["metrics"]), seconds=START_SECONDS, watch=[self.relay])
        for component in self.components:
            await component.come()

    def processor_seconds(self) -> float:
        """What the relay has used until now."""
        fields = Path(f"/proc/{self.relay.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND


class Traffic:
    """Messages over all pairs in turn, in both directions, at a steady rate."""

    def __init__(self, ends: tuple[End, End], arrived: dict[int, float], rate: int) -> None:
        self.ends = ends
        self.arrived = arrived
        self.rate = rate
        self.sent: dict[int, float] = {}
        hosts = len(ends[0].components)
        self.routes = [(end, near, far) for near in range(hosts) for far in range(hosts) for end in (0, 1)]

    def send(self, number: int) -> None:
        end, near, far = self.routes[number % len(self.routes)]
        self.sent[number] = time.perf_counter()
        self.ends[end].components[near].number(self.ends[1 - end].components[far].domain, number)

    async def go_on(self) -> None:
        begun, number = time.perf_counter(), 0
        while True:
            while number < (time.perf_counter() - begun) * self.rate:
                self.send(number)
                number += 1
            await asyncio.sleep(TICK_SECONDS)

    async def turn(self, seconds: float) -> dict[str, float]:
        """Watch for so long."""
        first, before = len(self.sent), [end.processor_seconds() for end in self.ends]
        await asyncio.sleep(seconds)
        last, after = len(self.sent), [end.processor_seconds() for end in self.ends]
        await asyncio.sleep(LATE_SECONDS)
        missing = [number for number in range(first, last) if number not in self.arrived]
        assert not missing, f"{len(missing)} of {last - first} messages have not arrived after {LATE_SECONDS} s"
        late = sorted(self.arrived[number] - self.sent[number] for number in range(first, last))
        return {
            "messages": last - first,
            "median_ms": late[len(late) // 2] * 1000,
            "p99_ms": late[len(late) * 99 // 100] * 1000,
            "asked_relay_seconds": after[0] - before[0],
            "other_relay_seconds": after[1] - before[1],
        }


def say(text: str) -> None:
    print(text, flush=True)


def children_seconds() -> float:
    """What commands that were run have used of a processor."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def asked(what: str, repeats: int, ask: Callable[[], int], relay: End, most: float) -> bool:
    """Ask so often; whether even the slowest answer came in time. The relay's share of a processor is what it uses besides its traffic."""
    before, begun = relay.processor_seconds(), time.perf_counter()
    time.sleep(QUIET_SECONDS)
    share = (relay.processor_seconds() - before) / (time.perf_counter() - begun)
    took, octets, before, commands = [], 0, relay.processor_seconds(), children_seconds()
    for _ in range(repeats):
        begun = time.perf_counter()
        octets = ask()
        took.append(time.perf_counter() - begun)
    used = (relay.processor_seconds() - before - share * sum(took)) / repeats
    commands = (children_seconds() - commands) / repeats
    well = max(took) <= most
    say(
        f"{what:22} median {statistics.median(took) * 1000:6.1f} ms, longest {max(took) * 1000:6.1f} ms, {octets / 1024:6.0f} KiB;"
        f" processor time: relay {used * 1000:5.1f} ms, command {commands * 1000:5.1f} ms  {'' if well else f'MORE THAN {most:g} s'}"
    )
    return well


def questions(fedmux: Path, end: End) -> dict[str, Callable[[], int]]:
    """Each answers with its octets."""
    config = str(end.folder / f"{end.name}.toml")

    def status(*more: str) -> int:
        return len(subprocess.run([fedmux, "status", "--config", config, *more], check=True, capture_output=True).stdout)

    def ask_socket() -> int:
        octets = 0
        with socket.socket(socket.AF_UNIX) as stream:
            stream.connect(str(end.folder / f"{end.name}.sock"))
            stream.sendall(b'{"ask":"status"}\n')
            while piece := stream.recv(1 << 20):
                octets += len(piece)
        return octets

    def scrape_once() -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{end.ports['metrics']}/metrics", timeout=10) as answer:
            return len(answer.read())

    return {"fedmux status": status, "fedmux status --json": lambda: status("--json"), ADMIN_SOCKET: ask_socket, SCRAPE: scrape_once}


async def ask_each_second(fedmux: Path, end: End) -> None:
    """As an operator who watches, and Prometheus in a hurry."""
    all_of_them = questions(fedmux, end)
    while True:
        begun = time.perf_counter()
        for name in (ADMIN_SOCKET, SCRAPE):
            await asyncio.to_thread(all_of_them[name])
        await asyncio.sleep(max(0, 1 - (time.perf_counter() - begun)))


async def compare(fedmux: Path, traffic: Traffic, pairs: int, seconds: float) -> list[dict[str, dict[str, float]]]:
    """Turns with and without questions. Which comes first alternates."""
    found = []
    for number in range(pairs):
        pair = {}
        for kind in ("quiet", "asked") if number % 2 else ("asked", "quiet"):
            asking = asyncio.create_task(ask_each_second(fedmux, traffic.ends[0])) if kind == "asked" else None
            pair[kind] = await traffic.turn(seconds)
            if asking:
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
        found.append(pair)
        say(f"turns {number + 1}: " + "; ".join(f"{kind} " + ", ".join(f"{name} {value:.3g}" for name, value in pair[kind].items()) for kind in ("quiet", "asked")))
    return found


async def measure(options: argparse.Namespace, folder: Path) -> bool:
    fedmux = options.fedmux.resolve()
    (folder / "secret").write_text(SECRET)
    (folder / "secret").chmod(0o600)
    arrived: dict[int, float] = {}
    near, far = (End(fedmux, folder, name, options.hosts, arrived) for name in ("a", "b"))
    traffic = Traffic((near, far), arrived, options.rate)
    going: asyncio.Task | None = None
    try:
        await near.start(far)
        await far.start(near)
        going = asyncio.create_task(traffic.go_on())
        everywhere = len(traffic.routes)

        async def all_heard() -> bool:
            await asyncio.sleep(0.2)
            return sum(number in arrived for number in range(everywhere)) == everywhere

        await until("each pair has heard in both directions", all_heard, seconds=START_SECONDS + everywhere / options.rate, watch=[near.relay, far.relay])
        seen = await scrape(near.ports["metrics"])
        pairs, connections = seen.total("fedmux_domain_pairs"), seen.total("fedmux_connections")
        say(f"{pairs:.0f} pairs on {connections:.0f} connection(s), {options.rate} messages a second over all of them, in both directions; load average {os.getloadavg()[0]:.1f}")
        well = True
        for name, ask in questions(fedmux, near).items():
            most = SCRAPE_SECONDS_MAX if name == SCRAPE else STATUS_SECONDS_MAX
            well &= await asyncio.to_thread(asked, name, options.repeats, ask, near, most)
        found = await compare(fedmux, traffic, options.turns, options.seconds)
        for name in ("median_ms", "p99_ms", "asked_relay_seconds", "other_relay_seconds"):
            quotients = [pair["asked"][name] / pair["quiet"][name] for pair in found]
            say(f"{name:22} asked / quiet: median {statistics.median(quotients):.2f}, from {min(quotients):.2f} to {max(quotients):.2f}")
        if options.json:
            options.json.write_text(json.dumps(found, indent=1))
        return well
    finally:
        if going:
            going.cancel()
        for end in (near, far):
            end.relay.kill()
            await end.relay.stop()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fedmux", type=Path, required=True, help="the binary")
    parser.add_argument("--hosts", type=int, default=71, help="components behind each relay; there are so many pairs, squared (default: 71)")
    parser.add_argument("--rate", type=int, default=1000, help="messages a second, over all pairs (default: 1000)")
    parser.add_argument("--repeats", type=int, default=20, help="how often each question is asked (default: 20)")
    parser.add_argument("--turns", type=int, default=6, help="pairs of turns (default: 6)")
    parser.add_argument("--seconds", type=float, default=8, help="how long a turn takes (default: 8)")
    parser.add_argument("--json", type=Path, help="write what each turn gave to this file")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="fedmux-operating-"))
    try:
        well = asyncio.run(measure(options, folder))
    except (AssertionError, StageError) as error:
        print(f"FAILED: {error}\nlogs: {folder}", file=sys.stderr)
        return 1
    shutil.rmtree(folder)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
