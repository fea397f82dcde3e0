"""Whoever does what a page says."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from chat import Conversation
from internet import Internet
from page import Block, Unclear, differs
from provider import PASSWORD, Provider

BOT = Path(__file__).with_name("bot.py")
SETTINGS = ("domain", "server", "port", "secret")
# What only asks may be asked again, until it says what the page says.
ASKING = ("runuser -u fedmux -- fedmux check", "fedmux status", "fedmux explain", "systemctl status", "journalctl", "grep")
PATIENCE_SECONDS = 15
PAUSE_SECONDS = 0.2


class Follower:
    """One provider, or several that go on together, block by block."""

    verbose = False

    def __init__(self, internet: Internet, readers: list[Provider], everybody: list[Provider]) -> None:
        """`everybody`: whose users talk."""
        self.readers = readers
        self._internet = internet
        self._servers = {domain: provider.address for provider in everybody for domain in provider.domains}
        self._bots: list[subprocess.Popen[str]] = []

    def follow(self, blocks: list[Block]) -> None:
        """Do what these blocks say, each of them by every reader before the next one."""
        for at, block in enumerate(blocks):
            after = blocks[at + 1] if at + 1 < len(blocks) else None
            expected = after if after and after.language == "text" else None
            for reader in self.readers:
                started = time.monotonic()
                self._do(reader, block, expected)
                if self.verbose:
                    took = time.monotonic() - started
                    print(f"{took:13.2f} s  {block.place}: {reader.domain}: {block.language} {block.lines[0]}", flush=True)

    def _do(self, reader: Provider, block: Block, expected: Block | None) -> None:
        text = reader.names.real(block.text)
        try:
            match block.language:
                case "sh":
                    self._type(reader, text, expected)
                case "dns":
                    self._internet.publish(text)
                case "chat":
                    self.talk(text.splitlines())
                case "component":
                    self._start_component(reader, text)
                case "text":
                    pass  # it was compared with what the commands above have said
                case other:
                    raise Unclear(f"{block.place}: nobody knows what to do with a block of {other}")
        except AssertionError as error:
            raise AssertionError(f"{block.place}, followed by {reader.domain}: {error}") from error

    def _type(self, reader: Provider, commands: str, expected: Block | None) -> None:
        """Run them all, and compare what they say."""
        again = all(line.startswith(ASKING) for line in commands.splitlines())
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            code, said = reader.follow(commands)
            if self.verbose:
                print(said, end="")
            wrong = f"exit code {code}" if code else None
            if expected and not wrong:
                wrong = differs(reader.names.real(expected.text), said)
                wrong = wrong and f"{expected.place}: {wrong}"
            if not wrong:
                return
            if not again or time.monotonic() > deadline:
                raise AssertionError(f"{wrong}; this was seen:\n{commands}{said}")
            time.sleep(PAUSE_SECONDS)

    def talk(self, lines: list[str]) -> None:
        """Say this, with users of all sides."""
        Conversation(self._servers, PASSWORD, self._internet.authority).hold(lines)

    def _start_component(self, reader: Provider, text: str) -> None:
        """`text` is lines `setting = value`; of the secret it says in which file it stands."""
        settings = dict(line.split(" = ", 1) for line in text.splitlines())
        if tuple(settings) != SETTINGS:
            raise AssertionError(f"a component needs {', '.join(SETTINGS)}, in this order")
        file = settings["secret"].removeprefix("the first line of ")
        settings["secret"] = reader.run(f"head -n 1 {file}").strip()
        command = ["nsenter", "--target", str(reader.machine.pid), "--net", sys.executable, "-B", str(BOT), *settings.values()]
        bot = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self._bots.append(bot)
        said = bot.stdout.readline()
        if said != "accepted\n":
            raise AssertionError(f"the component was not accepted: {said}{bot.stdout.read()}")

    def end(self) -> None:
        for bot in self._bots:
            bot.kill()
            bot.wait()
