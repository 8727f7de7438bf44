"""The kinds of requests: a row for each, with all that distinguishes it from the others.

A new kind is a new row and its template; a strategy or a turn policy then issues its requests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, Final, Literal, TypeAlias

from explore_async.exploration import prompt_values
from explore_async.exploration.parsing import (
    ExampleDraft,
    Format,
    ProposedTask,
    Unreadable,
    examples_schema,
    parse_examples,
    parse_tasks,
    tasks_schema,
)
from explore_async.exploration.prompt_values import TaskView
from explore_async.exploration.values import AnswerSchema, Completion, Demonstration
from explore_async.settings.recipe import Recipe

Item: TypeAlias = ProposedTask | ExampleDraft | Unreadable


@dataclass(frozen=True, slots=True)
class RequestKind:
    """A row of the table."""

    name: str
    """Its name in settings, requests, seeds and files; a task that it brings has this as its origin."""
    brings: Literal["tasks", "examples"]
    label: str
    """The word for people beside the tasks that it brings; empty where none is needed."""
    holds_up_tree: bool
    """The tree waits for its completion, and its prompt shows the tree as it is when the request is issued."""
    sampling: Literal["exploration", "generation"]
    """The part of the recipe's `sampling` that applies."""
    template: Traversable
    """The file of its packaged template."""
    fill: Callable[[Recipe, TaskView, int], dict[str, Any]]
    """The values of a prompt beside `prompt_values.about`: of a task, and of the number of earlier requests of this
    kind. They include `count`, the number of items to ask for.
    """
    trial: Mapping[str, Any]
    """Every name that a template may use, with a value to try it on."""
    schema: Callable[[int, bool], AnswerSchema]
    """The schema of a completion with at most this number of items, with or without inputs."""
    parse: Callable[[Completion, Format, int], Sequence[Item]]
    """The items of a completion in a format, by a version of the rules (`settings.recipe.MEANING`)."""


_TEMPLATES: Final = files("explore_async.exploration") / "templates"
_COMMON: Final[Mapping[str, Any]] = {"domain": "a", "description": "b", "task": "c", "reason": "d", "count": 2}

LOOKAHEAD: Final = RequestKind(
    name="lookahead",
    brings="tasks",
    label="",
    holds_up_tree=True,
    sampling="exploration",
    template=_TEMPLATES / "lookahead.j2",
    fill=prompt_values.for_lookahead,
    trial={**_COMMON, "existing": ("e",)},
    schema=lambda most, _inputs: tasks_schema(most),
    parse=parse_tasks,
)
BACKTRACK: Final = RequestKind(
    name="backtrack",
    brings="tasks",
    label="backtracking",
    holds_up_tree=True,
    sampling="exploration",
    template=_TEMPLATES / "backtrack.j2",
    fill=prompt_values.for_backtrack,
    trial={**_COMMON, "explored": ((0, "f"),)},
    schema=lambda most, _inputs: tasks_schema(most),
    parse=parse_tasks,
)
GENERATE: Final = RequestKind(
    name="generate",
    brings="examples",
    label="",
    holds_up_tree=False,
    sampling="generation",
    template=_TEMPLATES / "generate.j2",
    fill=prompt_values.for_generate,
    trial={**_COMMON, "demonstrations": (Demonstration("g", "h", "i"),), "topic": "j", "style": "k"},
    schema=lambda most, inputs: examples_schema(most, inputs=inputs),
    parse=parse_examples,
)

KINDS: Final[dict[str, RequestKind]] = {kind.name: kind for kind in (LOOKAHEAD, BACKTRACK, GENERATE)}
"""The kinds by name, in the order of `settings.recipe.Kind`."""


def brings_examples(kind: str) -> bool:
    """True for the name of a kind whose completions hold examples; False also for an unknown name."""
    return kind in KINDS and KINDS[kind].brings == "examples"


def label_of(origin: str) -> str:
    """The word for people beside a task of this origin; empty for seeds and for unknown origins."""
    return next((kind.label for kind in KINDS.values() if kind.name == origin), "")
