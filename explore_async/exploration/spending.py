"""The tokens of a run that is given tokens alone, and no number of examples: how far they go.

What is outstanding counts as spent, as far as committed requests tell its cost: so the last requests are those that the
budget has room for, and few tokens go to completions that come too late. Whole numbers only.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from explore_async.exploration.kinds import GENERATE, KINDS
from explore_async.exploration.values import Completion, Outcome, Request
from explore_async.settings.recipe import Recipe

_CHARACTERS_PER_TOKEN: Final = 4
"""Of a completion whose server does not count."""
_ASSUMED_PROMPT: Final = 300
"""Tokens of a prompt before the first; the weight is that of one request."""
_ASSUMED_ITEM: Final[dict[str, int]] = {
    "tasks": 25, "facets": 35, "examples": 110, "answers": 80, "questions": 30, "scores": 60
}  # fmt: skip
"""Tokens of a completion for each item that it brings; the weight is that of three items."""
_ITEMS: Final = 3
_ASSUMED_EXAMPLES, _ASSUMED_COST = 8, 150
"""Examples that are assumed to be kept before the first, and the tokens of each; and those of each task of a tree."""
_AT_ONCE: Final = 64
"""Requests that may be outstanding whatever is left: as many as keep a small server busy."""
_ASSUMED_TASK: Final = 100


class _Cost:
    """The cost of the requests of one kind: those committed, and those outstanding."""

    def __init__(self, item: int) -> None:
        self.requests, self.prompts = 1, _ASSUMED_PROMPT
        self.items, self.completions = _ITEMS, _ITEMS * item
        self.open_requests = self.open_items = 0

    @property
    def of_one(self) -> int:
        """The tokens of a request for one item."""
        return self.prompts // self.requests + self.completions // self.items

    @property
    def outstanding(self) -> int:
        prompts = self.open_requests * self.prompts // self.requests
        return prompts + self.open_items * self.completions // self.items


class Spending:
    """Owns the account of a run's tokens."""

    def __init__(self, recipe: Recipe, budget: int) -> None:
        self.budget = budget
        """Tokens of prompts and completions, in all."""
        self._steps = recipe.steps_of_instruction
        self.spent = 0
        """Tokens of committed requests."""
        self._costs = {name: _Cost(_ASSUMED_ITEM[kind.brings]) for name, kind in KINDS.items()}
        self._step = _Cost(_ASSUMED_ITEM["answers"])
        """Requests about an instruction, of all kinds."""
        self._on_trees = 0

    @staticmethod
    def of(recipe: Recipe) -> Spending | None:
        """The budget of the recipe, where it names no other target."""
        tokens = recipe.targets.only_budget
        return None if tokens is None else Spending(recipe, tokens)

    def issued(self, request: Request) -> None:
        """Counts a request that is outstanding from now on."""
        cost = self._cost_of(request)
        cost.open_requests += 1
        cost.open_items += request.prompt.values["count"]

    def committed(self, request: Request, outcome: Outcome) -> None:
        """Counts its outcome. A failure costs nothing."""
        cost, count = self._cost_of(request), request.prompt.values["count"]
        cost.open_requests -= 1
        cost.open_items -= count
        if isinstance(outcome, Completion):
            completion = outcome.completion_tokens or len(outcome.text) // _CHARACTERS_PER_TOKEN
            cost.requests += 1
            cost.items += count
            cost.prompts += outcome.prompt_tokens
            cost.completions += completion
            self.spent += outcome.prompt_tokens + completion
            if not request.about and KINDS[request.kind].brings in {"tasks", "facets"}:
                self._on_trees += outcome.prompt_tokens + completion

    def _cost_of(self, request: Request) -> _Cost:
        return self._step if request.about else self._costs[request.kind]

    def is_allotted(self, unfinished: int) -> bool:
        """True when all tokens are spent as soon as what is outstanding is committed, with what it leads to.
        `unfinished`: kept instructions that are no examples yet.
        """
        return self.spent + self._coming(unfinished) >= self.budget

    def needs_evidence(self, unfinished: int) -> bool:
        """True when half of the tokens that are left goes to what is outstanding: what it brings is to be seen before
        more is asked for. So the tokens are spent in stages, each of which knows what the one before has brought.
        """
        outstanding = sum(cost.open_requests for cost in self._costs.values())
        return outstanding >= _AT_ONCE and self.spent + 2 * self._coming(unfinished) >= self.budget

    def _coming(self, unfinished: int) -> int:
        coming = sum(cost.outstanding for cost in self._costs.values())
        if self._steps:
            instructions = unfinished + self._costs[GENERATE.name].open_items
            coming += instructions * self._steps * self._step.of_one
        return coming

    def reach(self, *, kept: int, tasks: int, coming: int) -> int:
        """The examples that the run is going to have when all tokens are spent. `kept` is the number of examples so
        far, `tasks` that of tasks that there are, and `coming` that of those still to come.
        """
        trees = coming * (_ASSUMED_TASK + self._on_trees) // (1 + tasks)
        each = (_ASSUMED_EXAMPLES * _ASSUMED_COST + self.spent - self._on_trees) // (_ASSUMED_EXAMPLES + kept)
        return kept + max(0, self.budget - self.spent - trees) // max(1, each)

    def state(self) -> list[Any]:
        """The state that `restore` needs beside the outstanding requests, as JSON holds it."""
        costs = [*self._costs.values(), self._step]
        return [
            self.spent,
            self._on_trees,
            *([cost.requests, cost.prompts, cost.items, cost.completions] for cost in costs),
        ]

    def restore(self, state: list[Any], outstanding: Iterable[Request]) -> None:
        self.spent, self._on_trees, *costs = state
        for cost, fields in zip([*self._costs.values(), self._step], costs, strict=True):
            cost.requests, cost.prompts, cost.items, cost.completions = fields
        for request in outstanding:
            self.issued(request)
