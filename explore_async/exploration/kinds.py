"""The kinds of requests: a row for each, with all that distinguishes it from the others.

A new kind is a new row and its template; a strategy or a turn policy then issues its requests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, Final, Literal, TypeAlias

from explore_async.exploration import prompt_values
from explore_async.exploration.parsing import (
    PREFERENCE,
    AnswerDraft,
    Checked,
    ExampleDraft,
    Preference,
    ProposedFacet,
    ProposedTask,
    Scores,
    Unreadable,
    examples_schema,
    facets_schema,
    instructions_schema,
    parse_answer,
    parse_examples,
    parse_facets,
    parse_instructions,
    parse_preference,
    parse_question,
    parse_scores,
    parse_tasks,
    scores_schema,
    tasks_schema,
)
from explore_async.exploration.prompt_values import TaskView
from explore_async.exploration.values import AnswerSchema, Completion, Demonstration
from explore_async.settings.comparing_recipe import JUDGE_PREFIX, ComparingRecipe
from explore_async.settings.recipe import ASPECTS, Recipe

Item: TypeAlias = ProposedTask | ProposedFacet | ExampleDraft | AnswerDraft | Checked | Scores | Preference | Unreadable


@dataclass(frozen=True, slots=True)
class RequestKind:
    """A row of the table."""

    name: str
    """Its name in settings, requests, seeds and files; a task that it brings has this as its origin."""
    brings: Literal["tasks", "facets", "examples", "answers", "questions", "scores", "preferences"]
    label: str
    """The word for people beside the tasks that it brings; empty where none is needed."""
    holds_up_tree: bool
    """The tree waits for its completion, and its prompt shows the tree as it is when the request is issued."""
    sampling: Literal["exploration", "generation", "answers", "judging"]
    """The part of the recipe's `sampling` that applies."""
    template: Traversable
    """The file of its packaged template."""
    fill: Callable[[Recipe, TaskView, int], dict[str, Any]]
    """The values of a prompt beside `prompt_values.about`: of a task, and of the number of earlier requests of this
    kind. They include `count`, the number of items to ask for. Of a kind that is about one example: those of a first
    one, to try the prompt on.
    """
    trial: Mapping[str, Any]
    """Every name that a template may use, with a value to try it on."""
    schema: Callable[[Recipe, int], AnswerSchema | None]
    """The schema of a completion with at most this number of items, in JSON; None where it is plain text anyhow."""
    parse: Callable[[Completion, Recipe], Sequence[Item]]
    """The items of a completion, by the rules of the recipe."""


_TEMPLATES: Final = files("explore_async.exploration") / "templates"
_COMMON: Final[Mapping[str, Any]] = {"domain": "a", "description": "b", "task": "c", "reason": "d", "count": 2}
_OF_EXAMPLE: Final[Mapping[str, Any]] = {"instruction": "g", "input": "h"}


def _tasks_schema(recipe: Recipe, most: int) -> AnswerSchema:
    return tasks_schema(most, criterion=recipe.exploration.lookahead == "criterion")


def _tasks(completion: Completion, recipe: Recipe) -> Sequence[ProposedTask | Unreadable]:
    by_criterion = recipe.exploration.lookahead == "criterion"
    return parse_tasks(completion, recipe.answer_format, recipe.meaning, criterion=by_criterion)


