"""From the text of an answer to its items. Lenient: what is whole is taken, the rest is dropped with a reason.

Two formats are read: JSON (by schema, yet also fenced, bare, or broken off) and plain text with `### Name:` markers.
Reasoning blocks (<think>…</think>) of thinking models are not part of the answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any, Literal

import orjson

from explore_async.exploration.values import AnswerSchema, Completion

Format = Literal["json", "text"]

_EXCERPT = 200
_MOST_ITEMS = 10_000
"""Read of one answer: many times what is asked for, and a bound on what a few megabytes of brackets bring about."""
_DEEPEST = 100
"""Lists within lists of a text; what lies deeper is left out. Parsers of JSON let a thousand through."""
_FORM_NAME = "the name"
"""What stands for a name in the form that models are shown; small ones write it down as it is."""
_THINKING_TAG = re.compile(r"<(/?)(?:think|thinking|reasoning)>", re.IGNORECASE)
_MARKER = re.compile(r"^[ \t]*#{2,4}[ \t]*([A-Za-z]+)[ \t]*(?::[ \t]*(.*))?$", re.MULTILINE)
_JSON_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"|"|[{}]', re.DOTALL)  # possessive: else 100 bytes a character
_NOTHING = frozenset({"n/a", "na", "none", "null", "nil", "(none)", "<noinput>", "no input", "noinput", "-", "无"})


@dataclass(frozen=True, slots=True)
class ProposedTask:
    """A sub-task as the model proposed it."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class ExampleDraft:
    """An example as the model wrote it."""

    instruction: str
    input: str
    output: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What could not be read. reason: "truncated" (the answer was cut by length), "missing_field" or "unparsable"."""

    reason: str
    excerpt: str


@dataclass(frozen=True, slots=True)
class _Shape:
    """How one kind of item is written: its fields in order, those that may be empty, and the list's name."""

    plural: str
    fields: tuple[str, ...]
    optional: frozenset[str]


_TASKS = _Shape("tasks", ("name", "reason"), frozenset({"reason"}))
_EXAMPLES = _Shape("examples", ("instruction", "input", "output"), frozenset({"input"}))


@cache
def tasks_schema(most: int) -> AnswerSchema:
    return _schema(_TASKS, most)


@cache
def examples_schema(most: int, *, inputs: bool) -> AnswerSchema:
    return _schema(_EXAMPLES, most, leave_out=frozenset() if inputs else _EXAMPLES.optional)


def _schema(shape: _Shape, most: int, *, leave_out: frozenset[str] = frozenset()) -> AnswerSchema:
    fields = [field for field in shape.fields if field not in leave_out]
    item = {
        "type": "object",
        "properties": {field: {"type": "string"} for field in fields},
        "required": fields,
        "additionalProperties": False,
    }
    return AnswerSchema(
        shape.plural,
        {
            "type": "object",
            "properties": {shape.plural: {"type": "array", "items": item, "minItems": 1, "maxItems": most}},
            "required": [shape.plural],
            "additionalProperties": False,
        },
    )


def parse_tasks(completion: Completion, answer_format: Format) -> list[ProposedTask | Unreadable]:
    return [
        item if isinstance(item, Unreadable) else _proposal(item) for item in _items(completion, answer_format, _TASKS)
    ]


def _proposal(item: Mapping[str, str]) -> ProposedTask | Unreadable:
    name = _title(item["name"])
    if not name or name.casefold() == _FORM_NAME:
        return Unreadable("missing_field", _excerpt(item))
    return ProposedTask(name, _title(item["reason"].split("\n")[0]))


def _title(text: str) -> str:
    """On one line, without a full stop or quotation marks around it."""
    return " ".join(text.split()).rstrip(".。").strip('"“”')


def parse_examples(completion: Completion, answer_format: Format) -> list[ExampleDraft | Unreadable]:
    return [
        item
        if isinstance(item, Unreadable)
        else ExampleDraft(item["instruction"], _or_nothing(item["input"]), item["output"])
        for item in _items(completion, answer_format, _EXAMPLES)
    ]


def _or_nothing(text: str) -> str:
    """Models write "N/A" and the like where they mean an empty input."""
    return "" if text.casefold().rstrip(".") in _NOTHING else text


def answer_of(text: str) -> str:
    """The text without reasoning blocks, whether closed, broken off, or opened by the chat template."""
    kept: list[str] = []
    start, thinking = 0, False
    for tag in _THINKING_TAG.finditer(text):
        if tag.group(1):
            if not thinking:  # opened before the answer began
                kept.clear()
            start, thinking = tag.end(), False
        elif not thinking:
            kept.append(text[start : tag.start()])
            thinking = True
    return "".join(kept if thinking else [*kept, text[start:]])


