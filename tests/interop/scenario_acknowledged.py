"""Stream management between a Prosody with mod_fedmux and a relay that dies at every moment, under hundreds of stanzas a second from a
user and from a component: each stanza is received, or comes back to its sender.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable

from flood import Flood
from play import Cast, Skip, scenario
from processes import StageError, free_ports
from scripted_relay import Death, Post, ScriptedRelay
from stage import PASSWORD, Provider

# A remote domain that nobody else speaks for.
REMOTE = "dream.test"
SECRET = "queen"
# By hand: FEDMUX_DEATHS=200 FEDMUX_SEED=7 makes another history, and a longer one.
SEED = int(os.environ.get("FEDMUX_SEED", "20"))
DEATHS = int(os.environ.get("FEDMUX_DEATHS", "80"))
STANZAS_A_SECOND = 500
POSTED = 200
SETTLE_SECONDS = 20 + DEATHS / 10
# To die so often takes 4 s, and beside compilers and their like a Prosody may get a tenth of its processor for a while.
DIE_SECONDS = 4 * SETTLE_SECONDS
# Under way at once: a Prosody that is slow would else be given more than it ever comes to.
LAG_MAX = 1000
WAYS = ("reset", "fin", "error", "close")
# Every step of a stream, and often where it spends its life.
DIALLED_BY_PROSODY = ("accepted", "header", "offered", "auth", "success", "restart", "answered", "features", "enable", "enabled", *9 * ["carrying"])
DIALLED_BY_US = ("offered", "auth", "success", "restart", "features", "enable", "enabled", *9 * ["carrying"])


class Trial:
    """A Prosody of its own, the test in the place of its relay, and two who flood it."""

    def __init__(self, cast: Cast, letter: str) -> None:
        if cast.stage.variant.name != "with-module":
            raise Skip("the module, and once")
        self.cast = cast
        self.letter = letter
        self.random = random.Random(SEED)
        relay_port, self.component_port = free_ports(2)
        self.relay = ScriptedRelay(REMOTE, relay_port)
        user, cell, mab = f"romeo@{letter}.test", f"cell.{letter}.test", f"mab@{REMOTE}"
        self.user, self.cell = Flood(user, mab, "u"), Flood(cell, mab, "c")
        self.floods = (self.user, self.cell)
        self.provider: Provider | None = None

    async def begin(self, settings: str = "") -> None:
        """`settings` are more lines for Prosody's configuration."""
        cell = f'Component "{self.cell.sender}"\ncomponent_secret = "{SECRET}"\n'
        listening = f'component_ports = {{ {self.component_port} }}\ncomponent_interfaces = {{ "127.0.0.1" }}\n'
        self.provider = await self.cast.stage.add_provider(self.letter, self.relay.port, f"{settings}\n{listening}{cell}")
        self.provider.add_account("romeo")
        await self.user.log_in(self.provider.ports.c2s, PASSWORD)
        await self.cell.join(self.component_port, SECRET)

    def post(self) -> None:
        """Let the relay have something for the user, too."""
        self.relay.post = Post(f"{self.user.sender}/flood", POSTED)

    async def end(self) -> None:
        await self.relay.close()
        for flood in self.floods:
            flood.close()
        if self.provider:
            await self.provider.prosody.stop()

    def death(self, points: tuple[str, ...]) -> Death:
        """Any."""
        linger = self.random.choice((0, 0, 0.003, 0.01, 0.03))
        acknowledges = self.random.random() < 0.6
        return Death(self.random.choice(points), self.random.choice(WAYS), linger, self.random.randint(1, 100), acknowledges)

    def unaccounted(self) -> list[str]:
        accounted = {*self.relay.heard.received, *self.user.errors, *self.cell.errors}
        return [name for flood in self.floods for name in map(flood.name, range(flood.sent)) if name not in accounted]

    async def settle(self) -> None:
        """Send no more, and wait for what is under way."""
        # A Prosody that dials has a stream for what the relay posts only as long as it sends something itself.
        await self.until("everything posted is acknowledged", self.posted)
        for flood in self.floods:
            flood.go.clear()
        await self.until("everything is accounted for", lambda: not self.unaccounted())

    def keep_pace(self) -> None:
        """Send no faster than it is accounted for."""
        lags = len(self.unaccounted()) > LAG_MAX
        for flood in self.floods:
            flood.go.clear() if lags else flood.go.set()

    def died_often_enough(self) -> bool:
        self.keep_pace()
        return not self.relay.deaths

    def posted(self) -> bool:
        post = self.relay.post
        if not post or post.acknowledged == post.count:
            return True
        self.keep_pace()
        return False

    async def until(self, what: str, holds: Callable[[], bool], seconds: float = SETTLE_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not holds() and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        silent = self.unaccounted()
        assert holds(), f"not {what}: {len(silent)} silent, {silent[:10]}; {self.relay.post}; {self.relay.failures}"

    def judge(self) -> None:
        """What must hold however often the relay died."""
        heard = self.relay.heard
        assert not self.relay.failures, self.relay.failures
        assert not heard.uncovered, f"sent where nobody covers them: {heard.uncovered[:10]}"
        for label, flood in (("u", self.user), ("c", self.cell)):
            received = [name for name in heard.received if name.startswith(label)]
            assert firsts(received) == sorted(set(received)), f"out of order: {label}"
            assert len(received) > flood.sent / 20, f"only {len(received)} of {flood.sent} came through: nothing is shown"
        # What Prosody has acknowledged has reached the user, and nothing was overtaken.
        assert firsts(self.user.came) == [f"p{number:06}" for number in range(self.relay.post.count)], self.user.came

    def figures(self) -> str:
        sent, errors = (sum(map(len, lists)) for lists in ([range(f.sent) for f in self.floods], [f.errors for f in self.floods]))
        both = {*self.relay.heard.received} & {*self.user.errors, *self.cell.errors}
        twice = len(self.relay.heard.received) - len({*self.relay.heard.received})
        return (
            f"{sent} sent, {len(self.relay.heard.received)} received, {errors} returned ({len(both)} of them received, too), {twice} twice, 0 silent; "
            f"{self.relay.heard.managed} streams under stream management"
        )


def firsts(names: list[str]) -> list[str]:
    """Each of them where it came first."""
    return list(dict.fromkeys(names))


def trial(letter: str) -> Callable[[Callable[[Trial], Awaitable[None]]], None]:
    """Put a coroutine on the programme, with a Prosody of this letter."""

    def put(play: Callable[[Trial], Awaitable[None]]) -> None:
        async def at(cast: Cast) -> None:
            each = Trial(cast, letter)
            try:
                await play(each)
                print(f"         {each.figures()}")
            finally:
                await each.end()

        at.__name__ = play.__name__
        scenario(at)

    return put


async def die_where_prosody_dials(trial: Trial) -> None:
    trial.post()
    trial.relay.deaths = [trial.death(DIALLED_BY_PROSODY) for _ in range(DEATHS)]
    await trial.relay.listen()
    for flood in trial.floods:
        flood.start(STANZAS_A_SECOND / 2)
    await trial.until("dead often enough", trial.died_often_enough, DIE_SECONDS)
    await asyncio.sleep(0.2)
    await trial.settle()


@trial("d")
async def module_loses_nothing_silently_on_streams_that_prosody_dials(trial: Trial) -> None:
    await trial.begin()
    await die_where_prosody_dials(trial)
    trial.judge()


@trial("e")
async def module_loses_nothing_silently_on_streams_that_the_relay_dials(trial: Trial) -> None:
    """Nobody listens, so that what the relay's own stream doesn't take comes back."""
    await trial.begin()
    trial.post()
    for flood in trial.floods:
        flood.start(STANZAS_A_SECOND / 2)
    for _ in range(DEATHS):
        flood = trial.random.choice(trial.floods)
        # An attempt of Prosody to dial that is still under way would keep our stream from being used.
        flood.go.clear()
        sent = flood.sent
        await trial.until("the last one is back", lambda: sent == 0 or flood.name(sent - 1) not in trial.unaccounted())
        host = flood.sender.rpartition("@")[2]
        await trial.relay.dial(trial.provider.ports.s2s, host, trial.death(DIALLED_BY_US), flood.go.set)
    await trial.relay.listen()
    for flood in trial.floods:
        flood.go.set()
    await asyncio.sleep(0.2)
    await trial.settle()
    trial.judge()


@trial("f")
async def module_sends_again_if_it_is_told_to(trial: Trial) -> None:
    """smacks_s2s_resend: what the relay has not acknowledged goes out again, in order, under stream management."""
    await trial.begin("smacks_s2s_resend = true")
    await die_where_prosody_dials(trial)
    trial.judge()
    received = trial.relay.heard.received
    assert len(received) > len(set(received)), "nothing was sent again"


@trial("g")
async def module_keeps_more_than_the_queue_of_mod_smacks(trial: Trial) -> None:
    """Of which the oldest would fall silently."""
    await trial.begin("smacks_max_queue_size = 3")
    trial.relay.deaths = [Death("carrying", stanzas=100, acknowledges=False)]
    await trial.relay.listen()
    for _ in range(300):
        trial.user.send()
    await trial.settle()
    returned = [name for name in trial.user.errors if name not in trial.relay.heard.received]
    assert len(trial.user.errors) >= 100, f"of 300 that nobody acknowledged only {len(trial.user.errors)} came back"
    assert returned or len(trial.relay.heard.received) == 300


@trial("h")
async def module_returns_what_it_has_no_room_for(trial: Trial) -> None:
    await trial.begin("fedmux_unacked_max = 20")
    # It lives, acknowledges nothing, and dies when it is told to.
    trial.relay.deaths = [Death("carrying", stanzas=10_000, acknowledges=False)]
    await trial.relay.listen()
    for _ in range(60):
        trial.user.send()
    await trial.until("40 are back", lambda: len(trial.user.errors) == 40)
    assert firsts(trial.relay.heard.received) == [trial.user.name(number) for number in range(20)]
    await trial.relay.close()
    await trial.until("all 60 are back", lambda: len(trial.user.errors) == 60)
    assert sorted(trial.user.errors) == [trial.user.name(number) for number in range(60)]


@scenario
async def module_gives_nothing_to_a_relay_that_falls_silent(cast: Cast) -> None:
    """After the authentication, on a stream of either direction: after 20 s it is closed, and what was held comes back."""
    trials = [Trial(cast, letter) for letter in "ij"]
    silent = [Death("success", linger=60), Death("features", linger=60)]
    try:
        for each in trials:
            await each.begin()
        trials[0].relay.deaths = silent[:1]
        await trials[0].relay.listen()
        trials[0].user.send()
        dialling = asyncio.create_task(trials[1].relay.dial(trials[1].provider.ports.s2s, "j.test", silent[1], trials[1].user.send))
        try:
            for each in trials:
                deadline = time.monotonic() + 40
                while not each.user.errors and time.monotonic() < deadline:
                    await asyncio.sleep(0.1)
                assert each.user.errors == [each.user.name(0)], f"{each.letter}: {each.user.errors}"
                assert not each.relay.heard.received
        finally:
            dialling.cancel()
    except OSError as error:
        raise StageError(f"Prosody can't be reached: {error}") from error
    finally:
        for each in trials:
            await each.end()
