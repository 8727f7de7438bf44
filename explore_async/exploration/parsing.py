"""Reads the items of a completion. It is lenient: whole items are taken, the rest is dropped with a reason.

Two formats are read: JSON (by schema, but also fenced, bare, or cut) and plain text with `### Name:` markers. The
reasoning blocks (<think>…</think>) of thinking models are left out.
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
"""Items read of a completion: many times the number asked for, and a bound where megabytes of brackets come."""
_DEEPEST = 100
"""Lists within lists that are read as text; deeper ones are left out. JSON parsers allow a thousand."""
_FORM_NAME = "the name"
"""The place for a name in the form that models are shown; small models copy it as it is."""
_THINKING_TAG = re.compile(r"<(/?)(?:think|thinking|reasoning)>", re.IGNORECASE)
_MARKER = re.compile(r"^[ \t]*#{2,4}[ \t]*([A-Za-z]+)[ \t]*(?::[ \t]*(.*))?$", re.MULTILINE)
_JSON_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"|"|[{}]', re.DOTALL)  # possessive: else 100 bytes a character
_NOTHING = frozenset({"n/a", "na", "none", "null", "nil", "(none)", "<noinput>", "no input", "noinput", "-", "无"})


@dataclass(frozen=True, slots=True)
class ProposedTask:
    """A sub-task as the model wrote it."""

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
    """An item that cannot be read. reason: "truncated" (cut by length), "missing_field" or "unparsable"."""

    reason: str
    excerpt: str


@dataclass(frozen=True, slots=True)
class _Shape:
    """The form of an item: the name of its list, its fields in order, and those that may be empty."""

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
    """The text on one line, without a full stop or quotation marks around it."""
    return " ".join(text.split()).rstrip(".。").strip('"“”')


def parse_examples(completion: Completion, answer_format: Format) -> list[ExampleDraft | Unreadable]:
    return [
        item
        if isinstance(item, Unreadable)
        else ExampleDraft(item["instruction"], _or_nothing(item["input"]), item["output"])
        for item in _items(completion, answer_format, _EXAMPLES)
    ]


def _or_nothing(text: str) -> str:
    """The text; empty for "N/A" and the like, which models write for an empty input."""
    return "" if text.casefold().rstrip(".") in _NOTHING else text


def without_reasoning(text: str) -> str:
    """The text without reasoning blocks: closed ones, cut ones, and those that the chat template opens."""
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
    text = without_reasoning(completion.text).encode("utf-8", "replace").decode()
    cut = completion.finish_reason == "length"
    raw = _json_items(text, shape) if answer_format == "json" else _marked_items(text, shape, cut=cut)
    is_empty = True
    for item in islice(raw, _MOST_ITEMS):
        is_empty = False
        yield _checked(item, shape) if isinstance(item, Mapping) else item if not cut else _as_truncated(item)
    if is_empty:
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
    """The value as text. Models write numbers and lists where a text is asked for."""
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
    except TypeError:  # a document that can be read may be nested too deeply to be written
        return "(nested too deeply to be shown)"


def _json_items(text: str, shape: _Shape) -> Iterator[Mapping[str, Any] | Unreadable]:
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        yield from _salvaged(text, shape)
        return
    yield from _listed(document, shape)


def _with_escapes(token: re.Match[str]) -> str:
    """A JSON token with escapes for line breaks within a string, which models write and JSON forbids."""
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
    """The whole objects in a text that is not a whole document, in one pass; then the item that was cut."""
    open_objects: list[int] = []
    last_item = -1
    for match in _JSON_TOKEN.finditer(text, max(text.find("{"), 0)):  # quotation marks before it belong to prose
        mark = match.group()
        if mark == "{":
            open_objects.append(match.start())
        elif mark == "}" and open_objects:
            start = open_objects.pop()
            if start < last_item:  # the object around items that are read already
                continue
            last_item = start
            try:
                yield from _listed(orjson.loads(_JSON_TOKEN.sub(_with_escapes, text[start : match.end()])), shape)
            except orjson.JSONDecodeError:
                yield Unreadable("unparsable", text[start : match.end()][:_EXCERPT])
        elif mark == '"':  # a string without an end: nothing behind it can be trusted
            break
    if open_objects and open_objects[-1] > last_item >= 0:  # the caller reports a text without any object
        yield Unreadable("unparsable", text[open_objects[-1] :][:_EXCERPT])


def _marked_items(text: str, shape: _Shape, *, cut: bool) -> Iterator[Mapping[str, Any] | Unreadable]:
    """Items written as `### Field: text`. An item begins with its first field and ends at `### End` or the next."""
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
