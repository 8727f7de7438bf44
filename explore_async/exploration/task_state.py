"""A task as the explorer knows it, and what is asked about it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from explore_async.exploration.allocation import Account
from explore_async.exploration.choice import draw
from explore_async.exploration.tree import Node
from explore_async.exploration.values import Demonstration, Example, Kind, Prompt, Request
from explore_async.settings.recipe import Recipe

_SEEDS = 2**31  # llama.cpp reads 32 bits and takes the highest value for "any"


@dataclass(slots=True, eq=False)
class TaskState:
    """Where a task stands, what its prompts show, what it has brought."""

    domain: int
    node: Node
    account: Account
    demonstrations: tuple[Demonstration, ...]
    opening: tuple[Demonstration, ...] = ()
    """Its own seeds and what its first answer held: what its children are shown. Independent of the corpus, so of the
    target.
    """
    asked: dict[Kind, int] = field(default_factory=dict)
    waiting: deque[Example] = field(default_factory=deque)
    dropped: int = 0

    def state(self) -> dict[str, Any]:
        """What `restore` needs, as JSON holds it; the task's place in the tree aside."""
        task = self.node.task
        return {
            "parent": task.parent_id,
            "name": task.name,
            "reason": task.reason,
            "origin": task.origin,
            "node": self.node.state(),
            "account": self.account.state(),
            "demonstrations": self.demonstrations,
            "opening": self.opening,
            "asked": dict(self.asked),
            "waiting": list(self.waiting),
            "dropped": self.dropped,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.node.restore(state["node"])
        self.account.restore(state["account"])
        self.demonstrations = tuple(Demonstration(**one) for one in state["demonstrations"])
        self.opening = tuple(Demonstration(**one) for one in state["opening"])
        self.asked = dict(state["asked"])
        self.waiting = deque(Example(**one) for one in state["waiting"])
        self.dropped = state["dropped"]


def restored_values(told: dict[str, Any]) -> dict[str, Any]:
    """What a prompt of exploration was filled with, as it was before JSON made lists of it."""
    values = dict(told)
    if "existing" in told:
        values["existing"] = tuple(told["existing"])
    if "explored" in told:
        values["explored"] = tuple((level, name) for level, name in told["explored"])
    return values


class RequestBuilder:
    """What is asked: of a task, the kind and how many of that kind it has had; of a lookahead or backtrack also of how
    the tree stands by then. Remembers nothing.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe

    def values(self, kind: Kind, subject: TaskState, turn: int) -> dict[str, Any]:
        """What the prompt is filled with now."""
        if kind == "generate":
            return self._generation_values(subject, turn)
        node = subject.node
        values: dict[str, Any] = {"count": min(self._recipe.exploration.step, node.room)}
        if kind == "lookahead":
            return {**values, "existing": tuple(child.task.name for child in node.children)}
        return {**values, "explored": tuple((level, below.task.name) for level, below in node.below())}

    def request(
        self, kind: Kind, subject: TaskState, turn: int, values: dict[str, Any], *, ordinal: int, lag: int
    ) -> Request:
        domain, task = self._recipe.domains[subject.domain], subject.node.task
        about = {
            "domain": domain.name,
            "description": domain.description,
            "task": task.name,
            "reason": "" if subject.node.parent is None else task.reason,
        }
        return Request(
            ordinal=ordinal,
            due=ordinal + lag,
            kind=kind,
            task_id=task.id,
            turn=turn,
            prompt=Prompt(kind, {**about, **values}),
            seed=draw(self._recipe.seed, kind, task.id, turn) % _SEEDS,
        )

    def _generation_values(self, subject: TaskState, turn: int) -> dict[str, Any]:
        domain, task_id = self._recipe.domains[subject.domain], subject.node.task.id
        return {
            "demonstrations": subject.demonstrations,
            "topic": self._in_turn("topic", domain.topics, task_id, turn),
            "style": self._in_turn("style", domain.styles, task_id, turn + turn // max(1, len(domain.topics))),
            "count": self._generation_size(turn),
        }

    def _generation_size(self, turn: int) -> int:
        """Examples to ask for. A task's first answer holds up its children: what they are shown, and one more."""
        generation = self._recipe.generation
        if turn == 0:
            return min(generation.per_request, generation.demonstrations + 1)
        return generation.per_request

    def _in_turn(self, what: str, choices: tuple[str, ...], task_id: str, turn: int) -> str:
        if not choices:
            return ""
        return choices[(draw(self._recipe.seed, what, task_id) + turn) % len(choices)]
