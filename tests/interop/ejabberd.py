"""An ejabberd of our own: one Erlang node without a name, so that it needs no epmd and no cookie and meets no other."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from processes import Process, StageError, listens, until

# It compiles a module at each start; on a busy machine that takes its time.
START_SECONDS = 90
COMMAND_SECONDS = 10
LIBRARIES = Path("/usr/lib")


class Ejabberd:
    """A node with its configuration, spool and logs in `folder`. Accounts are made through its HTTP API at `api_port`."""

    def __init__(self, name: str, folder: Path, api_port: int) -> None:
        self.folder = folder
        self.log = folder / "ejabberd.log"
        self.api_port = api_port
        # ejabberd's own log holds all of it; what Erlang prints is the same.
        (folder / "spool").mkdir(parents=True, exist_ok=True)
        spool = folder / "spool"
        self.process = Process(
            name,
            ["erl", "-noinput", "+sbwt", "none", "+S", "1:1", "-mnesia", "dir", f'"{spool}"', "-s", "ejabberd"],
            folder / "erl.out",
            folder,
            {
                "ERL_LIBS": str(find_ejabberd()),
                "ERL_INETRC": str(folder / "inetrc"),
                "ERL_CRASH_DUMP_SECONDS": "0",
                "EJABBERD_CONFIG_PATH": str(folder / "ejabberd.yml"),
                "EJABBERD_LOG_PATH": str(self.log),
            },
        )

    async def start(self, config: str, inetrc: str, ports: list[int]) -> None:
        """Start it with this ejabberd.yml, which is extended by what the tests need. When this returns it listens at `ports`."""
        (self.folder / "inetrc").write_text(inetrc)
        (self.folder / "ejabberd.yml").write_text(f"""\
{config}
loglevel: info
api_permissions:
  tests:
    who:
      ip: 127.0.0.0/8
    what:
      - register
      - outgoing_s2s_number
""")
        await self.process.start()

        async def up() -> bool:
            return all([await listens(port) for port in [*ports, self.api_port]])

        await until(f"{self.process.name} listens", up, seconds=START_SECONDS, watch=[self.process])

    def listener(self) -> str:
        """The entry below `listen` for accounts to be made."""
        return f"""\
  - port: {self.api_port}
    ip: "127.0.0.1"
    module: ejabberd_http
    request_handlers:
      /api: mod_http_api
"""

    def add_account(self, name: str, domain: str, password: str) -> None:
        """An account, if there is none of this name."""
        try:
            self._command("register", {"user": name, "host": domain, "password": password})
        except urllib.error.HTTPError as error:
            if error.code != 409:
                raise StageError(f"{self.process.name} made no account {name}@{domain}: {error.code} {error.read()!r}") from None

    async def has_given_up(self) -> bool:
        """Whether it holds no connection to another server, and tries for none. What it is given while an attempt of its
        that failed is ending, it loses and tells nobody."""
        return self._command("outgoing_s2s_number", {})["s2s_outgoing"] == 0

    def _command(self, name: str, arguments: dict[str, str]) -> Any:
        """What its HTTP API answers."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.api_port}/api/{name}",
            json.dumps(arguments).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=COMMAND_SECONDS) as answer:
            return json.load(answer)


def find_ejabberd() -> Path:
    """The folder below which Debian keeps ejabberd's code."""
    for found in sorted(LIBRARIES.glob("*/ejabberd-*/ebin")):
        return found.parent.parent
    raise StageError("ejabberd is not installed: apt-get install ejabberd")
