"""The requests of a run that are issued and not committed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any, Literal

from explore_async.exploration import prompt_values
from explore_async.exploration.choice import draw
from explore_async.exploration.finishing import Step
from explore_async.exploration.kinds import KINDS, RequestKind, kinds_of
from explore_async.exploration.passages import PassageDeck
from explore_async.exploration.rules import Lane
from explore_async.exploration.task_state import TaskState
from explore_async.exploration.values import Prompt, Request
from explore_async.settings.recipe import Recipe

_SEEDS = 2**31  # llama.cpp reads 32 bits and takes the highest value for "any"


class OutstandingRequests:
    """Builds requests and owns them until they are committed, by lane. `lags`, `ahead`: see `rules.Rules`."""

    def __init__(self, recipe: Recipe, lags: Mapping[Lane, int], ahead: int = 0) -> None:
        self._recipe = recipe
        self._lags = lags
        self._ahead = ahead
        self._kinds = kinds_of(recipe)
        self._steps = recipe.steps_of_instruction
        self.deck = PassageDeck(recipe)
        self._ordinal = 0
        self._moment = 0
        """Counts the requests issued, each with those that what it brings is going to need: so the requests about an
        instruction have their place in the order among the requests for instructions.
        """
        self._committed_due = 0
        self._lanes: dict[Lane, dict[int, Request]] = {
            "tree": {},
            "opening": {},
            "generate": {},
            "finish": {},
        }  # by ordinal
        self.trees_in = [0] * len(recipe.domains)
        """Outstanding requests that a tree waits for, by domain."""

    def __len__(self) -> int:
        return sum(map(len, self._lanes.values()))

    def count(self, lane: Lane) -> int:
        return len(self._lanes[lane])

    def issue(self, kind: RequestKind, task: TaskState, turn: int, lane: Lane) -> Request:
        """A new request. `turn`: the requests of this kind that the task has had before."""
        explores = self._ahead and lane in {"tree", "opening"}
        since = max(self._committed_due, self._moment - self._ahead) if explores else self._moment
        due = since + min(self._lags[lane], self._recipe.window)
        values = self._filled(kind, task, turn)
        self._moment += 1 + (values["count"] * self._steps if kind.brings == "examples" else 0)
        return self._add(kind.name, task, turn, values, (due, self._next_ordinal()), lane)

    def _filled(self, kind: RequestKind, task: TaskState, turn: int) -> dict[str, Any]:
        values = kind.fill(self._recipe, task, turn)
        return values if kind.brings != "examples" else values | self.deck.dealt(task.domain, task.task.id, turn)

    def issue_step(self, step: Step, task: TaskState) -> Request:
        """A new request about a kept instruction."""
        due = max(step.after + self._lags["finish"], self._committed_due)
        return self._add(step.kind, task, step.turn, step.values, (due, self._next_ordinal()), "finish", step.about)

    def _next_ordinal(self) -> int:
        self._ordinal += 1
        return self._ordinal - 1

    def remove(self, request: Request, task: TaskState) -> Lane:
        """Takes out a request that is committed; returns its lane."""
        lane = next(lane for lane, requests in self._lanes.items() if request.ordinal in requests)
        del self._lanes[lane][request.ordinal]
        if KINDS.get(request.kind) is not None and KINDS[request.kind].brings == "examples":
            self.deck.committed(task.domain, task.task.id, request.turn)
        self._committed_due = request.due
        if lane == "tree":
            self.trees_in[task.domain] -= 1
        return lane

    def all(self) -> list[Request]:
        """In the order of issue."""
        requests = (request for lane in self._lanes.values() for request in lane.values())
        return sorted(requests, key=attrgetter("ordinal"))

    def _add(  # noqa: PLR0917 - as `issue` has them
        self,
        kind: str,
        task: TaskState,
        turn: int,
        values: dict[str, Any],
        place: tuple[int, int],
        lane: Lane,
        about: str = "",
    ) -> Request:
        """`about`: the id of the example that it is about; empty for one about its task."""
        due, ordinal = place
        task_id = task.task.id
        request = Request(
            ordinal=ordinal,
            due=due,
            kind=kind,
            task_id=task_id,
            turn=turn,
            prompt=Prompt(kind, {**prompt_values.about(self._recipe, task), **values}),
            seed=draw(self._recipe.seed, kind, about or task_id, turn) % _SEEDS,
            about=about,
        )
        self._lanes[lane][ordinal] = request
        if lane == "tree":
            self.trees_in[task.domain] += 1
        return request

    # -- checkpoints

    def state(self, index_of: Mapping[str, int]) -> dict[str, Any]:
        """The state that `restore` needs, as JSON holds it. `index_of`: the number of each task, by its id."""
        return {
            "ordinal": self._ordinal,
            "moment": self._moment,
            "committed_due": self._committed_due,
            "lanes": {
                lane: [_noted(request, index_of[request.task_id]) for request in requests.values()]
                for lane, requests in self._lanes.items()
            },
            **self.deck.state(),
        }

    def restore(self, state: Mapping[str, Any], tasks: Sequence[TaskState]) -> None:
        """Issues the same requests again. `tasks` by number, all restored."""
        self._ordinal, self._moment = state["ordinal"], state["moment"]
        self._committed_due = state["committed_due"]
        self.deck.restore(state.get("passages", ()))
        for lane in self._lanes:
            for due, ordinal, name, index, turn, shown, about in state["lanes"][lane]:
                task = tasks[index]
                values = _with_tuples(shown) if shown else self._filled(self._kinds[name], task, turn)
                self._add(name, task, turn, values, (due, ordinal), lane, about)


def _noted(request: Request, task: int) -> list[Any]:
    shown = _shown_beside_task(request)
    return [request.due, request.ordinal, request.kind, task, request.turn, shown, request.about]


def _shown_beside_task(request: Request) -> dict[str, Any] | Literal[False]:
    """The values of its prompt that show the tree as it was then, or an example; False where they can be filled
    again.
    """
    if not (request.about or KINDS[request.kind].holds_up_tree):
        return False
    return {name: value for name, value in request.prompt.values.items() if name not in prompt_values.ABOUT}


def _with_tuples(value: Any) -> Any:
    """The values as they were before JSON made lists of their tuples."""
    if isinstance(value, dict):
        return {name: _with_tuples(inner) for name, inner in value.items()}
    return tuple(_with_tuples(inner) for inner in value) if isinstance(value, list) else value
