"""The requests of a run that are issued and not committed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any, Literal

from explore_async.exploration import prompt_values
from explore_async.exploration.choice import draw
from explore_async.exploration.kinds import GENERATE, KINDS, RequestKind
from explore_async.exploration.task_state import TaskState
from explore_async.exploration.values import Prompt, Request
from explore_async.settings.recipe import Recipe

_SEEDS = 2**31  # llama.cpp reads 32 bits and takes the highest value for "any"


class OutstandingRequests:
    """Builds requests and owns them until they are committed, apart for exploration and for generation.

    An exploration request is one that its tree waits for: of a kind that holds up the tree, or the opening of a task.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._ordinal = 0
        self.exploring: dict[int, Request] = {}  # by ordinal
        self.generating: dict[int, Request] = {}
        self.exploring_in = [0] * len(recipe.domains)
        """Outstanding exploration requests, by domain."""

    def __len__(self) -> int:
        return len(self.exploring) + len(self.generating)

    def issue(self, kind: RequestKind, task: TaskState, turn: int, *, exploring: bool) -> Request:
        """A new request. `turn`: the requests of this kind that the task has had before."""
        ordinal = self._ordinal
        self._ordinal += 1
        values = kind.fill(self._recipe, task, turn)
        return self._add(kind, task, turn, values, ordinal=ordinal, exploring=exploring)

    def remove(self, request: Request, task: TaskState) -> bool:
        """Takes out a request that is committed; returns True when its tree waited for it."""
        exploring = self.exploring.pop(request.ordinal, None) is not None
        if exploring:
            self.exploring_in[task.domain] -= 1
        self.generating.pop(request.ordinal, None)
        return exploring

    def all(self) -> list[Request]:
        """In the order of issue."""
        return sorted((*self.exploring.values(), *self.generating.values()), key=attrgetter("ordinal"))

    def _add(
        self, kind: RequestKind, task: TaskState, turn: int, values: dict[str, Any], *, ordinal: int, exploring: bool
    ) -> Request:
        task_id = task.task.id
        request = Request(
            ordinal=ordinal,
            due=ordinal + (self._recipe.lag if exploring else self._recipe.window),
            kind=kind.name,
            task_id=task_id,
            turn=turn,
            prompt=Prompt(kind.name, {**prompt_values.about(self._recipe, task), **values}),
            seed=draw(self._recipe.seed, kind.name, task_id, turn) % _SEEDS,
        )
        if exploring:
            self.exploring[ordinal] = request
            self.exploring_in[task.domain] += 1
        else:
            self.generating[ordinal] = request
        return request

    # -- checkpoints

    def state(self, index_of: Mapping[str, int]) -> dict[str, Any]:
        """The state that `restore` needs, as JSON holds it. `index_of`: the number of each task, by its id."""
        return {
            "ordinal": self._ordinal,
            "exploring": [
                [request.ordinal, request.kind, index_of[request.task_id], request.turn, _shown_of_tree(request)]
                for request in self.exploring.values()
            ],
            "generating": [
                [request.ordinal, index_of[request.task_id], request.turn] for request in self.generating.values()
            ],
        }

    def restore(self, state: Mapping[str, Any], tasks: Sequence[TaskState]) -> None:
        """Issues the same requests again. `tasks` by number, all restored."""
        self._ordinal = state["ordinal"]
        for ordinal, name, index, turn, shown in state["exploring"]:
            kind, task = KINDS[name], tasks[index]
            values = _with_tuples(shown) if shown else kind.fill(self._recipe, task, turn)
            self._add(kind, task, turn, values, ordinal=ordinal, exploring=True)
        for ordinal, index, turn in state["generating"]:
            values = GENERATE.fill(self._recipe, tasks[index], turn)
            self._add(GENERATE, tasks[index], turn, values, ordinal=ordinal, exploring=False)


def _shown_of_tree(request: Request) -> dict[str, Any] | Literal[False]:
    """The values of its prompt that show the tree as it was then; False where they can be filled again."""
    if not KINDS[request.kind].holds_up_tree:
        return False
    return {name: value for name, value in request.prompt.values.items() if name not in prompt_values.ABOUT}


def _with_tuples(value: Any) -> Any:
    """The values as they were before JSON made lists of their tuples."""
    if isinstance(value, dict):
        return {name: _with_tuples(inner) for name, inner in value.items()}
    return tuple(_with_tuples(inner) for inner in value) if isinstance(value, list) else value
