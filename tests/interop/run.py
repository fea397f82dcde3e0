#!/usr/bin/env python3
"""Real Prosodys and ejabberds behind relays and without one, and users with a real client library on all sides.

    python3 tests/interop/run.py --fedmux target/release/fedmux
    python3 tests/interop/run.py --direct          # without relays: shows what is Prosody's own behaviour
    python3 tests/interop/run.py --fedmux ... --only configuration-only/ping -v --keep

Needs Prosody 0.12, ejabberd 23.01, dnsmasq, and slixmpp (requirements.txt); tcpdump and promtool are used if they are there.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

try:
    import slixmpp  # noqa: F401
except ImportError:
    sys.exit("slixmpp is not installed: python3 -m pip install -r tests/interop/requirements.txt")

import scenario_ways  # noqa: F401  first: scenario_by_dns judges what it has left behind
import scenario_acknowledged  # noqa: F401
import scenario_by_dns  # noqa: F401
import scenario_certificates  # noqa: F401
import scenario_chat  # noqa: F401
import scenario_components  # noqa: F401
import scenario_iq  # noqa: F401
import scenario_module  # noqa: F401
import scenario_plain  # noqa: F401
import scenario_presence  # noqa: F401
import scenario_restarts  # noqa: F401
import scenario_rooms  # noqa: F401
import scenario_streams  # noqa: F401  last: it judges what the others have left behind
import network
from dns_stage import DnsStage
from play import SCENARIOS, Cast, Scenario, Skip
from processes import StageError
from stage import VARIANTS, Scenery, Stage, Variant, find_prosody

# And for each kill or death that the environment asks for.
SCENARIO_SECONDS = 90 + 10 * sum(int(os.environ.get(name, "0")) for name in ("FEDMUX_KILLS", "FEDMUX_DEATHS"))
LEAVE_SECONDS = 10
# At a failure: for so many failures of a variant, so much of each log.
TAILS = 3
TAIL_LINES = 40
LINE_CHARACTERS = 400


class Programme:
    """The scenarios to be played, and how they went."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options = options
        self.folder = folder
        self.passed = self.failed = self.tails_left = 0
        self.stage: Stage | DnsStage | None = None

    async def play(self) -> None:
        for variant in VARIANTS:
            fitting = [scenario for scenario in SCENARIOS if scenario.scenery is variant.scenery]
            chosen = [scenario for scenario in fitting if self.options.only in f"{variant.name}/{scenario.name}"]
            if chosen and variant.scenery is Scenery.BY_DNS and self.options.direct:
                print(f"{'--':>6}          {variant.name}: there is nothing to see without relays", flush=True)
            elif chosen:
                await self.play_variant(variant, chosen)

    async def play_variant(self, variant: Variant, scenarios: list[Scenario]) -> None:
        folder = self.folder / variant.name
        folder.mkdir()
        make = DnsStage if variant.scenery is Scenery.BY_DNS else Stage
        self.stage = make(folder, variant, self.options.fedmux)
        log = logging.FileHandler(folder / "clients.log")
        logging.getLogger().addHandler(log)
        self.tails_left = TAILS
        try:
            if await self.report(f"{variant.name}/the stage is set", self.stage.set()):
                for scenario in scenarios:
                    await self.report(f"{variant.name}/{scenario.name}", self.play_scenario(scenario))
            await self.report(f"{variant.name}/everything ends in good order", self.stage.strike())
        finally:
            self.stage.kill()
            logging.getLogger().removeHandler(log)
            log.close()

    async def play_scenario(self, scenario: Scenario) -> None:
        cast = Cast(self.stage)
        try:
            await asyncio.wait_for(scenario.play(cast), SCENARIO_SECONDS)
        finally:
            await asyncio.wait_for(cast.leave(), LEAVE_SECONDS)
        self.stage.ensure_standing()

    async def report(self, name: str, step) -> bool:
        """Await a step and print its line."""
        started = time.monotonic()
        logged = {path: path.stat().st_size for path in self.stage.logs()}
        try:
            await step
            verdict, detail = "ok", ""
            self.passed += 1
        except Skip as skip:
            verdict, detail = "--", f": {skip}"
        except Exception as error:  # whatever it is, the next scenario can still tell something
            verdict, detail = "FAILED", f": {str(error) or repr(error)}"
            self.failed += 1
            if self.options.verbose or not isinstance(error, (AssertionError, StageError)):
                detail += "\n" + "".join(traceback.format_exception(error))
        print(f"{verdict:>6} {time.monotonic() - started:6.2f} s  {name}{detail}", flush=True)
        if verdict == "FAILED":
            self.print_logs(logged)
        return verdict != "FAILED"

    def print_logs(self, logged: dict[Path, int]) -> None:
        """The end of what each log has gained since it had this size; for the first few failures of a variant."""
        if not self.tails_left:
            return
        self.tails_left -= 1
        for path in self.stage.logs():
            lines = path.read_bytes()[logged.get(path, 0) :].decode(errors="replace").splitlines()
            if lines:
                print(f"\n--- {path.relative_to(self.folder)}, last {min(TAIL_LINES, len(lines))} of {len(lines)} new lines")
                print("\n".join(line[:LINE_CHARACTERS] for line in lines[-TAIL_LINES:]))
        print(flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--fedmux", type=Path, metavar="PATH", help="the relay's binary")
    which.add_argument("--direct", action="store_true", help="no relays: the two Prosodys federate with each other")
    parser.add_argument("--only", default="", metavar="NAME", help="only scenarios with this in variant/name")
    parser.add_argument("--keep", action="store_true", help="keep the folder with configurations, logs and capture")
    parser.add_argument("--timeout", type=float, default=600, metavar="SECONDS", help="for all of it (600)")
    parser.add_argument("-v", "--verbose", action="store_true", help="tracebacks, and every stanza in clients.log")
    options = parser.parse_args()
    if options.fedmux:
        options.fedmux = options.fedmux.resolve()
        if not options.fedmux.is_file():
            parser.error(f"{options.fedmux} does not exist; build it with cargo build --release")
    return options


async def run(options: argparse.Namespace, folder: Path) -> int:
    programme = Programme(options, folder)
    task = asyncio.current_task()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        find_prosody()
        await asyncio.wait_for(programme.play(), options.timeout)
    except StageError as error:
        print(error)
        programme.failed += 1
    except TimeoutError:
        print(f"stopped: all of it took longer than {options.timeout:g} s")
        programme.failed += 1
        programme.print_logs({})
    except asyncio.CancelledError:
        print("stopped by a signal")
        programme.failed += 1
    finally:
        if programme.stage:
            programme.stage.kill()
    if not programme.passed and not programme.failed:
        print(f"no scenario has {options.only!r} in its name")
        programme.failed += 1
    print(f"{programme.passed} passed, {programme.failed} failed")
    return 1 if programme.failed else 0


def main() -> int:
    options = arguments()
    logging.basicConfig(level=logging.DEBUG if options.verbose else logging.WARNING, handlers=[logging.NullHandler()])
    network.enter()
    folder = Path(tempfile.mkdtemp(prefix="fedmux-interop-"))
    try:
        return asyncio.run(run(options, folder))
    finally:
        if options.keep:
            print(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
