"""The values to fill prompts with: of each kind of request, from a task and the number of its earlier requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from explore_async.exploration import facets
from explore_async.exploration.choice import draw
from explore_async.exploration.parsing import VALUES_OF_FACET
from explore_async.exploration.values import Demonstration, Facet, Message, Task
from explore_async.settings.recipe import MEANING, Generation, Recipe

_GROWING: Final = 4
"""The version of the rules that brought requests that grow."""

_WHOLE_DIVISION: Final = 12
"""Parts of a division that are asked for at once: its completion holds them all, and a model keeps them apart."""

ABOUT: Final = ("domain", "description", "task", "reason")
"""The names of the values that every prompt has."""

GLOBALS: Final = ("language", "answer_format", "inputs", "meaning", "by_criterion")
"""The names of the values that every template can use, beside those of a prompt: see `of_recipe`."""

EXPLAINED: Final[Mapping[str, str]] = {
    "domain": "the name of the domain",
    "description": "its description; may be empty",
    "task": "the name of the task that the request is about",
    "reason": "the reason for this task; empty for the domain itself",
    "count": "how many sub-tasks or examples to ask for",
    "existing": "names of the sub-tasks that the task has already",
    "explored": "(level, name) of every task below it, parents first; level 0 is a sub-task of its own",
    "criteria": "the criteria by which the task is divided so far; empty unless exploration.lookahead is criterion",
    "demonstrations": "examples to show, each with .instruction, .input and .output; "
    "demonstrations | as_json(inputs=inputs) writes them as completions have them",
    "topic": "one of the domain's topics, in turn; empty where it has none",
    "style": "one of the domain's styles, in turn; empty where it has none",
    "facets": "(criterion, value) pairs that the examples are to have; empty unless exploration.facets is set",
    "values": "how many values of a criterion to ask for",
    "passage": "a passage of the domain's files that the examples are to be about; empty where it has none",
    "passage_name": "its file and its number there",
    "instruction": "the instruction that the request is about",
    "input": "its input; may be empty",
    "output": "its answer",
    "messages": "the conversation so far: each with .role (user or assistant) and .content",
    "system": "the domain's system prompt; may be empty",
    "aspects": "what the judge scores: {name: meaning}",
    "language": "the setting `language`",
    "answer_format": "json or text: the form that completions are read in",
    "inputs": "true when examples may have an input",
    "meaning": "the version of the program's rules that the run goes by",
    "by_criterion": "true when the criterion of a division is asked for beside its sub-tasks",
}
"""An explanation of every value that a template may use, for users who write their own."""


class TaskView(Protocol):
    """The part of a task's state that prompts show."""

    @property
    def domain(self) -> int: ...

    @property
    def task(self) -> Task: ...

    @property
    def demonstrations(self) -> tuple[Demonstration, ...]: ...

    def shown_at(self, turn: int) -> tuple[Demonstration, ...]:
        """The demonstrations of its request for examples number `turn`, from 0."""

    @property
    def facets(self) -> tuple[Facet, ...]: ...

    @property
    def room(self) -> int:
        """The number of sub-tasks that it may still get."""

    def child_names(self) -> tuple[str, ...]: ...

    def criteria(self) -> tuple[str, ...]:
        """The criteria by which it is divided into them; empty where none was asked for."""

    def explored(self) -> tuple[tuple[int, str], ...]:
        """The level (0: children) and the name of every task below it, parents first."""


def of_recipe(recipe: Recipe) -> dict[str, Any]:
    """The values that are equal in all prompts of a run (`GLOBALS`)."""
    return {
        "language": recipe.language,
        "answer_format": recipe.answer_format,
        "inputs": recipe.generation.inputs,
        "meaning": recipe.meaning,  # runs that began with earlier prompts go on with them
        "by_criterion": recipe.exploration.lookahead == "criterion",
    }


def about(recipe: Recipe, task: TaskView) -> dict[str, Any]:
    """The values that every prompt has (`ABOUT`), equal in all requests about the task."""
    domain = recipe.domains[task.domain]
    return {
        "domain": domain.name,
        "description": domain.description,
        "task": task.task.name,
        "reason": "" if task.task.parent_id is None else task.task.reason,
    }


def for_lookahead(recipe: Recipe, task: TaskView, turn: int) -> dict[str, Any]:
    del turn
    step = recipe.exploration.step
    if recipe.exploration.lookahead == "criterion":
        step = max(step, _WHOLE_DIVISION)
    return {"count": min(step, task.room), "existing": task.child_names(), "criteria": task.criteria()}


