#!/usr/bin/env python3
"""The Debian package, built as config/debian/README.md says, in a clean Debian with a systemd of its own: installed, configured,
started, renewed, upgraded, removed, installed again, purged.

    python3 tests/packages/run.py --fedmux target/release/fedmux      build it around this binary (needs cargo-deb)
    python3 tests/packages/run.py --deb FILE                          take this one
    python3 tests/packages/run.py --prepare                           only make the clean Debian, which takes a minute

The clean Debian is made once, by debootstrap, and kept at --root. As root. Exit code 77: it can't be made here, or no systemd be
started in it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "systemd"))

from machine import Machine, NoMachine  # noqa: E402
from programme import caller, edit, main_pid, play_all, step, until  # noqa: E402

PROJECT = Path(__file__).resolve().parents[2]
PAGE = PROJECT / "config/debian/README.md"
TALKER = Path(__file__).with_name("talker.py")
SUITE = "bookworm"
# What the package depends on, and Debian's smallest system hasn't got.
INCLUDE = "systemd,ca-certificates"
ROOT = PROJECT / "target/packages/debian"
PATIENCE_SECONDS = 60
# Where the package, and what runs by it, could leave something. What dpkg and systemd note about themselves doesn't count.
FILES = (
    "find /etc /usr /var /run/systemd/system -xdev -not -path '/var/lib/dpkg/*' -not -path '/var/cache/*' -not -path '/var/log/*'"
    " -not -path '/var/lib/apt/*' -not -path '/var/tmp/*' -not -name '.pwd.lock' -not -path '/etc/*-' | sort"
)
ACCOUNTS = "cat /etc/passwd /etc/group"
REFUSED = "ConnectionRefusedError"
PEER = """
[identity]
certificates = "live"
trust = "ca.pem"
[remote]
quic = "127.0.0.1:7443"
[local]
components = "127.0.0.1:6347"
[[component]]
domain = "b.example"
secret_file = "secret"
[[peer]]
domains = ["a.example"]
address = "127.0.0.1:5269"
"""
OUR_PEER = """
[limits]
certificates_poll = "1s"

