"""The steps that are played in a machine, one after the other, and what they have in common."""

from __future__ import annotations

import subprocess
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from machine import Machine

CALLER = Path(__file__).with_name("caller.py")
WAIT_SECONDS = 30
STEPS: list[Callable[[Machine], None]] = []


def step(play: Callable[[Machine], None]) -> Callable[[Machine], None]:
    """Put a function on the programme, in the order of definition. Its name says what holds."""
    STEPS.append(play)
    return play


def play_all(machine: Machine) -> int:
    """Play the programme; how many steps have failed."""
    failed = 0
    for play in STEPS:
        started = time.monotonic()
        try:
            machine.run("systemctl reset-failed")  # or so many starts are too many
            play(machine)
            verdict = "ok"
        except Exception:  # whatever it is, the next step can still tell something
            failed += 1
            verdict = "FAILED"
            traceback.print_exc()
            print(machine.journal("fedmux.service")[-2000:])
        print(f"{verdict:>6} {time.monotonic() - started:6.2f} s  {play.__name__}", flush=True)
    return failed


def until(what: str, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"after {WAIT_SECONDS} s still not true: {what}")
        time.sleep(0.02)


def main_pid(machine: Machine) -> int:
    return int(machine.show("fedmux.service", "MainPID"))


def caller(machine: Machine, how: str) -> subprocess.Popen[str]:
    command = machine.command_outside("python3", "-B", str(CALLER), how)
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def edit(machine: Machine, old: str, new: str) -> None:
    """Change the configuration."""
    file = "/etc/fedmux/fedmux.toml"
    text = machine.run(f"cat {file}").stdout
    assert old in text, f"{old!r} is not in {file}"
    machine.run(f"cat >{file} <<'END'\n{text.replace(old, new)}END")
