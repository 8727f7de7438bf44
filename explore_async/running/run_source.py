"""The source of requests of a run: the members that a run needs beside those that `drive` needs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, Protocol

from explore_async.exploration.play import Source
from explore_async.exploration.values import Event, Example
from explore_async.settings.recipe import Recipe


class RunSource(Source, Protocol):
    """`Explorer` is one, for a run, and `Reviser`, for examples that exist."""

    recipe: Recipe
    tokens: int
    """Tokens of prompts and completions that are committed."""
    token_budget: int | None
    """Tokens that it may use; None where it has no budget."""

    @property
    def stopped(self) -> Literal["target", "token_budget", "complete"] | None:
        """The reason why it has ended; None while it goes on."""

    @property
    def digest(self) -> str:
        """Digest of all that decides what the data is."""

    @property
    def stage(self) -> Literal["exploring", "generating", "revising"]: ...

    @property
    def explored(self) -> bool:
        """True when all trees are complete."""

    @property
    def planned_tasks(self) -> int: ...

    @property
    def wanted(self) -> int:
        """Examples that it goes for."""

    @property
    def target(self) -> int | None:
        """Examples that it has to keep; None where no number of them is given."""

    @property
    def unfinished(self) -> int:
        """Kept instructions that are no examples yet."""

    def passages(self) -> dict[str, int]:
        """The passages of files that requests have shown, `used`, and the others, `unused`; empty without any."""

    def surplus(self) -> int:
        """Examples that are read and not decided."""

    def seed_events(self) -> list[Event]:
        """The events that precede the first request."""

    def tasks(self) -> list[Event]:
        """An event for every task, in the order in which they were added."""

    def trees(self) -> list[dict[str, Any]]:
        """The trees as tree.json has them."""

    def state(self) -> dict[str, Any]:
        """The state that `restore` needs, as JSON holds it."""

    def restore(self, state: dict[str, Any], kept: Iterable[Example]) -> None:
        """Brings a new source to the `state` of another of the same recipe, which has kept these examples, in order."""