LOOKAHEAD: Final = RequestKind(
    name="lookahead",
    brings="tasks",
    label="",
    holds_up_tree=True,
    sampling="exploration",
    template=_TEMPLATES / "lookahead.j2",
    fill=prompt_values.for_lookahead,
    trial={**_COMMON, "existing": ("e",), "criteria": ("q",)},
    schema=_tasks_schema,
    parse=_tasks,
)
BACKTRACK: Final = RequestKind(
    name="backtrack",
    brings="tasks",
    label="backtracking",
    holds_up_tree=True,
    sampling="exploration",
    template=_TEMPLATES / "backtrack.j2",
    fill=prompt_values.for_backtrack,
    trial={**_COMMON, "explored": ((0, "f"),), "criteria": ("q",)},
    schema=_tasks_schema,
    parse=_tasks,
)
FACETS: Final = RequestKind(
    name="facets",
    brings="facets",
    label="",
    holds_up_tree=False,
    sampling="exploration",
    template=_TEMPLATES / "facets.j2",
    fill=prompt_values.for_facets,
    trial={**_COMMON, "values": 2},
    schema=lambda _recipe, most: facets_schema(most),
    parse=lambda completion, recipe: parse_facets(completion, recipe.answer_format, recipe.exploration.facets),
)
GENERATE: Final = RequestKind(
    name="generate",
    brings="examples",
    label="",
    holds_up_tree=False,
    sampling="generation",
    template=_TEMPLATES / "generate.j2",
    fill=prompt_values.for_generate,
    trial={
        **_COMMON,
        "demonstrations": (Demonstration("g", "h", "i"),),
        "topic": "j",
        "style": "k",
        "passage": "o",
        "passage_name": "p",
        "facets": (("r", "s"),),
    },
    schema=lambda recipe, most: examples_schema(most, inputs=recipe.generation.inputs),
    parse=lambda completion, recipe: parse_examples(completion, recipe.answer_format, recipe.meaning),
)
GENERATE_INSTRUCTIONS: Final = replace(
    GENERATE,
    template=_TEMPLATES / "generate_instructions.j2",
    schema=lambda recipe, most: instructions_schema(most, inputs=recipe.generation.inputs),
    parse=lambda completion, recipe: parse_instructions(completion, recipe.answer_format, recipe.meaning),
)
"""The row of `generate` where each instruction is answered in a request of its own."""
ANSWER: Final = RequestKind(
    name="answer",
    brings="answers",
    label="",
    holds_up_tree=False,
    sampling="answers",
    template=_TEMPLATES / "answer.j2",
    fill=prompt_values.for_a_first_answer,
    trial={**_COMMON, **_OF_EXAMPLE, "system": "m"},
    schema=lambda _recipe, _most: None,
    parse=lambda completion, _recipe: (parse_answer(completion),),
)
ALPACA: Final = _TEMPLATES / "alpaca.j2"
"""Another template for answers: Alpaca's (Taori et al. 2023), as `train --preset paper` learns it."""
FOLLOW_UP: Final = RequestKind(
    name="follow_up",
    brings="questions",
    label="",
    holds_up_tree=False,
    sampling="answers",
    template=_TEMPLATES / "follow_up.j2",
    fill=prompt_values.for_a_first_follow_up,
    trial={**_COMMON, "messages": ({"role": "user", "content": "g"}, {"role": "assistant", "content": "h"})},
    schema=lambda _recipe, _most: None,
    parse=lambda completion, _recipe: (parse_question(completion),),
)
JUDGE: Final = RequestKind(
    name="judge",
    brings="scores",
    label="",
    holds_up_tree=False,
    sampling="judging",
    template=_TEMPLATES / "judge.j2",
    fill=prompt_values.for_a_first_judgement,
    trial={**_COMMON, **_OF_EXAMPLE, "output": "n", "aspects": ASPECTS},
    schema=lambda recipe, _most: scores_schema(_aspects(recipe)),
    parse=lambda completion, recipe: (parse_scores(completion, _aspects(recipe)),),
)
COMPARE: Final = RequestKind(
    name="compare",
    brings="preferences",
    label="",
    holds_up_tree=False,
    sampling="judging",
    template=_TEMPLATES / "compare.j2",
    fill=prompt_values.for_a_first_comparison,
    trial={**_COMMON, **_OF_EXAMPLE, "first": "t", "second": "u"},
    schema=lambda _recipe, _most: PREFERENCE,
    parse=lambda completion, recipe: (parse_preference(completion, recipe.answer_format),),
)
"""The row of the kinds of a comparison, one for each judge. No run has them, so they are not in `KINDS`."""

KINDS: Final[dict[str, RequestKind]] = {
    kind.name: kind for kind in (LOOKAHEAD, BACKTRACK, FACETS, GENERATE, ANSWER, FOLLOW_UP, JUDGE)
}
"""The kinds by name, in the order of `settings.recipe.Kind`."""


def kinds_of(recipe: Recipe) -> dict[str, RequestKind]:
    """The kinds of requests that a run of the recipe can have, by name."""
    if isinstance(recipe, ComparingRecipe):
        return {name: replace(COMPARE, name=name) for name in recipe.kind_names}
    unused = {FACETS.name, ANSWER.name, FOLLOW_UP.name, JUDGE.name} - {*recipe.kinds}
    used = {name: kind for name, kind in KINDS.items() if name not in unused}
    return used if recipe.responses == "joint" else {**used, GENERATE.name: GENERATE_INSTRUCTIONS}


def _aspects(recipe: Recipe) -> tuple[str, ...]:
    return () if recipe.judge is None else tuple(recipe.judge.aspects)


def row_of(kind: str) -> RequestKind:
    """The row of a kind, that of a comparison's judge included."""
    return COMPARE if kind.startswith(JUDGE_PREFIX) else KINDS[kind]


def brings_examples(kind: str) -> bool:
    """True for the name of a kind whose completions hold examples; False also for an unknown name."""
    return kind in KINDS and KINDS[kind].brings == "examples"


def label_of(origin: str) -> str:
    """The word for people beside a task of this origin; empty for seeds and for unknown origins."""
    return next((kind.label for kind in KINDS.values() if kind.name == origin), "")