def _items(completion: Completion, answer_format: Format, shape: _Shape) -> Iterator[dict[str, str] | Unreadable]:
    # lone surrogates can be neither written as UTF-8 nor counted as text
    text = answer_of(completion.text).encode("utf-8", "replace").decode()
    cut = completion.finish_reason == "length"
    raw = _json_items(text, shape) if answer_format == "json" else _marked_items(text, shape, cut=cut)
    found = False
    for item in islice(raw, _MOST_ITEMS):
        found = True
        yield _checked(item, shape) if isinstance(item, Mapping) else item if not cut else _as_truncated(item)
    if not found:
        yield Unreadable("truncated" if cut else "unparsable", text.strip()[:_EXCERPT])


def _as_truncated(item: Unreadable) -> Unreadable:
    return Unreadable("truncated", item.excerpt) if item.reason == "unparsable" else item


def _checked(item: Mapping[str, Any], shape: _Shape) -> dict[str, str] | Unreadable:
    by_name = {str(name).casefold().strip(): value for name, value in item.items()}
    fields: dict[str, str] = {}
    for field in shape.fields:
        text = _text_of(by_name.get(field))
        if text == "" and field not in shape.optional:
            return Unreadable("missing_field", _excerpt(item))
        fields[field] = text
    return fields


def _text_of(value: object, depth: int = 0) -> str:
    """Models answer with numbers and lists where a text was asked for; these have an obvious text."""
    if isinstance(value, str):
        text = value
    elif value is None or isinstance(value, Mapping) or depth > _DEEPEST:
        text = ""
    elif isinstance(value, Sequence):
        text = "\n".join(_text_of(part, depth + 1) for part in value)
    else:
        text = orjson.dumps(value).decode()
    return text.replace("\x00", "").strip()


def _excerpt(item: object) -> str:
    try:
        return orjson.dumps(item, default=str, option=orjson.OPT_NON_STR_KEYS).decode()[:_EXCERPT]
    except TypeError:  # what can be read from JSON may be nested too deeply to be written as such
        return "(nested too deeply to be shown)"


def _json_items(text: str, shape: _Shape) -> Iterator[Mapping[str, Any] | Unreadable]:
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        yield from _salvaged(text, shape)
        return
    yield from _listed(document, shape)


def _with_escapes(token: re.Match[str]) -> str:
    """Models break lines within strings, which JSON forbids and everybody understands."""
    return token.group().replace("\r", "").replace("\n", "\\n").replace("\t", "\\t")


def _listed(document: object, shape: _Shape) -> Iterator[Mapping[str, Any] | Unreadable]:
    """The items of a whole document: a list, an object holding one, or a single item."""
    if isinstance(document, Mapping) and shape.fields[0] not in {str(name).casefold().strip() for name in document}:
        lists = [value for value in document.values() if isinstance(value, list)]
        document = document.get(shape.plural) or (lists[0] if lists else document)
    for item in document if isinstance(document, list) else [document]:
        if isinstance(item, Mapping):
            yield item
        else:
            yield Unreadable("unparsable", _excerpt(item))


def _salvaged(text: str, shape: _Shape) -> Iterator[Mapping[str, Any] | Unreadable]:
    """Every whole object in a text that is no whole document, in one pass; then the item that was broken off."""
    open_objects: list[int] = []
    last_item = -1
    for match in _JSON_TOKEN.finditer(text, max(text.find("{"), 0)):  # a quotation mark in the words before is none
        mark = match.group()
        if mark == "{":
            open_objects.append(match.start())
        elif mark == "}" and open_objects:
            start = open_objects.pop()
            if start < last_item:  # the object around items already found
                continue
            last_item = start
            try:
                yield from _listed(orjson.loads(_JSON_TOKEN.sub(_with_escapes, text[start : match.end()])), shape)
            except orjson.JSONDecodeError:
                yield Unreadable("unparsable", text[start : match.end()][:_EXCERPT])
        elif mark == '"':  # a string without an end: nothing behind it can be trusted
            break
    if open_objects and open_objects[-1] > last_item >= 0:  # where nothing was found at all, the caller says so
        yield Unreadable("unparsable", text[open_objects[-1] :][:_EXCERPT])


def _marked_items(text: str, shape: _Shape, *, cut: bool) -> Iterator[Mapping[str, Any] | Unreadable]:
    """Items written as `### Field: text`. Each begins with the first field; `### End` closes it, or the next one."""
    names = {field.casefold() for field in shape.fields}
    markers = [match for match in _MARKER.finditer(text) if match.group(1).casefold() in names | {"end"}]
    current: dict[str, str] | None = None
    for index, match in enumerate(markers):
        name = match.group(1).casefold()
        end = markers[index + 1].start() if index + 1 < len(markers) else len(text)
        if current is not None and (name == "end" or name == shape.fields[0] or name in current):
            yield current
            current = None
        if name == "end":
            continue
        if current is None:
            current = {}
        current[name] = ((match.group(2) or "") + text[match.end() : end]).strip()
    if current is not None:
        yield Unreadable("truncated", _excerpt(current)) if cut else current
