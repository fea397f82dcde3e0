#!/usr/bin/env python3
"""The dashboards and alerts of dashboards/, with a real Prometheus that scrapes real relays.

    python3 tests/dashboards/run.py --fedmux target/release/fedmux

First the files themselves: promtool, and that every metric named is declared. Then every panel's query on the two relays of `fedmux demo`,
and on four relays in trouble; and alerts that are brought about, with each minute of the rules a second. Needs Debian's prometheus and
strace.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import boards
import picture
from crowded import Crowded
from prometheus import Prometheus
from starved import NO_RANDOMNESS, NO_THREADS, Starved, Withheld
from trouble import Trouble

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "interop"))

from processes import Process, StageError, until  # noqa: E402

DEMO = ["demo", "--hosts", "8", "--stanzas", "300", "--certificates", "per-host", "--keep"]
DEMO_SECONDS = 60
DATA_SECONDS = 30
ALERT_SECONDS = 90
PROMTOOL_SECONDS = 120
# Between two rounds of questions: the relays need the processors too.
PAUSE_SECONDS = 0.25
RANGE = "15s"
# More than a hundred: FedmuxRefusals.
KNOCKS = 130
# The rules look ten seconds back: what has to be many goes on until there are enough, however slow the machine is.
ROUND_SECONDS = 0.5

# Panels that show nothing of two healthy relays: what they count has not happened.
NOTHING_HAPPENED = {
    "Alerts firing": "no alert fires",
    "Sessions ended": "the session stands",
    "Bounces by reason": "nothing bounces",
    "Refusals by reason": "nobody is refused",
    "Dial failures by reason": "whoever is dialled answers",
    "Limits hit": "no limit is hit",
    "Held up by rates": "the demo has no rates",
    "Proofs refused by reason": "every host is proven",
    "TLS and handshake failures by reason": "no handshake fails",
    "Look-ups": "the demo's peers are named in the configuration",
    "Time of look-ups": "the same",
    "Time of handshakes": "there is none while the session stands",
    "Time of proofs by mux secrets": "all are proven when the load goes on",
    "Look-ups without a way, by reason": "the same",
    "host-meta": "the same",
    "Stanzas by host": "the demo doesn't name hosts",
    "Octets by host": "the same",
}
# The same of single queries of panels that show something.
NOTHING_HAPPENED_OF = {
    "Custody ledger/C": "nothing bounces",
    "Acknowledged early, uncertain, resumed/B": "no stream ends without a word",
    "Acknowledged early, uncertain, resumed/C": "no stream breaks",
    "Certificates end/B": "the demo doesn't name hosts",
    "Reloads, drains and defects/A": "nothing is reloaded",
}
# What isn't brought about even by the relays in trouble. Its queries are asked all the same.
NOT_BROUGHT_ABOUT = {
    "Held up by rates": "no rate is configured",
    "Look-ups without a way, by reason/B": "tests/discovery does it: it takes a DNS server that leads inside",
    "host-meta/A": "tests/discovery does it: it takes a web server",
    "host-meta/B": "the same",
    "Acknowledged early, uncertain, resumed/C": "tests/custody does it: it takes a path that is cut",
    "Time of proofs by mux secrets": "all are proven when the load goes on",
}


def is_listed(query: boards.Query, *lists: dict[str, str]) -> bool:
    return any(name in each for each in lists for name in (query.panel, f"{query.panel}/{query.ref}"))


def say(text: str) -> None:
    print(f"{time.monotonic() - BEGUN:6.1f} s  {text}", flush=True)


class Run:
    """The relays, Prometheus, and what is asked of them."""

    def __init__(self, fedmux: Path, folder: Path, drawing: Path | None) -> None:
        self.picture = drawing
        for name in ("demo", "trouble", "prometheus", "targetless"):
            (folder / name).mkdir()
        self.demo = Process("demo", [fedmux, *DEMO], folder / "demo.log", folder / "demo", {"TMPDIR": str(folder / "demo")})
        self.starved = Starved(fedmux, folder / "trouble")
        self.trouble = Trouble(fedmux, folder / "trouble", self.starved.ports["quic"])
        self.crowded = Crowded(fedmux, folder / "trouble", self.trouble.ports["quic_worn"])
        rules = boards.hurried(boards.RULES.read_text())
        self.prometheus = Prometheus(folder / "prometheus", rules)
        self.targetless = Prometheus(folder / "targetless", rules)
        self.demo_instances: list[str] = []
        self.seen: set[str] = set()
        self.tasks: list[asyncio.Task] = []
        # Alerts whose cause can't be brought about here, but only in the tests of the rules: why.
        self.not_brought_about: dict[str, str] = {}

    @property
    def in_trouble(self) -> list[str]:
        return [*self.trouble.instances.values(), self.crowded.instance, self.starved.instance]

    @property
    def targets(self) -> list[str]:
        return [*self.demo_instances, *self.in_trouble]

    async def start(self) -> None:
        await self.demo.start()
        await self.trouble.start()
        await self.crowded.start()
        await self.starved.start()
        # The demo's relays only tell where they are when the demo has been played.
        await self.prometheus.start(self.in_trouble)
        # A second one, which nobody has told of any relay.
        await self.targetless.start([])

        async def keeps_on() -> bool:
            self.demo_instances = re.findall(r"metrics of relay .: http://(\S+)/metrics", self.demo.log.read_text())
            return len(self.demo_instances) == 2

        await until("the demo keeps on", keeps_on, seconds=DEMO_SECONDS, watch=[self.demo])
        self.prometheus.reload(self.targets)

    @staticmethod
    def values(instances: Iterable[str]) -> dict[str, str]:
        """What Grafana puts in place of its variables."""
        chosen = "|".join(re.escape(instance).replace("\\", "\\\\") for instance in instances)
        return {"instance": chosen, "session": ".+", "__rate_interval": RANGE}

    async def panels_show(self, what: str, instances: Iterable[str], *may_be_empty: dict[str, str]) -> None:
        """Every panel's query is answered, and with data unless it is in these lists. As long as some aren't, it is tried again."""
        values = self.values(instances)
        missing: list[boards.Query] = []

        async def all_show() -> bool:
            # In a thread of its own: what is said to the relays meanwhile goes on.
            missing[:] = await asyncio.to_thread(lambda: [query for query in boards.queries() if not self.prometheus.series(query.filled(values))])
            await asyncio.sleep(PAUSE_SECONDS)
            return all(is_listed(query, *may_be_empty) for query in missing)

        try:
            await until("every panel shows something", all_show, seconds=DATA_SECONDS)
        except StageError:
            names = [query.name for query in missing if not is_listed(query, *may_be_empty)]
            raise AssertionError(f"{what}: no data for {names}") from None
        say(f"{what}: {len(boards.queries()) - len(missing)} of {len(boards.queries())} queries have data, the others may have none")

    async def are_known(self) -> bool:
        """Whether what happens now is news: the rules look ten seconds back."""
        await asyncio.sleep(PAUSE_SECONDS)
        known = {sample["metric"]["instance"] for sample in self.prometheus.query("fedmux_build_info offset 10s")}
        return known >= set(self.in_trouble)

    async def fires(self, *alerts: str) -> None:
        """These alerts fire, together or one after the other."""
        waiting = set(alerts)

        async def all_fired() -> bool:
            await asyncio.sleep(PAUSE_SECONDS)
            for task in self.tasks:
                if task.done():
                    task.result()
            return waiting <= self.seen

        try:
            await until("they fire", all_fired, seconds=ALERT_SECONDS, watch=[self.prometheus.process])
        except StageError:
            raise AssertionError(f"don't fire: {sorted(waiting - self.seen)}; fired: {sorted(self.seen)}") from None
        say(f"fired: {', '.join(sorted(alerts))}")

    async def watch(self) -> None:
        """Note what fires, from now on: some does for a few seconds only."""
        while True:
            self.note(await asyncio.to_thread(lambda: self.prometheus.firing() | self.targetless.firing()))
            await asyncio.sleep(PAUSE_SECONDS)

    async def go_on(self, cause: Callable[[], Awaitable[None]], alert: str) -> None:
        """Bring this about again and again, until the alert has fired."""
        while alert not in self.seen:
            await cause()
            await asyncio.sleep(ROUND_SECONDS)

    def note(self, firing: dict[str, list[dict]]) -> None:
        """Remember what fires, and look at its words."""
        for name, found in firing.items():
            if name not in self.seen:
                self.seen.add(name)
                summary = found[0]["annotations"]["summary"]
                assert "error" not in summary and "<no value>" not in summary, f"{name}: {summary}"
                say(f"    {name}: {summary}")
            healthy = [alert for alert in found if alert["labels"].get("instance") in self.demo_instances]
            # A scrape that is late by a second is a relay that is down for a minute, in these rules.
            assert not healthy or name == "FedmuxDown", f"{name} fires for a healthy relay: {healthy}"

    async def play(self) -> None:
        await self.start()
        await self.panels_show("two healthy relays", self.demo_instances, NOTHING_HAPPENED, NOTHING_HAPPENED_OF)
        await until("one component hears the other", self.trouble.is_heard, seconds=DATA_SECONDS, watch=[self.trouble.worn, self.trouble.killed])
        await until("Prometheus knows them for long enough", self.are_known, seconds=DATA_SECONDS, watch=[self.trouble.worn, self.crowded.relay])
        causes = [
            self.watch(),
            self.go_on(lambda: self.trouble.knock(KNOCKS), "FedmuxRefusals"),
            self.go_on(self.crowded.forge, "FedmuxProofsRefused"),
            self.go_on(self.crowded.connect, "FedmuxDescriptors"),
            self.crowded.fill(),
        ]
        self.tasks += [asyncio.create_task(cause) for cause in causes]
        await self.starve()
        self.trouble.begin()
        self.trouble.spoil()
        await self.trouble.stop_between()
        await self.fires("FedmuxDown", "FedmuxReloadRefused", "FedmuxCertificateEndsSoon", "FedmuxCertificateEnds", "FedmuxRefusals")
        await self.fires("FedmuxDescriptors", "FedmuxHostsWithoutCertificate", "FedmuxPathLoss", "FedmuxProofsRefused", "FedmuxQueuesFull")
        # Its component doesn't come back: what is for it waits there, and is acknowledged early.
        await self.restart()
        await self.fires("FedmuxRestarts", "FedmuxStanzasUncertain", "FedmuxServerDown", "FedmuxPeersUnreachable", "FedmuxHandshakesFail", "FedmuxLookUpsFail")
        await self.fires("FedmuxBounces", "FedmuxLimitHit", "FedmuxPairQueueFull", "FedmuxStanzasWait", "FedmuxCustodyGrows", "FedmuxAcknowledgedEarly")
        await self.panels_show("relays in trouble beside them", self.targets, NOT_BROUGHT_ABOUT)
        if self.picture:
            picture.draw(self.picture, boards.BOARDS[0], lambda text: self.prometheus.series(boards.Query("", "", "", text).filled(self.values(self.targets))))
            say(f"drawn: {self.picture}")
        self.trouble.end_gently()
        await self.fires("FedmuxDrains", "FedmuxNotScraped")
        forgotten = set(boards.alerts()) - self.seen - set(self.not_brought_about)
        assert not forgotten, f"brought about by nothing: {sorted(forgotten)}"
        for alert, why in self.not_brought_about.items():
            say(f"NOT CHECKED: that {alert} fires for a real panic: {why}")

    async def starve(self) -> None:
        """Withhold threads from a relay, which it must bear; and random numbers, without which the QUIC library panics in the task that accepts a
        connection. The relay goes on, and takes the next one."""
        starved, bot = self.starved, self.trouble.bot
        try:
            async with starved.without(NO_THREADS):
                await starved.ask()
                await starved.ask()
            assert await starved.failed() == 0, f"a task ended by a panic because there are no further threads; see {starved.relay.log}"
            async with starved.without(NO_RANDOMNESS) as failed:
                bot.message("starved.test", "is anybody there?")
                await self.panics(failed)
        except Withheld as why:
            self.not_brought_about["FedmuxTaskFailed"] = str(why)
            return
        await self.fires("FedmuxTaskFailed")

        async def is_heard() -> bool:
            bot.message("starved.test", "is anybody there now?")
            await asyncio.sleep(PAUSE_SECONDS)
            return "now?" in starved.component.heard

        await until("the relay of which a task panicked takes a connection", is_heard, seconds=DATA_SECONDS, watch=[starved.relay])

    async def panics(self, failed: Path) -> None:
        """Wait until a task has ended by a panic."""

        async def has_panicked() -> bool:
            await asyncio.sleep(PAUSE_SECONDS)
            return await self.starved.failed() > 0

        try:
            await until("a task panics", has_panicked, seconds=DATA_SECONDS, watch=[self.starved.relay])
        except StageError:
            # A C library may ask the kernel without a system call (vgetrandom).
            if "INJECTED" not in failed.read_text():
                raise Withheld("random numbers come without a system call here") from None
            raise

    async def restart(self) -> None:
        """Start the relay that was killed, again and again; each time Prometheus has seen it before it is killed."""
        killed = self.trouble.killed
        before = 0.0

        async def is_seen() -> bool:
            # Starts are told in whole seconds: two within one would be one.
            nonlocal before
            await asyncio.sleep(PAUSE_SECONDS)
            samples = self.prometheus.query(f'process_start_time_seconds{{instance="{self.trouble.instances["killed"]}"}}')
            started = float(samples[0]["value"][1]) if samples else before
            if started <= before or time.time() < started + 1:
                return False
            before = started
            return True

        while "FedmuxRestarts" not in self.seen:
            await killed.stop(signal.SIGKILL)
            await killed.start()
            await until("Prometheus has seen the relay again", is_seen, seconds=DATA_SECONDS, watch=[killed])

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for process in (self.demo, self.prometheus.process, self.targetless.process):
            if process is not None:
                process.kill()
                await process.stop()
        await self.trouble.end()
        await self.crowded.end()
        await self.starved.end()


class Promtool:
    """It looks at the rules while other things go on."""

    def __init__(self, *words: str) -> None:
        self.words = words
        self.child = subprocess.Popen(["promtool", *words], cwd=boards.FOLDER, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def is_content(self) -> None:
        """Wait for what it says."""
        said, _ = self.child.communicate(timeout=PROMTOOL_SECONDS)
        assert self.child.returncode == 0, f"promtool {' '.join(self.words)}: {said}"
        say(f"promtool {' '.join(self.words)}")

    def end(self) -> None:
        self.child.kill()
        self.child.communicate()


def check_files() -> None:
    wrong = boards.complaints()
    assert not wrong, "\n".join(wrong)
    say(f"{len(boards.queries())} queries and {len(boards.alerts())} alerts name only what is declared")


async def play(options: argparse.Namespace, folder: Path) -> None:
    run = Run(options.fedmux.resolve(), folder, options.picture)
    try:
        await run.play()
    finally:
        await run.end()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fedmux", type=Path, help="the binary; without it only the files are looked at")
    parser.add_argument("--picture", type=Path, help="draw some panels of the fleet to this file, as SVG")
    parser.add_argument("--keep", action="store_true", help="leave logs and configurations in place")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="fedmux-dashboards-"))
    failed = False
    promtools = [Promtool("check", "rules", boards.RULES.name), Promtool("test", "rules", boards.RULE_TESTS.name)]
    try:
        check_files()
        if options.fedmux:
            asyncio.run(play(options, folder))
        for promtool in promtools:
            promtool.is_content()
    except (AssertionError, StageError) as error:
        failed = True
        traceback.print_exc(limit=-2)
        print(f"FAILED: {error}\nlogs: {folder}", file=sys.stderr)
    finally:
        for promtool in promtools:
            promtool.end()
    if not (failed or options.keep):
        shutil.rmtree(folder)
    say("FAILED" if failed else "all is well")
    return 1 if failed else 0


BEGUN = time.monotonic()

if __name__ == "__main__":
    sys.exit(main())
