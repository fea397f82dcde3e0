#!/usr/bin/env python3
"""A path of whole packets between two machines: TLS over TCP beside QUIC where packets are lost, and who gets what of a bottleneck.

    cargo bench --bench relay --no-run && cargo build --release
    python3 benches/path.py loss     # Direct TLS (XEP-0451 on one connection), one QUIC stream for all pairs, and one for each
    python3 benches/path.py share    # a relay beside another bulk flow, through a queue that both have to share

Each machine is a network namespace with a TUN device. A process of ours passes packets from one to the other: later, and some not at
all, by a seed. Servers that send and count are those of `cargo bench --bench relay`. For root; without, or without TUN, it says so
and does nothing.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import fcntl
import itertools
import json
import math
import multiprocessing
import os
import random
import select
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from multiprocessing.connection import Connection
from pathlib import Path as File

ROOT = File(__file__).resolve().parents[1]
TUN, TUNSETIFF, IFF_TUN, IFF_NO_PI = "/dev/net/tun", 0x400454CA, 1, 0x1000
NEEDED = ("ip", "unshare", "nsenter")
NETWORK, ADDRESSES = "10.78.0.0/24", ("10.78.0.1", "10.78.0.2")
PACKET_BYTES_MAX = 65536
# Packets that are taken before those that are due are looked at again.
BATCH = 64
PROTOCOLS = {6: "tcp", 17: "udp"}
LOCAL, QUIC, DIRECT_TLS, OTHER = 5266, 5269, 5270, 5300
LISTENING, ESTABLISHED = "0A", "01"
START_SECONDS = 20
# Later than the median before anything was lost times this is late, as in src/demo/floor.rs.
LATE_FACTOR = 1.5
# Without losses: they tell the delay; and as many again, what the machine alone makes late.
CALM_SECONDS = 5
# Until flows that share a bottleneck have found their windows.
SETTLE_SECONDS = 10
# Who sleeps so long and is woken so much later was kept from work by the machine.
WATCH_SECONDS = 0.005
BULK_PAIRS, BULK_BYTES = 4, 1000
# How a session is carried: what the peer's entry says of it, and the congestion control of the system's TCP.
WAYS = {
    "Direct TLS, TCP Cubic": ('transport = "direct-tls"', "cubic"),
    "Direct TLS, TCP BBR": ('transport = "direct-tls"', "bbr"),
    "QUIC, one stream for all": ('placement = "one-stream"', None),
    "QUIC, a stream for each": ("", None),
}
# Other bulk flows: of the system's TCP, and of QUIC with its library's own settings.
TCP_CUBIC, QUIC_CUBIC = "plain TCP, Cubic", "plain QUIC, Cubic"
CONTROLLERS = {
    "Cubic, floor 64 kB": "",
    "Cubic as it is": "congestion_window_min = 0",
    "BBR": 'congestion = "bbr"',
}
RELAY = """
[identity]
certificates = "certs/live/{first}"
trust = "certs/ca.pem"
[remote]
quic = "{here}:{quic}"
direct_tls = "{here}:{direct_tls}"
[local]
s2s = "127.0.0.1:{local}"
[limits]
{limits}
[[host]]
domains = {ours}
deliver = "{sink}"
local_auth = "trusted"
trusted_loopback = true
[[peer]]
domains = {theirs}
address = "{there}:{port}"
{way}
"""
# A bulk flow of the system's TCP.
TCP_SENDS = "import socket, sys, time; s = socket.create_connection((sys.argv[1], int(sys.argv[2]))); end = time.monotonic() + float(sys.argv[3])\nwhile time.monotonic() < end: s.sendall(bytes(65536))"
TCP_READS = "import socket, sys; l = socket.create_server((sys.argv[1], int(sys.argv[2]))); print(); sys.stdout.flush(); s = l.accept()[0]\nwhile s.recv(65536): pass"


class Failed(Exception):
    """What went wrong, in words."""


class Direction:
    """One way of a path."""

    def __init__(self, source: int, target: int, seed: int) -> None:
        self.source, self.target = source, target
        self.random = random.Random(seed)
        self.under_way: collections.deque[tuple[float, bytes]] = collections.deque()
        self.idle_from = 0.0
        self.lost = 0
        self.passed: collections.Counter[str] = collections.Counter()
        self.crowded: collections.Counter[str] = collections.Counter()

    def take(self, packet: bytes, now: float, setting: dict[str, float]) -> None:
        """Take a packet: lose it, drop it because the queue of the bottleneck is full, or note when it is due."""
        protocol = PROTOCOLS.get(packet[9]) if packet[0] >> 4 == 4 else None
        if protocol is None:
            return
        if self.random.random() < setting["loss"]:
            self.lost += 1
            return
        start = (packet[0] & 15) * 4
        flow = f"{protocol} {int.from_bytes(packet[start + 2 : start + 4], 'big')}"
        through = now
        if setting["rate"]:
            begins = max(now, self.idle_from)
            if begins - now > setting["queue"]:
                self.crowded[flow] += 1
                return
            through = self.idle_from = begins + len(packet) / setting["rate"]
        self.passed[flow] += len(packet)
        self.under_way.append((through + setting["one_way"], packet))

    def deliver(self, now: float) -> float | None:
        """Pass on what is due. In how many seconds the next one is."""
        while self.under_way and self.under_way[0][0] <= now:
            os.write(self.target, self.under_way.popleft()[1])
        return self.under_way[0][0] - now if self.under_way else None


def forward(ends: Sequence[int], seed: int, orders: Connection) -> None:
    """The process that passes packets on, until nobody is there to tell it otherwise."""
    there, back = Direction(*ends, seed), Direction(*reversed(ends), ~seed)
    setting = {"loss": 0.0, "rate": 0.0, "queue": 0.0, "one_way": 0.0}
    while True:
        dues = [due for way in (there, back) if (due := way.deliver(time.monotonic())) is not None]
        readable, _, _ = select.select([*ends, orders], [], [], max(0.0, min(dues)) if dues else None)
        now = time.monotonic()
        for way in (there, back):
            if way.source in readable:
                for _ in range(BATCH):
                    try:
                        way.take(os.read(way.source, PACKET_BYTES_MAX), now, setting)
                    except BlockingIOError:
                        break
        if orders in readable:
            try:
                setting |= orders.recv()
            except EOFError:
                return
            orders.send({"lost": there.lost + back.lost, "passed": dict(there.passed), "crowded": dict(there.crowded)})


def run(*words: str | File, cwd: File | None = None) -> str:
    """Run a command, and say what it printed."""
    done = subprocess.run(words, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failed(f"{' '.join(map(str, words))}: {done.stderr.strip()}")
    return done.stdout


class Path:
    """Two machines and what joins them."""

    def __init__(self, round_trip_ms: float, seed: int) -> None:
        self.machines = [self._machine() for _ in ADDRESSES]
        ends, self._names = [], []
        for machine, address in zip(self.machines, ADDRESSES, strict=True):
            end = os.open(TUN, os.O_RDWR | os.O_NONBLOCK)
            told = fcntl.ioctl(end, TUNSETIFF, struct.pack("16sH22x", b"", IFF_TUN | IFF_NO_PI))
            name = told[:16].rstrip(b"\0").decode()
            run("ip", "link", "set", name, "netns", str(machine.pid))
            for words in ("link set lo up", f"address add {address}/24 dev {name}", f"link set {name} mtu 1500 up"):
                run(*self.within(machine), "ip", *words.split())
            ends.append(end)
            self._names.append(name)
        self._orders, theirs = multiprocessing.Pipe()
        self._forwards = multiprocessing.Process(target=forward, args=(ends, seed, theirs), daemon=True)
        self._forwards.start()
        for end in ends:
            os.close(end)
        self.set(one_way=round_trip_ms / 2000)

    @staticmethod
    def _machine() -> subprocess.Popen[bytes]:
        machine = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; read end"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        machine.stdout.read(1)
        return machine

    @staticmethod
    def within(machine: subprocess.Popen[bytes]) -> list[str]:
        """What runs a command on a machine."""
        return ["nsenter", "-t", str(machine.pid), "-n"]

    def tcp(self, controller: str) -> None:
        """Choose the congestion control of TCP: of the route, as not every one may be a namespace's default."""
        for machine, name in zip(self.machines, self._names, strict=True):
            run(*self.within(machine), "ip", *f"route replace {NETWORK} dev {name} congctl {controller}".split())

    def set(self, **setting: float) -> dict:
        """Change what it does: `loss` as a share, `rate` in octets a second, `queue` and `one_way` in seconds. What it has done until now."""
        self._orders.send(setting)
        return self._orders.recv()

    def close(self) -> None:
        """Take it away."""
        self._forwards.kill()
        for machine in self.machines:
            machine.kill()
            machine.wait()


