"""What a scenario is, and what it gets to work with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from client import User
from stage import PASSWORD, Provider, Scenery, Stage

SCENARIOS: list[Scenario] = []


class Skip(Exception):
    """This scenario has nothing to say here; the message says why."""


@dataclass(frozen=True)
class Scenario:
    """One play: a coroutine that fails if something isn't as it should be."""

    name: str
    play: Callable[[Cast], Awaitable[None]]
    scenery: Scenery = Scenery.TWO_PROVIDERS


@dataclass
class Cast:
    """The users on the stage, for one scenario. They log out at its end."""

    stage: Stage
    users: list[User] = field(default_factory=list)

    async def enter(self, name: str, provider: Provider, *, present: bool = True) -> User:
        """A user of `provider`, with an account of that name, logged in."""
        provider.add_account(name)
        user = User(f"{name}@{provider.domain}", PASSWORD, provider.ports.c2s)
        self.users.append(user)
        return await user.log_in(present=present)

    async def leave(self) -> None:
        for user in self.users:
            await user.log_out()


def scenario(play: Callable[[Cast], Awaitable[None]]) -> Callable[[Cast], Awaitable[None]]:
    """Put a coroutine on the programme, in the order of definition. Its name is the scenario's."""
    SCENARIOS.append(Scenario(play.__name__, play))
    return play


def scenario_in(scenery: Scenery) -> Callable[[Callable[[Cast], Awaitable[None]]], Callable[[Cast], Awaitable[None]]]:
    """The same for another scenery."""

    def put(play: Callable[[Cast], Awaitable[None]]) -> Callable[[Cast], Awaitable[None]]:
        SCENARIOS.append(Scenario(play.__name__, play, scenery))
        return play

    return put


def scenario_for_each(words: Iterable[str]) -> Callable[[Callable[[Cast, str], Awaitable[None]]], None]:
    """Put a coroutine on the programme once for each of these words, its second argument."""

    def put(play: Callable[[Cast, str], Awaitable[None]]) -> None:
        for word in words:

            async def at(cast: Cast, word: str = word) -> None:
                await play(cast, word)

            SCENARIOS.append(Scenario(f"{play.__name__}_by_{word}", at))

    return put


def scenario_for_each_provider(play: Callable[[Cast, Provider], Awaitable[None]]) -> Callable[[Cast, Provider], Awaitable[None]]:
    """Put a coroutine on the programme twice: with provider A as its second argument, and with B."""
    for letter in ("a", "b"):

        async def at(cast: Cast, letter: str = letter) -> None:
            await play(cast, getattr(cast.stage, letter))

        SCENARIOS.append(Scenario(f"{play.__name__}_of_{letter}", at))
    return play