[[peer]]
domains = ["b.example"]
address = "127.0.0.1:7443"
trust = "/etc/fedmux/ca.pem"
"""
before: dict[str, str] = {}


def outside(machine: Machine, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run these words with our files on the machine's network."""
    ran = subprocess.run(machine.command_outside(*words), capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    if check and ran.returncode != 0:
        raise AssertionError(f"{words}: exit code {ran.returncode}\n{ran.stdout}{ran.stderr}")
    return ran


def talker(machine: Machine, what: str) -> str:
    return outside(machine, sys.executable, "-B", str(TALKER), what).stdout


def listens(machine: Machine, port: int) -> bool:
    knocks = f"import socket; socket.create_connection(('127.0.0.1', {port}))"
    return REFUSED not in outside(machine, sys.executable, "-c", knocks, check=False).stderr


def apt(machine: Machine, *words: str) -> str:
    # No network: the root has all that it may depend on, or this fails.
    return machine.run(f"DEBIAN_FRONTEND=noninteractive apt-get -q -y {' '.join(words)} 2>&1").stdout


def state(machine: Machine, unit: str) -> str:
    return f"{machine.show(unit, 'UnitFileState')} {machine.show(unit, 'SubState')}"


def dev_certificate(machine: Machine) -> None:
    """A new one, where certbot would have it, and its hook."""
    machine.run("rm -rf /tmp/dev/live/a.example; fedmux certs dev --out /tmp/dev a.example rooms.a.example")
    machine.run("RENEWED_LINEAGE=/tmp/dev/live/a.example /etc/letsencrypt/renewal-hooks/deploy/fedmux")


@step
def it_installs_and_nothing_listens(machine: Machine) -> None:
    before.update(files=machine.run(FILES).stdout, accounts=machine.run(ACCOUNTS).stdout)
    apt(machine, "install", "/root/one.deb")
    for unit in ("fedmux.service", "fedmux.socket"):
        assert state(machine, unit) == "disabled dead", f"{unit}: {state(machine, unit)}"
    assert not any(listens(machine, port) for port in (5266, 5269, 5270, 9467))
    modes = machine.run("stat -c '%n %U:%G %a' /etc/fedmux /etc/fedmux/certs /etc/fedmux/fedmux.toml /var/lib/fedmux").stdout
    assert modes.split("\n")[:-1] == [
        "/etc/fedmux root:fedmux 750",
        "/etc/fedmux/certs root:fedmux 750",
        "/etc/fedmux/fedmux.toml root:root 644",
        "/var/lib/fedmux fedmux:fedmux 700",
    ], modes
    assert machine.run("dpkg --verify fedmux").stdout == ""


@step
def it_says_what_is_missing(machine: Machine) -> None:
    for command in ("fedmux check", "systemctl start fedmux.service"):
        assert machine.run(command, check=False).returncode != 0, command
    said = machine.run("fedmux check", check=False).stderr
    assert said.startswith("fedmux: host is missing: ") and "/etc/fedmux/fedmux.toml" in said, said
    assert said.strip().split("fedmux: ")[1] in machine.journal("fedmux.service")
    machine.run("systemctl stop fedmux.socket fedmux.service")


@step
def it_takes_one_file_and_certificates(machine: Machine) -> None:
    for line in ("[[host]]", "domains", "deliver", "local_auth", "trusted_loopback"):
        edit(machine, f"#{line}", line)
    machine.run(f"cat >>/etc/fedmux/fedmux.toml <<'END'\n{OUR_PEER}END")
    hook = next(line.strip() for line in PAGE.read_text().splitlines() if line.strip().startswith("install -D"))
    machine.run(hook)
    dev_certificate(machine)
    machine.run("install -m 644 /tmp/dev/ca.pem /etc/fedmux/ca.pem")
    said = machine.run("fedmux check --offline --config /etc/fedmux/fedmux.toml").stdout
    assert "Nothing would fail" in said, said


@step
def it_starts_and_makes_its_key(machine: Machine) -> None:
    machine.run("systemctl enable --now fedmux.socket fedmux.service")
    assert machine.show("fedmux.service", "StatusText") == "taking stanzas for 2 hosts"
    assert machine.run("stat -c '%U %a' /var/lib/fedmux/mux.key").stdout == "fedmux 600\n"
    journal = machine.journal("fedmux.service")
    assert "WARN" not in journal, journal
    machine.run("fedmux status")


@step
def it_talks(machine: Machine) -> None:
    machine.run("mkdir /tmp/peer; cd /tmp/peer; fedmux certs dev --out /tmp/dev b.example; cp -r /tmp/dev/live/b.example live")
    machine.run(f"cd /tmp/peer; cp /tmp/dev/ca.pem .; echo opensesame >secret; cat >peer.toml <<'END'\n{PEER}END")
    machine.run("chmod 600 /tmp/peer/secret")
    machine.run("systemd-run --unit=peer --property=Type=notify fedmux run --config /tmp/peer/peer.toml")
    talker(machine, "talk")


@step
def a_renewed_certificate_is_shown_without_a_signal(machine: Machine) -> None:
    pid = main_pid(machine)
    old = talker(machine, "certificate")
    dev_certificate(machine)
    file = machine.run("cat /etc/fedmux/certs/a.example/fullchain.pem").stdout
    end = "-----END CERTIFICATE-----"
    new = ssl.PEM_cert_to_DER_cert(file.split(end)[0] + end)
    assert ssl.PEM_cert_to_DER_cert(old.strip()) != new
    until("the new certificate is shown", lambda: ssl.PEM_cert_to_DER_cert(talker(machine, "certificate").strip()) == new)
    assert main_pid(machine) == pid


@step
def an_upgrade_refuses_nobody(machine: Machine) -> None:
    pid, since = main_pid(machine), machine.show("fedmux.socket", "ActiveEnterTimestampMonotonic")
    calling = caller(machine, "for-ever")
    said = apt(machine, "install", "/root/two.deb")
    answered, cut, refused = map(int, calling.communicate("")[0].split())
    print(f"         {answered} answered, {cut} cut, {refused} refused")
    assert answered and not refused, said
    assert main_pid(machine) not in (0, pid), "it was not restarted"
    assert machine.show("fedmux.socket", "ActiveEnterTimestampMonotonic") == since
    assert "onffile" not in said, said
    assert machine.run("dpkg-query -W -f '${Version}' fedmux").stdout.endswith("+next")
    talker(machine, "talk")


@step
def removed_it_is_quiet_and_installed_again_it_goes_on(machine: Machine) -> None:
    key = machine.run("sha256sum /var/lib/fedmux/mux.key /etc/fedmux/fedmux.toml").stdout
    apt(machine, "remove", "fedmux")
    assert not any(listens(machine, port) for port in (5266, 5269, 5270, 9467))
    assert machine.run("test -e /usr/bin/fedmux", check=False).returncode == 1
    assert machine.run("sha256sum /var/lib/fedmux/mux.key /etc/fedmux/fedmux.toml; id fedmux").stdout.startswith(key)
    # certbot doesn't stumble over its hook.
    machine.run("RENEWED_LINEAGE=/tmp/dev/live/a.example /etc/letsencrypt/renewal-hooks/deploy/fedmux")
    apt(machine, "install", "/root/two.deb")
    assert state(machine, "fedmux.service") == "enabled running", state(machine, "fedmux.service")
    talker(machine, "talk")


@step
def purged_it_leaves_nothing(machine: Machine) -> None:
    machine.run("systemctl stop peer.service; rm -r /etc/letsencrypt")  # not the package's
    apt(machine, "purge", "fedmux")
    assert not any(listens(machine, port) for port in (5266, 5269, 5270, 9467))
    assert machine.run(ACCOUNTS).stdout == before["accounts"]
    files = set(machine.run(FILES).stdout.splitlines()) ^ set(before["files"].splitlines())
    assert not files, files
    assert "fedmux" not in machine.run("systemctl list-unit-files --no-legend; ls /run /var/lib/systemd").stdout


def build(fedmux: Path) -> Path:
    """What the page says, but for the build of the binary."""
    lines = [line.strip() for line in PAGE.read_text().split("## Install")[0].splitlines() if line.startswith("    ")]
    assert lines[0].startswith("cargo build") and lines[-1].startswith("cargo deb"), f"{PAGE} no longer says how to build: {lines}"
    if not shutil.which("cargo-deb"):
        sys.exit("needs cargo-deb: cargo install --locked cargo-deb")
    if fedmux.parts[-2:] != ("release", "fedmux"):
        sys.exit(f"--fedmux {fedmux}: cargo-deb takes it from a folder of cargo's; name .../release/fedmux, or a package with --deb")
    environment = os.environ | {"CARGO_TARGET_DIR": str(fedmux.parents[1])}
    said = ""
    for line in lines[1:]:
        words = ["bash", "-c", line.replace("target/release/fedmux", str(fedmux))]
        said = subprocess.run(words, cwd=PROJECT, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    return Path(said.strip().splitlines()[-1])


def next_version(deb: Path, folder: Path) -> Path:
    """The same package with a higher version."""
    tree, later = folder / "tree", folder / "two.deb"
    subprocess.run(["dpkg-deb", "-R", deb, tree], check=True)
    control = tree / "DEBIAN/control"
    lines = [f"{line}+next" if line.startswith("Version: ") else line for line in control.read_text().splitlines()]
    control.write_text("\n".join(lines) + "\n")
    subprocess.run(["dpkg-deb", "-Zgzip", "-z1", "--root-owner-group", "-b", tree, later], check=True, stdout=subprocess.DEVNULL)
    return later


def prepare(root: Path) -> None:
    """The clean Debian, unless it is there."""
    if root.exists():
        return
    if not shutil.which("debootstrap"):
        raise NoMachine("no debootstrap; apt-get install debootstrap")
    root.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(f"{root}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    command = ["debootstrap", "--variant=minbase", f"--include={INCLUDE}", SUITE, str(unfinished)]
    made = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if made.returncode != 0:
        raise NoMachine(f"no clean Debian could be made: {made.stdout[-2000:]}")
    unfinished.rename(root)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--fedmux", type=Path, metavar="PATH", help="the relay's binary")
    what.add_argument("--deb", type=Path, metavar="FILE", help="a package that is built already")
    what.add_argument("--prepare", action="store_true", help="only make the clean Debian")
    parser.add_argument("--root", type=Path, default=ROOT, metavar="DIR", help="where it is, or shall be")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    if os.getuid() != 0:
        sys.exit("needs root")
    try:
        prepare(options.root)
        if options.prepare:
            return 0
        deb = options.deb or build(options.fedmux.resolve())
        machine = Machine(options.root.resolve())
    except NoMachine as error:
        print(error)
        return 77
    try:
        with tempfile.TemporaryDirectory(prefix="fedmux-packages-") as folder:
            machine.bring(deb, "/root/one.deb")
            machine.bring(next_version(deb, Path(folder)), "/root/two.deb")
        failed = play_all(machine)
    finally:
        machine.stop()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
