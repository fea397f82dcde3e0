"""A systemd of its own: PID 1 of namespaces for processes, mounts, network and control groups, whose root is a copy-on-write view
of this machine's files, or of another folder. What it does is seen by nobody outside, and is gone when it ends.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from pathlib import Path

# Nothing of it may be this machine's own: systemd cleans up /tmp and sets devices and the kernel to rights when it starts.
BOOT = """\
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
cd "$1"
mkdir upper work root
mount -t overlay overlay -o lowerdir="$2",upperdir=upper,workdir=work root
cd root
for here in run tmp dev; do mount -t tmpfs -o mode=755 tmpfs $here; done
chmod 1777 tmp
for node in null zero full random urandom tty; do touch dev/$node; mount --bind /dev/$node dev/$node; done
ln -s pts/ptmx dev/ptmx
mkdir dev/shm
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mkdir -p run/systemd/system outside
cat >run/systemd/system/bare.target <<UNIT
[Unit]
DefaultDependencies=no
AllowIsolate=yes
Requires=systemd-journald.service
After=systemd-journald.service
UNIT
ip link set lo up
pivot_root . outside
umount -l /outside
mount --make-rshared /
export container=fedmux-test
exec chroot . /lib/systemd/systemd --system --unit=bare.target --log-target=journal --show-status=no
"""
START_SECONDS = 20
COMMAND_SECONDS = 60


class NoMachine(Exception):
    """This machine, or who runs us on it, doesn't allow it; the message says what failed."""


class Machine:
    """It runs from when it is made until `stop`. `root` has its files, which stay as they are."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="fedmux-systemd-")
        namespaces = ["--mount", "--pid", "--fork", "--net", "--uts", "--ipc", "--cgroup", "--mount-proc", "--kill-child"]
        log = Path(self._folder.name).with_suffix(".log")
        self.log = log
        with log.open("wb") as out:
            command = ["unshare", *namespaces, "sh", "-c", BOOT, "boot", self._folder.name, str(root)]
            self._process = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + START_SECONDS
        while "running" not in self._state():
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = log.read_text()
                self.stop()
                raise NoMachine(f"no systemd could be started here: {said}")
            time.sleep(0.05)

    def _state(self) -> str:
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        try:
            self._init = children.read_text().split()[0]
        except (OSError, IndexError):
            return ""
        return self.run("systemctl is-system-running", check=False).stdout

    @property
    def pid(self) -> int:
        """The process that is PID 1 in there."""
        return int(self._init)

    def command(self, *words: str) -> list[str]:
        """A command line that runs these words in there."""
        return ["nsenter", "--target", self._init, "--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup", *words]

    def command_outside(self, *words: str) -> list[str]:
        """A command line that runs these words on its network, and else among our own files and processes."""
        return ["nsenter", "--target", self._init, "--net", *words]

    def bring(self, file: Path, to: str) -> None:
        """Copy a file of ours into it."""
        shutil.copy(file, f"/proc/{self._init}/root{to}")

    def run(self, script: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a line of shell in there."""
        ran = subprocess.run(self.command("sh", "-c", script), capture_output=True, text=True, timeout=COMMAND_SECONDS)
        if check and ran.returncode != 0:
            raise AssertionError(f"{script}: exit code {ran.returncode}\n{ran.stdout}{ran.stderr}")
        return ran

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.run(f"systemctl show --value -p {name} {unit}").stdout.strip()

    def journal(self, unit: str) -> str:
        return self.run(f"journalctl --no-pager -o cat -u {unit}", check=False).stdout

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        self.log.unlink(missing_ok=True)
        self._folder.cleanup()
