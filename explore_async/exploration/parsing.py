"""Reads the items of a completion. It is lenient: whole items are taken, the rest is dropped with a reason.

Two formats are read: JSON (by schema, but also fenced, bare, or cut) and plain text with `### Name:` markers. The
thoughts of thinking models are told from the answer, and no item is read from them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import islice
from typing import Any, Final, Literal

import orjson

from explore_async.exploration import earlier_parsing, json_items, marked_items
from explore_async.exploration.items import (
    EXAMPLES,
    TASKS,
    ExampleDraft,
    ItemForm,
    ProposedTask,
    Reading,
    Unreadable,
    beginning,
    excerpt,
)
from explore_async.exploration.thoughts import marks
from explore_async.exploration.values import AnswerSchema, Completion
from explore_async.settings.recipe import MEANING

__all__ = (
    "ExampleDraft",
    "Format",
    "ProposedTask",
    "Unreadable",
    "examples_schema",
    "parse_examples",
    "parse_tasks",
    "tasks_schema",
    "thoughts_of",
    "without_reasoning",
)

Format = Literal["json", "text"]

_MOST_ITEMS = 10_000
"""Items read of a completion: many times the number asked for, and a bound where megabytes of brackets come."""
_DEEPEST = 100
"""Lists within lists that are read as text; deeper ones are left out. JSON parsers allow a thousand."""
_FORM_NAME = "the name"
"""The place for a name in the form that models are shown; small models copy it as it is."""
_ENDED: Final = frozenset({"stop", "stop_sequence", "eos", "eos_token", "end_turn"})
"""Finish reasons that say: the model itself ended its answer."""
_NOT_CUT: Final = _ENDED | {"", "tool_calls", "function_call"}
_NOTHING: Final = frozenset({"n/a", "(none)", "<noinput>", "no input", "noinput"})
_NOTHING_IN_TEXT: Final = _NOTHING | {"na", "none", "null", "nil", "nothing", "-", "无"}
"""Words for an empty input. In JSON a model writes "" for it, so that those that may be an input are one."""


@cache
def tasks_schema(most: int) -> AnswerSchema:
    return _schema(TASKS, most)


@cache
def examples_schema(most: int, *, inputs: bool) -> AnswerSchema:
    return _schema(EXAMPLES, most, leave_out=frozenset() if inputs else EXAMPLES.optional)


def _schema(form: ItemForm, most: int, *, leave_out: frozenset[str] = frozenset()) -> AnswerSchema:
    fields = [field for field in form.fields if field not in leave_out]
    item = {
        "type": "object",
        "properties": {field: {"type": "string"} for field in fields},
        "required": fields,
        "additionalProperties": False,
    }
    return AnswerSchema(
        form.plural,
        {
            "type": "object",
            "properties": {form.plural: {"type": "array", "items": item, "minItems": 1, "maxItems": most}},
            "required": [form.plural],
            "additionalProperties": False,
        },
    )


def parse_tasks(
    completion: Completion, answer_format: Format, meaning: int = MEANING
) -> list[ProposedTask | Unreadable]:
    """The proposed sub-tasks. `meaning`: the version of the rules to read by."""
    return [
        item if isinstance(item, Unreadable) else _proposal(item)
        for item in _items(completion, answer_format, TASKS, meaning)
    ]


def _proposal(item: Mapping[str, str]) -> ProposedTask | Unreadable:
    name = _title(item["name"])
    if not name or name.casefold() == _FORM_NAME:
        return Unreadable("missing_field", excerpt(item))
    return ProposedTask(name, _title(item["reason"].split("\n")[0]))


def _title(text: str) -> str:
    """The text on one line, without a full stop or quotation marks around it."""
    return " ".join(text.split()).rstrip(".。").strip('"“”')


def parse_examples(
    completion: Completion, answer_format: Format, meaning: int = MEANING
) -> list[ExampleDraft | Unreadable]:
    """The examples. `meaning`: the version of the rules to read by."""
    return [
        item
        if isinstance(item, Unreadable)
        else ExampleDraft(item["instruction"], _or_nothing(item["input"], answer_format, meaning), item["output"])
        for item in _items(completion, answer_format, EXAMPLES, meaning)
    ]


def _or_nothing(text: str, answer_format: Format, meaning: int) -> str:
    """The text; empty for "N/A" and the like, which models write for an empty input."""
    if meaning == earlier_parsing.MEANING:
        return earlier_parsing.or_nothing(text)
    words = _NOTHING if answer_format == "json" else _NOTHING_IN_TEXT
    return "" if text.casefold().rstrip(".") in words else text


def thoughts_of(completion: Completion, answer_format: Format) -> str:
    """The thoughts of the model before its answer: those that the server told apart, and those in its text."""
    text = _writable(completion.text)
    in_text = _read(completion, answer_format, EXAMPLES).thoughts if any(marks(text, 0, len(text))) else ""
    return "\n".join(filter(None, (completion.reasoning.strip(), in_text)))


def without_reasoning(text: str) -> str:
    """A text that should be JSON, without the thoughts around it."""
    return json_items.without_thoughts(_writable(text))


def _items(
    completion: Completion, answer_format: Format, form: ItemForm, meaning: int
) -> Iterator[dict[str, str] | Unreadable]:
    if meaning == earlier_parsing.MEANING:
        text = _writable(completion.text)
        yield from earlier_parsing.read_items(text, completion.finish_reason, answer_format, form)
        return
    cut = completion.finish_reason not in _NOT_CUT
    is_empty = True
    for item in islice(_read(completion, answer_format, form).items, _MOST_ITEMS):
        is_empty = False
        yield _checked(item, form) if isinstance(item, Mapping) else item if not cut else _as_truncated(item)
    if is_empty:
        yield Unreadable("truncated" if cut else "unparsable", beginning(_writable(completion.text).strip()))


def _read(completion: Completion, answer_format: Format, form: ItemForm) -> Reading:
    text = _writable(completion.text)
    if answer_format == "json":
        return json_items.read_items(text, form)
    return marked_items.read_items(text, form, ended=completion.finish_reason in _ENDED)


def _writable(text: str) -> str:
    """The text without lone surrogates, which can be neither written as UTF-8 nor counted as text."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _as_truncated(item: Unreadable) -> Unreadable:
    return Unreadable("truncated", item.excerpt) if item.reason == "unparsable" else item


def _checked(item: Mapping[str, Any], form: ItemForm) -> dict[str, str] | Unreadable:
    by_name = {str(name).casefold().strip(): value for name, value in item.items()}
    fields: dict[str, str] = {}
    for field in form.fields:
        text = _text_of(by_name.get(field))
        if text == "" and field not in form.optional:
            return Unreadable("missing_field", excerpt(item))
        fields[field] = text
    return fields


def _text_of(value: object, depth: int = 0) -> str:
    """The value as text. Models write numbers, lists and objects where a text is asked for."""
    if isinstance(value, str):
        text = value
    elif value in (None, {}) or depth > _DEEPEST:
        text = ""
    elif isinstance(value, Sequence):
        text = "\n".join(_text_of(part, depth + 1) for part in value)
    else:
        try:
            text = orjson.dumps(value).decode()
        except TypeError:  # nested too deeply
            text = ""
    return text.replace("\x00", "").strip()
