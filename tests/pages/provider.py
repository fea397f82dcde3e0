"""A provider as it is before it follows a page: a Debian machine on the internet of `internet.py`, with the Prosody of the
distribution for one domain and its rooms, good certificates, and two accounts."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from internet import Internet
from machine import Machine

PROJECT = Path(__file__).resolve().parents[2]
CERTBOT = Path(__file__).with_name("certbot.py")
SOURCES = "/root/fedmux"
PASSWORD = "wherefore"
ACCOUNTS = ("alice", "bob")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
COMMAND_SECONDS = 40
# What a build leaves where the page looks for it.
CARGO = """\
#!/bin/sh -e
# In the place of cargo: it was built already.
[ "$*" = "build --release --locked" ]
install -D -m 755 /usr/local/lib/built/fedmux target/release/fedmux
"""
HOST = """\
VirtualHost "{domain}"

Component "rooms.{domain}" "muc"
"""


@dataclass(frozen=True)
class Names:
    """What a provider writes where the pages say example.com, and so on. The names are as long as those of the pages, so that tables
    keep their columns. None of them exists outside."""

    exchanged: dict[str, str]

    def real(self, text: str) -> str:
        """The text with this provider's names and addresses."""
        for old, new in self.exchanged.items():
            text = text.replace(old, new)
        return text


class Provider:
    """A machine and whoever follows a page there."""

    def __init__(self, internet: Internet, names: Names, fedmux: Path) -> None:
        self.names = names
        self.domain = names.real("example.com")
        self.domains = [self.domain]
        self.address = names.real("192.0.2.10")
        self.machine = Machine()
        try:
            internet.join(self.machine, self.address)
            self._install(internet, fedmux)
        except BaseException:
            self.machine.stop()
            raise

    def _install(self, internet: Internet, fedmux: Path) -> None:
        """What the pages take for granted, and what stands in the place of what isn't to be had in here."""
        folder = internet.folder
        self._unpack("/usr/local/lib/authority", {name: (folder / name).read_bytes() for name in ("ca.pem", "ca.key")})
        self._unpack("/usr/local/lib/built", {"fedmux": fedmux.read_bytes()})
        self._unpack("/usr/local/bin", {"certbot": CERTBOT.read_bytes(), "cargo": CARGO.encode()})
        config = {str(file.relative_to(PROJECT)): file for file in sorted((PROJECT / "config").rglob("*")) if file.is_file()}
        self._unpack(SOURCES, {name: self.names.real(file.read_text()).encode() for name, file in config.items()})
        trust = "/etc/ssl/certs"
        hashed = f"{trust}/$(openssl x509 -hash -noout -in /usr/local/lib/authority/ca.pem).0"
        self.run(f"cat /usr/local/lib/authority/ca.pem >>{trust}/ca-certificates.crt; cp /usr/local/lib/authority/ca.pem {hashed}")

    def start_prosody(self, more_domains: Sequence[str] = ()) -> None:
        """The Prosody that is there before the relay is. Its configuration is Debian's, which takes hosts from a folder."""
        self.domains = [self.domain, *more_domains]
        self.run("rm -f /etc/prosody/conf.d/*; install -d -o prosody -g prosody /var/log/prosody /var/lib/prosody")
        for domain in self.domains:
            self._unpack("/etc/prosody/conf.d", {f"{domain}.cfg.lua": HOST.format(domain=domain).encode()})
            self.run(f"certbot certonly --standalone -d {domain} -d rooms.{domain}")
        self.run("prosodyctl --root cert import /etc/letsencrypt/live && rm -r /etc/letsencrypt")
        for domain in self.domains:
            for account in ACCOUNTS:
                self.run(f"prosodyctl register {account} {domain} {PASSWORD}")
        self.run("systemctl restart prosody")

    def _unpack(self, folder: str, files: dict[str, bytes]) -> None:
        """Write these files, readable by all and executable."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for name, content in files.items():
                about = tarfile.TarInfo(name)
                about.size, about.mode = len(content), 0o755
                archive.addfile(about, io.BytesIO(content))
        command = self.machine.command("sh", "-c", f"mkdir -p {folder} && tar -x -C {folder}")
        subprocess.run(command, input=packed.getvalue(), check=True, timeout=COMMAND_SECONDS)

    def follow(self, script: str) -> tuple[int, str]:
        """Run commands as root in the folder of the sources, each of which has to succeed; the exit code, and what they said."""
        command = self.machine.command("env", "-i", f"PATH={PATH}", "HOME=/root", "LANG=C.UTF-8", "bash", "-c")
        ran = subprocess.run(
            [*command, f"cd {SOURCES} && set -e\n{script}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=COMMAND_SECONDS, check=False,
        )  # fmt: skip
        return ran.returncode, ran.stdout

    def run(self, script: str) -> str:
        """The same for what is no step of a page."""
        code, said = self.follow(script)
        if code != 0:
            raise AssertionError(f"{script}: exit code {code}\n{said}")
        return said

    def logs(self) -> str:
        """The ends of what relay and Prosody have logged."""
        return self.follow("journalctl --no-pager -o cat -n 20 -u fedmux; tail -n 20 /var/log/prosody/prosody.log")[1]

    def end(self) -> None:
        self.machine.stop()