class Role:
    """A process of the Rust bench: it answers each order, a line, with a line of JSON."""

    def __init__(self, *words: str | File) -> None:
        self.process = subprocess.Popen([str(word) for word in words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.said = self._hear()

    def _hear(self) -> object:
        line = self.process.stdout.readline()
        if not line:
            raise Failed(f"it has ended: {' '.join(self.process.args)}")
        return json.loads(line)

    def ask(self, order: str) -> dict:
        self.process.stdin.write(f"{order}\n")
        self.process.stdin.flush()
        return self._hear()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


class Stage:
    """A path, a relay at either end, the server that sends before the first, and the one that counts behind the second."""

    def __init__(self, options: argparse.Namespace, pairs: int, octets: int, round_trip: float) -> None:
        self.options, self.pairs, self.octets = options, pairs, octets
        self.folder = File(tempfile.mkdtemp(prefix="fedmux-path-"))
        self.path = Path(round_trip, options.seed)
        self.running: list[subprocess.Popen | Role] = []

    def start(self, way: str, limits: str = "") -> None:
        """Start everything."""
        options, (near, far) = self.options, map(Path.within, self.path.machines)
        hosts = math.isqrt(self.pairs - 1) + 1
        sides = [[f"{side}{at}.test" for at in range(hosts)] for side in "ab"]
        for ours in sides:
            run(options.fedmux.resolve(), "certs", "dev", "--out", "certs", *ours, cwd=self.folder)
        self.sink = self._role(*far, options.bench, "sink", "--bytes", str(self.octets))
        port = DIRECT_TLS if "direct-tls" in way else QUIC
        relays = []
        for which, within in enumerate((near, far)):
            text = RELAY.format(
                ours=json.dumps(sides[which]), theirs=json.dumps(sides[1 - which]), here=ADDRESSES[which], there=ADDRESSES[1 - which],
                port=port, local=LOCAL, quic=QUIC, direct_tls=DIRECT_TLS, limits=limits, sink=self.sink.said, way=way,
                first=sides[which][0],
            )  # fmt: skip
            (self.folder / f"{which}.toml").write_text(text)
            with (self.folder / f"{which}.log").open("wb") as log:
                words = [*within, str(options.fedmux.resolve()), "run", "--config", f"{which}.toml"]
                relays.append(subprocess.Popen(words, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log))
            self.running.append(relays[-1])
        self.relay = relays[0]
        for relay in relays:
            self._wait_for(relay)
        words = ("source", "--relay", f"127.0.0.1:{LOCAL}", "--pairs", str(self.pairs), "--bytes", str(self.octets))
        self.source = self._role(*near, options.bench, *words)

    def _role(self, *words: str | File) -> Role:
        role = Role(*words)
        self.running.append(role)
        return role

    def _wait_for(self, relay: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + START_SECONDS
        while not sockets(relay, LOCAL, LISTENING):
            if relay.poll() is not None or time.monotonic() > end:
                raise Failed(f"a relay doesn't listen; logs: {self.folder}")
            time.sleep(0.02)

    def play(self, order: str, report: str = "report", patient: bool = False) -> dict:
        """Let the source do something; what came of it, and how much is missing when the relay has answered for all of it. That is an
        error, unless we are `patient`."""
        sent, came = self.source.ask(order), self.sink.ask(report)
        missing = sent["stanzas"] - came["stanzas"] - came["returned"]
        if came["odd"] or missing < 0 or missing and not patient:
            raise Failed(f"{sent['stanzas']} sent, {came['stanzas']} arrived; {came['odd']}")
        return came | {"missing": missing}

    def close(self) -> None:
        """End everything."""
        for each in reversed(self.running):
            if isinstance(each, Role):
                each.close()
            else:
                each.kill()
                each.wait()
        self.path.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def sockets(process: subprocess.Popen[bytes], port: int, state: str) -> int:
    """TCP sockets with this port at either end, of the machine on which a process runs."""
    lines = [line.split() for line in File(f"/proc/{process.pid}/net/tcp").read_text().splitlines()[1:]]
    ending = f":{port:04X}"
    return sum(fields[3] == state and (fields[1].endswith(ending) or fields[2].endswith(ending)) for fields in lines)


def watch(work: Sequence) -> float:
    """Wait for work, and say in which share of that time the machine let nobody work."""
    begin, stalled = time.monotonic(), 0.0
    while wait(work, timeout=0).not_done:
        asleep = time.monotonic()
        time.sleep(WATCH_SECONDS)
        late = time.monotonic() - asleep - WATCH_SECONDS
        stalled += late if late > WATCH_SECONDS else 0.0
    return stalled / (time.monotonic() - begin)


def beside(stages: dict, work) -> tuple[dict, float]:
    """Do the same with all of these at the same time. What came of each, and how far the machine stalled."""
    with ThreadPoolExecutor(len(stages)) as pool:
        tasks = {name: pool.submit(work, name, stage) for name, stage in stages.items()}
        stalled = watch(list(tasks.values()))
        return {name: task.result() for name, task in tasks.items()}, stalled


def close(stages: dict) -> None:
    for stage in stages.values():
        stage.close()


def loss(options: argparse.Namespace) -> None:
    """The same traffic by each way, on paths that lose the same share."""
    print(f"\n{options.pairs} pairs, {options.rate:g} stanzas of {options.bytes} octets a second of each, {options.seconds:g} s\n")
    print("| loss, RTT | by | late | times what must be | p50, p95, p99 ms | late before | packets lost | machine stalled |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for round_trip, percent in itertools.product(options.rtt, options.loss):
        words = {"pairs": options.pairs, "rate": options.rate, "seconds": options.seconds, "loss": percent, "rtt": round_trip, "seed": options.seed}
        floor = json.loads(run(options.bench, "floor", *(f"--{name}={value:g}" for name, value in words.items())))[0]
        steady = f"steady {options.rate} {{}} {options.seed}".format

        def play(name: str, stage: Stage) -> dict:
            way, controller = WAYS[name]
            if controller:
                stage.path.tcp(controller)
            stage.start(way)
            stage.play(steady(1))
            late_after = stage.play(steady(CALM_SECONDS))["quantiles"][0] * LATE_FACTOR
            report = f"report {late_after * 1000:.0f}"
            stage.sink.ask(report)
            before = stage.play(steady(CALM_SECONDS), report)
            connections = sockets(stage.relay, DIRECT_TLS, ESTABLISHED)
            if connections != int(bool(controller)):
                raise Failed(f"{name}: {connections} connections by TLS over TCP")
            lost = stage.path.set(loss=percent / 100)["lost"]
            came = stage.play(steady(options.seconds), report, patient=True)
            lost = stage.path.set(loss=0)["lost"] - lost
            return came | {"before": before["late"] / before["stanzas"], "lost": lost}

        stages = {name: Stage(options, options.pairs, options.bytes, round_trip) for name in WAYS}
        try:
            found, stalled = beside(stages, play)
        finally:
            close(stages)
        for name, came in found.items():
            late, (p50, p95, p99, _) = (came["late"] + came["missing"]) / (came["stanzas"] + came["missing"]), came["quantiles"]
            under_way = f" ({came['missing']} still under way)" if came["missing"] else ""
            print(f"| {percent:g}%, {round_trip:g} ms | {name} | {late:.2%}{under_way} | {late / floor:.1f} | {p50:.0f}, {p95:.0f}, {p99:.0f} | {came['before']:.2%} | {came['lost']} | {stalled:.1%} |")
        print(f"| {percent:g}%, {round_trip:g} ms | must be late | {floor:.2%} | 1 | | | | |", flush=True)


def let(role: Role, order: str) -> None:
    """Let it do something; whether it says anything to that, nobody waits for."""

    def ask() -> None:
        with contextlib.suppress(Failed):
            role.ask(order)

    threading.Thread(target=ask, daemon=True).start()


def competing(stage: Stage, other: str, seconds: float) -> tuple[str, list[subprocess.Popen]]:
    """Start another bulk flow on a stage's path. Its name at the bottleneck, and its processes."""
    near, far = map(Path.within, stage.path.machines)
    if other == TCP_CUBIC:
        python = [sys.executable, "-c"]
        reads = subprocess.Popen([*far, *python, TCP_READS, ADDRESSES[1], str(OTHER)], stdout=subprocess.PIPE)
        reads.stdout.readline()
        return f"tcp {OTHER}", [reads, subprocess.Popen([*near, *python, TCP_SENDS, ADDRESSES[1], str(OTHER), str(seconds)])]
    raw = (stage.options.bench, "raw", "--plain", "--pairs", str(BULK_PAIRS), "--bytes", str(BULK_BYTES))
    reads = Role(*far, *raw, "--at", ADDRESSES[1])
    address, certificate = reads.said
    sends = Role(*near, *raw, "--at", ADDRESSES[0], "--to", address, "--certificate", certificate)
    let(sends, f"flood {seconds}")
    return f"udp {address.rpartition(':')[2]}", [reads.process, sends.process]


def share(options: argparse.Namespace) -> None:
    """A relay's bulk traffic beside another flow."""
    print(f"\n{BULK_PAIRS} pairs that send what goes, beside another flow, through {options.rate:g} Mbit/s; RTT {options.rtt:g} ms; {options.seconds:g} s, {options.repeats} times\n")
    print("| queue | one | the other | one, Mbit/s | the other, Mbit/s | share of the one | dropped, of each | machine stalled |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    span = SETTLE_SECONDS + options.seconds

    def play(name: tuple[str, str], stage: Stage) -> tuple[float, float, int, int]:
        controller, other = name
        stage.path.tcp("cubic")

        def begin(what: str) -> tuple[str, list[subprocess.Popen]]:
            if what not in CONTROLLERS:
                return competing(stage, what, span)
            let(stage.source, f"flood {span}")
            return f"udp {QUIC}", []

        if controller in CONTROLLERS:
            stage.start("", CONTROLLERS[controller])
            stage.sink.ask(f"apart {BULK_PAIRS} {BULK_PAIRS}")
            stage.play("steady 1 1 1")
        # Who comes first has an advantage, so they take turns at that.
        if stage.options.turn % 2 == 0:
            (own, processes), (theirs, more) = begin(controller), begin(other)
        else:
            (theirs, more), (own, processes) = begin(other), begin(controller)
        time.sleep(SETTLE_SECONDS)
        before = stage.path.set()
        time.sleep(options.seconds)
        after = stage.path.set()
        for process in processes + more:
            process.kill()
            process.wait()
        grown = [[after[what].get(flow, 0) - before[what].get(flow, 0) for flow in (own, theirs)] for what in ("passed", "crowded")]
        return (*(octets * 8 / 1e6 / options.seconds for octets in grown[0]), *grown[1])

    names = [(controller, other) for other in (TCP_CUBIC, QUIC_CUBIC) for controller in (*CONTROLLERS, QUIC_CUBIC)]
    for queue in options.queue:
        found, stalled = collections.defaultdict(list), 0.0
        for turn, at in itertools.product(range(options.repeats), range(0, len(names), options.beside)):
            stages = {}
            for name in names[at : at + options.beside]:
                seeded = argparse.Namespace(**vars(options) | {"seed": options.seed + turn, "turn": turn})
                stages[name] = Stage(seeded, BULK_PAIRS, BULK_BYTES, options.rtt)
                stages[name].path.set(rate=options.rate * 1e6 / 8, queue=queue / 1000)
            try:
                came, share_stalled = beside(stages, play)
            finally:
                close(stages)
            stalled = max(stalled, share_stalled)
            for name, flows in came.items():
                found[name].append(flows)
        for (controller, other), turns in found.items():
            own, theirs, dropped, dropped_theirs = (statistics.median(column) for column in zip(*turns, strict=True))
            shares = sorted(turn[0] / (turn[0] + turn[1]) for turn in turns)
            middle = statistics.median(shares)
            print(f"| {queue:g} ms | {controller} | {other} | {own:.1f} | {theirs:.1f} | {middle:.0%} ({shares[0]:.0%}-{shares[-1]:.0%}) | {dropped:.0f}, {dropped_theirs:.0f} | {stalled:.1%} |", flush=True)


def bench() -> File:
    """The bench that cargo builds."""
    told = run("cargo", "bench", "--bench", "relay", "--no-run", "--message-format=json", cwd=ROOT)
    built = [json.loads(line).get("executable") for line in told.splitlines() if '"name":"relay"' in line]
    return File(next(filter(None, built)))


def missing() -> str | None:
    """What this machine lacks."""
    if os.geteuid() != 0:
        return "only root may make networks"
    if not os.access(TUN, os.R_OK | os.W_OK):
        return f"{TUN} isn't to be had"
    return next((f"there is no command {command}" for command in NEEDED if not shutil.which(command)), None)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    scenes = parser.add_subparsers(required=True)
    numbers = {"type": float, "nargs": "+", "metavar": "N"}
    for scene, seconds in ((loss, 40), (share, 20)):
        one = scenes.add_parser(scene.__name__, help=scene.__doc__)
        one.set_defaults(scene=scene)
        one.add_argument("--fedmux", type=File, default=ROOT / "target/release/fedmux", help="the relay's binary (default: target/release/fedmux)")
        one.add_argument("--bench", type=File, help="the binary of the bench (default: what cargo builds)")
        one.add_argument("--seed", type=int, default=1, help="what decides which packets are lost (default: 1)")
        one.add_argument("--seconds", type=float, default=seconds, help=f"how long each figure takes (default: {seconds})")
        if scene is loss:
            one.add_argument("--pairs", type=int, default=20, help="domain pairs (default: 20)")
            one.add_argument("--rate", type=float, default=10, help="stanzas a second of each (default: 10)")
            one.add_argument("--bytes", type=int, default=300, help="octets of each (default: 300)")
            one.add_argument("--loss", **numbers, default=[1], help="packets that are lost, in percent (default: 1)")
            one.add_argument("--rtt", **numbers, default=[100], help="round trips, in milliseconds (default: 100)")
        else:
            one.add_argument("--rate", type=float, default=20, help="what the bottleneck lets through, in Mbit/s (default: 20)")
            one.add_argument("--queue", **numbers, default=[20, 50], help="how long its queue takes to empty when full, in milliseconds (default: 20 50)")
            one.add_argument("--rtt", type=float, default=40, help="the round trip without a queue, in milliseconds (default: 40)")
            one.add_argument("--repeats", type=int, default=4, help="how often each figure is taken; the median counts (default: 3)")
            one.add_argument("--beside", type=int, default=8, help="figures that are taken at the same time, each on a path of its own (default: 8)")
    options = parser.parse_args()
    if lacks := missing():
        print(f"skipped: {lacks}")
        return 0
    try:
        options.bench = options.bench or bench()
        options.scene(options)
    except Failed as error:
        print(f"FAILED: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
