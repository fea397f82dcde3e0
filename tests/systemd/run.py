#!/usr/bin/env python3
"""The units of config/systemd, installed as the page there says, under a real systemd.

    python3 tests/systemd/run.py --fedmux target/release/fedmux

As root, on a machine that has systemd, whether it runs it or not. Exit code 77: none can be started here, as in a container
without privileges.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

from machine import Machine, NoMachine
from programme import caller, edit, main_pid, play_all, step, until

PROJECT = Path(__file__).resolve().parents[2]
PAGE = PROJECT / "config/systemd/README.md"
# How exposed `systemd-analyze security` finds the service, from 0 to 100.
EXPOSURE_MAX = 15
# What it takes for the relays of the demo to speak QUIC inside the service's walls.
AS_DEMO = "s|^ExecStart=.*|ExecStart=/usr/bin/fedmux demo --hosts 2 --stanzas 50|; s|^Type=.*|Type=oneshot|; /^Requires=/d; /^Restart/d"
KILLS = 5


@step
def the_units_are_sound(machine: Machine) -> None:
    said = machine.run("systemd-analyze verify fedmux.service fedmux.socket 2>&1").stdout
    assert not said, said
    machine.run(f"systemd-analyze security --no-pager --threshold={EXPOSURE_MAX} --offline=true fedmux.service")


@step
def it_starts_and_says_so(machine: Machine) -> None:
    machine.run("systemctl start fedmux.service")
    assert machine.show("fedmux.service", "SubState") == "running"
    assert machine.show("fedmux.service", "StatusText") == "taking stanzas for 2 hosts"
    journal = machine.journal("fedmux.service")
    assert "WARN" not in journal and "ERROR" not in journal, journal


@step
def it_can_do_little(machine: Machine) -> None:
    status = dict(line.split(":\t", 1) for line in machine.run(f"cat /proc/{main_pid(machine)}/status").stdout.splitlines())
    assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2", status
    assert int(status["CapBnd"], 16) == int(status["CapEff"], 16) == 0, status
    assert int(status["Uid"].split()[0]) == int(machine.run("id -u fedmux").stdout), status
    assert machine.run("stat -c '%U %a' /var/lib/fedmux/mux.key").stdout == "fedmux 600\n"


@step
def what_it_needs_is_allowed(machine: Machine) -> None:
    machine.run(f"sed '{AS_DEMO}' /etc/systemd/system/fedmux.service >/run/systemd/system/fedmux-demo.service")
    machine.run("systemctl daemon-reload; systemctl start fedmux-demo.service")
    assert "QUIC" in machine.journal("fedmux-demo.service"), machine.journal("fedmux-demo.service")


@step
def who_comes_while_a_killed_relay_is_away_waits(machine: Machine) -> None:
    for _ in range(KILLS):
        before = main_pid(machine)
        # The next start waits for us, so that the relay is away for certain.
        machine.run("mkdir -p /run/systemd/system/fedmux.service.d; mkfifo /run/held")
        machine.run("printf '[Service]\\nExecStartPre=/bin/cat /run/held\\n' >/run/systemd/system/fedmux.service.d/held.conf")
        machine.run("systemctl daemon-reload; systemctl kill -s KILL --kill-who=main fedmux.service")
        until("the relay is being started again", lambda: machine.show("fedmux.service", "SubState") == "start-pre")
        waiting = caller(machine, "once")
        assert waiting.stdout.readline() == "waiting\n"
        machine.run("rm -r /run/systemd/system/fedmux.service.d; echo go >/run/held; rm /run/held; systemctl daemon-reload")
        assert waiting.stdout.readline() == "answered\n"
        assert main_pid(machine) not in (0, before)


@step
def a_restart_refuses_nobody(machine: Machine) -> None:
    callers = [caller(machine, "for-ever") for _ in range(2)]
    for _ in range(KILLS):
        machine.run("systemctl restart fedmux.service")
    answered, cut, refused = (sum(figures) for figures in zip(*(map(int, each.communicate("")[0].split()) for each in callers)))
    print(f"         {answered} answered, {cut} cut, {refused} refused")
    assert answered and not refused


@step
def a_reload_is_told_and_so_is_one_that_is_refused(machine: Machine) -> None:
    edit(machine, '"rooms.a.example"', '"rooms.a.example", "x.a.example"')
    machine.run("systemctl reload fedmux.service")
    text = "taking stanzas for 3 hosts"
    until(text, lambda: machine.show("fedmux.service", "StatusText") == text)
    edit(machine, "quic =", "quick =")
    machine.run("systemctl reload fedmux.service")
    until("the refusal is told", lambda: "remote.quick is not a known key" in machine.show("fedmux.service", "StatusText"))
    assert machine.show("fedmux.service", "SubState") == "running"
    edit(machine, "quick =", "quic =")


@step
def a_mistake_in_the_configuration_is_no_reason_to_try_again(machine: Machine) -> None:
    edit(machine, "quic =", "quick =")
    machine.run("systemctl restart fedmux.service", check=False)
    assert machine.show("fedmux.service", "Result") == "exit-code"
    assert machine.show("fedmux.service", "NRestarts") == "0"
    edit(machine, "quick =", "quic =")
    machine.run("systemctl restart fedmux.service")


@step
def a_socket_that_no_listener_is_for_stops_the_start(machine: Machine) -> None:
    edit(machine, "127.0.0.1:5266", "127.0.0.1:5268")
    machine.run("systemctl restart fedmux.service", check=False)
    until("the reason is in the journal", lambda: "no listener of the configuration" in machine.journal("fedmux.service"))
    edit(machine, "127.0.0.1:5268", "127.0.0.1:5266")
    machine.run("systemctl reset-failed; systemctl restart fedmux.socket fedmux.service")


@step
def a_component_has_its_secret_as_a_credential(machine: Machine) -> None:
    machine.run("echo opensesame >/etc/fedmux/irc.secret; chmod 600 /etc/fedmux/irc.secret")
    machine.run("mkdir -p /etc/systemd/system/fedmux.service.d /etc/systemd/system/fedmux.socket.d")
    credential = "LoadCredential=irc.secret:/etc/fedmux/irc.secret"
    machine.run(f"printf '[Service]\\n{credential}\\n' >/etc/systemd/system/fedmux.service.d/irc.conf")
    machine.run("printf '[Socket]\\nListenStream=127.0.0.1:5347\\n' >/etc/systemd/system/fedmux.socket.d/irc.conf")
    edit(machine, "[admin]", 'components = "127.0.0.1:5347"\n\n[admin]')
    component = '[[component]]\ndomain = "irc.a.example"\nsecret_file = "/run/credentials/fedmux.service/irc.secret"'
    machine.run(f"cat >>/etc/fedmux/fedmux.toml <<'END'\n\n{component}\nEND")
    machine.run("systemctl daemon-reload; systemctl stop fedmux.service; systemctl restart fedmux.socket; systemctl start fedmux.service")
    assert machine.show("fedmux.service", "SubState") == "running"
    print("        ", machine.run("stat -c 'the credential: %U, mode %a' /run/credentials/fedmux.service/irc.secret").stdout.strip())


@step
def it_stops_in_good_order_and_the_sockets_with_it(machine: Machine) -> None:
    machine.run("systemctl stop fedmux.socket fedmux.service")
    assert machine.show("fedmux.service", "Result") == "success"
    assert "stopped: " in machine.journal("fedmux.service")
    refused = machine.run("python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", 5266))'", check=False)
    assert "ConnectionRefusedError" in refused.stderr, refused.stderr


def install(machine: Machine, fedmux: Path) -> None:
    """What the page says, word for word: its indented lines that begin with a command."""
    lines = [line.strip() for line in PAGE.read_text().splitlines() if line.startswith("    ")]
    commands = [line for line in lines if line.split(" ")[0] in ("install", "systemd-sysusers")]
    assert len(commands) >= 5, f"{PAGE} no longer says how to install: {commands}"
    for command in commands:
        machine.run(f"cd {PROJECT} && {command.replace('target/release/fedmux', str(fedmux))}")
    machine.run("fedmux certs dev --out /tmp/dev a.example rooms.a.example x.a.example irc.a.example")
    machine.run("RENEWED_LINEAGE=/tmp/dev/live/a.example /etc/letsencrypt/renewal-hooks/deploy/fedmux")
    machine.run("systemctl daemon-reload")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fedmux", type=Path, required=True, metavar="PATH", help="the relay's binary")
    fedmux = parser.parse_args().fedmux.resolve()
    if os.getuid() != 0 or not shutil.which("systemd-analyze"):
        sys.exit("needs root, and systemd: apt-get install systemd")
    try:
        machine = Machine()
    except NoMachine as error:
        print(error)
        return 77
    try:
        install(machine, fedmux)
        failed = play_all(machine)
    finally:
        machine.stop()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