def for_backtrack(recipe: Recipe, task: TaskView, turn: int) -> dict[str, Any]:
    del turn
    count = min(recipe.exploration.step, task.room)
    return {"count": count, "explored": task.explored(), "criteria": task.criteria()}


def for_facets(recipe: Recipe, task: TaskView, turn: int) -> dict[str, Any]:
    del task, turn
    return {"count": recipe.exploration.facets, "values": VALUES_OF_FACET}


def for_generate(recipe: Recipe, task: TaskView, turn: int) -> dict[str, Any]:
    """`turn`: the generate requests that the task has had before. Topics and styles follow one another by it."""
    domain, task_id = recipe.domains[task.domain], task.task.id

    def in_turn(name: str, choices: tuple[str, ...], position: int) -> str:
        return choices[(draw(recipe.seed, name, task_id) + position) % len(choices)] if choices else ""

    return {
        "demonstrations": task.shown_at(turn),
        "topic": in_turn("topic", domain.topics, turn),
        "style": in_turn("style", domain.styles, turn + turn // max(1, len(domain.topics))),
        "facets": facets.dealt(recipe, task_id, task.facets, turn),
        "passage": "",
        "passage_name": "",
        "count": examples_to_ask_for(recipe.generation, turn, recipe.meaning),
    }


def for_answer(recipe: Recipe, task: TaskView, instruction: str, text: str) -> dict[str, Any]:
    """`text`: the input of the instruction."""
    return {"instruction": instruction, "input": text, "system": recipe.domains[task.domain].system, "count": 1}


def for_judge(recipe: Recipe, instruction: str, text: str, output: str) -> dict[str, Any]:
    """`text`: the input of the instruction."""
    aspects = {} if recipe.judge is None else recipe.judge.aspects
    return {"instruction": instruction, "input": text, "output": output, "aspects": aspects, "count": 1}


def for_comparison(instruction: str, text: str, first: str, second: str) -> dict[str, Any]:
    """`text`: the input of the instruction. `first`, `second`: the answers, in the order of the prompt."""
    return {"instruction": instruction, "input": text, "first": first, "second": second, "count": 1}


def for_follow_up(messages: Sequence[Message]) -> dict[str, Any]:
    """`messages`: the conversation so far, which ends with an answer."""
    return {"messages": tuple(messages), "count": 1}


def for_a_first_follow_up(recipe: Recipe, task: TaskView, turn: int) -> dict[str, Any]:
    """As long as the longest of the domain's own examples."""
    del turn
    shown = _longest_example(recipe, task)
    asked = "\n\n".join(filter(None, (shown.instruction, shown.input)))
    return for_follow_up(({"role": "user", "content": asked}, {"role": "assistant", "content": shown.output}))


def for_a_first_answer(recipe: Recipe, task: TaskView, turn: int) -> dict[str, Any]:
    """As long as the longest of the domain's own examples."""
    del turn
    shown = _longest_example(recipe, task)
    return for_answer(recipe, task, shown.instruction, shown.input)


def for_a_first_judgement(recipe: Recipe, task: TaskView, turn: int) -> dict[str, Any]:
    """As long as the longest of the domain's own examples."""
    del turn
    shown = _longest_example(recipe, task)
    return for_judge(recipe, shown.instruction, shown.input, shown.output)


def for_a_first_comparison(recipe: Recipe, task: TaskView, turn: int) -> dict[str, Any]:
    """As long as the longest of the domain's own examples."""
    del turn
    shown = _longest_example(recipe, task)
    return for_comparison(shown.instruction, shown.input, shown.output, shown.output)


def _longest_example(recipe: Recipe, task: TaskView) -> Demonstration:
    own = recipe.domains[task.domain].all_examples()
    shown = [Demonstration(one.instruction, one.input, one.output) for one in own]
    name = Demonstration(task.task.name, "", task.task.name)
    return max(shown, key=lambda one: len(one.instruction + one.input + one.output), default=name)


def examples_to_ask_for(generation: Generation, turn: int, meaning: int = MEANING) -> int:
    """The examples that a generate request asks for; `turn`: those that its task has had before.

    The children of a task wait for its first completion, so it has as many examples as these are shown, and one more.
    A later request asks for at most twice as many as all before it, so that a task with a small quota gets few too
    many. It does not depend on the quota: so a higher target asks the same requests, and more.
    """
    opening = min(generation.per_request, generation.demonstrations + 1)
    if turn and meaning < _GROWING:
        return generation.per_request
    count = before = opening
    while turn > 0 and count < generation.per_request:
        count = min(generation.per_request, 2 * before)
        before += count
        turn -= 1
    return count
