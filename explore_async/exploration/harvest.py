"""The harvest of a task: what its committed requests brought for their tokens, and how much of it was there before.

Whole numbers only, and each changes with a commit alone: the same commits lead to the same figures.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from explore_async.exploration.coverage import estimated_coverage, still_unseen
from explore_async.exploration.values import Completion

_ONE: Final = 1 << 16
"""An example or a token, in the units of the sums that fade."""
_FADES: Final = 8
"""A request has lost an eighth of its weight when the next one of its task is committed: a task that runs dry shows it,
and one completion alone decides nothing."""
_GENERATED: Final = 10
"""A generated token takes about as long as this many tokens of a prompt."""
_FEWEST: Final = 20
"""The fewest texts by which the coverage of a task is estimated."""

Counts: TypeAlias = list[Any]
_COUNTS: Final = ("found", "cost", "texts", "once", "twice", "copies")


def cost_of(completion: Completion) -> int:
    """The cost of a request in tokens of a prompt. Tokens from a prefix cache count too: they depend on the server."""
    return completion.prompt_tokens + _GENERATED * completion.completion_tokens


@dataclass(slots=True, eq=False)
class Harvest:
    """What the requests about one task have brought. `found` and `cost` fade; the others are counts.

    The kinds whose coverage is estimated are groups of near-duplicates: a kept text and those that were dropped as its
    duplicates. The filter tells them apart anyhow, they need no parser, and a text of a kind that is known is exactly
    what a further request brings in vain.
    """

    found: int = 0
    """New instructions, the latest weighing most."""
    cost: int = 0
    """The cost of the requests that brought them, with the same weights."""
    texts: int = 0
    """Instructions that were compared: draws from the kinds of the task."""
    once: int = 0
    """Kept instructions that came once."""
    twice: int = 0
    """Kept instructions that came twice."""
    copies: dict[str, int] = field(default_factory=dict)
    """The duplicates of each kept instruction of the task that has any."""

    def request(self, cost: int, parent: Harvest | None) -> None:
        """A request for examples is committed. `parent`: of the task above, where it is the first: the task begins with
        half of what that had.
        """
        if parent is not None:
            self.found, self.cost = parent.found // 2, parent.cost // 2
        self.found -= self.found // _FADES
        self.cost -= self.cost // _FADES
        self.spend(cost)

    def spend(self, cost: int) -> None:
        """A request about one of its instructions is committed."""
        self.cost += _ONE * cost

    def find(self, count: int) -> None:
        """Instructions were new; or, where `count` is negative, became no example after all."""
        self.found = max(0, self.found + _ONE * count)

    def compare(self, nearest: str | None) -> None:
        """An instruction was compared. `nearest`: None where it is new, else the kept instruction of this task that it
        is a duplicate of; empty where that belongs to no request of this task.
        """
        self.texts += 1
        if nearest is None:
            self.once += 1
        elif nearest:
            copies = self.copies[nearest] = self.copies.get(nearest, 0) + 1
            self.once -= copies == 1
            self.twice += (copies == 1) - (copies == 2)  # noqa: PLR2004 - the third of its kind

    @property
    def rate(self) -> int:
        """New instructions for a cost of 2**40."""
        return (self.found << 40) // max(self.cost, 1)

    @property
    def coverage(self) -> float:
        """The estimated probability that the next instruction of the task is of a kind that came before; 0 while too
        few have come.
        """
        if self.texts < _FEWEST:
            return 0.0
        return estimated_coverage(self.texts, self.once, still_unseen(self.texts, self.once, self.twice))

    def state(self) -> Counts:
        return [getattr(self, name) for name in _COUNTS]

    def restore(self, state: Counts) -> None:
        for name, value in zip(_COUNTS, state, strict=True):
            setattr(self, name, value)
