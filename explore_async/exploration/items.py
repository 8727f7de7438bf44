"""The items that completions hold, as the model wrote them, and their form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

import orjson

_EXCERPT = 200


@dataclass(frozen=True, slots=True)
class ProposedTask:
    """A sub-task as the model wrote it. `criterion`: by which its task is divided, where it was asked for."""

    name: str
    reason: str = ""
    criterion: str = ""


@dataclass(frozen=True, slots=True)
class ExampleDraft:
    """An example as the model wrote it."""

    instruction: str
    input: str
    output: str


@dataclass(frozen=True, slots=True)
class ProposedFacet:
    """A criterion with its values as the model wrote them, each once."""

    criterion: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AnswerDraft:
    """The answer to one instruction, without the model's thoughts."""

    text: str


@dataclass(frozen=True, slots=True)
class Scores:
    """A judge's scores by aspect."""

    of: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Preference:
    """A judge's verdict on two answers, by their place in its prompt. `text`: its words."""

    better: Literal["first", "second", "tie"]
    text: str


@dataclass(frozen=True, slots=True)
class Checked:
    """The answer of a check, with its reason."""

    ok: bool
    reason: str


UNREADABLE: Final = ("truncated", "unparsable", "missing_field")
"""Reasons of an item that cannot be read."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An item that cannot be read. reason: "truncated" (the completion was cut), "missing_field" or "unparsable"."""

    reason: str
    excerpt: str


class Reading(NamedTuple):
    """The items of a completion as they come, unchecked, and the thoughts in its text."""

    items: Iterator[Mapping[str, Any] | Unreadable]
    thoughts: str


@dataclass(frozen=True, slots=True)
class ItemForm:
    """The form of an item: the name of its list, its fields in order, and those that may be empty."""

    plural: str
    fields: tuple[str, ...]
    optional: frozenset[str]


TASKS: Final = ItemForm("tasks", ("name", "reason"), frozenset({"reason"}))
FACETS: Final = ItemForm("criteria", ("criterion", "values"), frozenset())
INSTRUCTIONS: Final = ItemForm("instructions", ("instruction", "input", "output"), frozenset({"input", "output"}))
"""Outputs are not asked for. They are there in completions of requests that asked for them too."""
EXAMPLES: Final = ItemForm("examples", ("instruction", "input", "output"), frozenset({"input"}))


def excerpt(item: object) -> str:
    """The beginning of an item as JSON, for the evidence."""
    try:
        return beginning(orjson.dumps(item, default=str, option=orjson.OPT_NON_STR_KEYS).decode())
    except TypeError:  # a document that can be read may be nested too deeply to be written
        return "(nested too deeply to be shown)"


def beginning(text: str) -> str:
    """The beginning of a text that is no item, for the evidence."""
    return text[:_EXCERPT]
