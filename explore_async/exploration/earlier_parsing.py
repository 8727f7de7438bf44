"""Reads completions by version 2 of the rules. It stays as it is: runs that began by them keep their bytes.

So it shares nothing with the reader of today but the values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import orjson

from explore_async.exploration.items import ItemForm, Unreadable, beginning, excerpt

MEANING = 2
_MOST_ITEMS = 10_000
_DEEPEST = 100
_THINKING_TAG = re.compile(r"<(/?)(?:think|thinking|reasoning)>", re.IGNORECASE)
_MARKER = re.compile(r"^[ \t]*#{2,4}[ \t]*([A-Za-z]+)[ \t]*(?::[ \t]*(.*))?$", re.MULTILINE)
_JSON_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"|"|[{}]', re.DOTALL)
_NOTHING = frozenset({"n/a", "na", "none", "null", "nil", "(none)", "<noinput>", "no input", "noinput", "-", "无"})


def read_items(
    text: str, finish_reason: str, answer_format: str, form: ItemForm
) -> Iterator[dict[str, str] | Unreadable]:
    text = without_reasoning(text)
    cut = finish_reason == "length"
    raw = _json_items(text, form) if answer_format == "json" else _marked_items(text, form, cut=cut)
    is_empty = True
    for item in islice(raw, _MOST_ITEMS):
        is_empty = False
        yield _checked(item, form) if isinstance(item, Mapping) else item if not cut else _as_truncated(item)
    if is_empty:
        yield Unreadable("truncated" if cut else "unparsable", beginning(text.strip()))


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


def _json_items(text: str, form: ItemForm) -> Iterator[Mapping[str, Any] | Unreadable]:
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        yield from _salvaged(text, form)
        return
    yield from _listed(document, form)


def _with_escapes(token: re.Match[str]) -> str:
    """A JSON token with escapes for line breaks within a string, which models write and JSON forbids."""
    return token.group().replace("\r", "").replace("\n", "\\n").replace("\t", "\\t")


def _listed(document: object, form: ItemForm) -> Iterator[Mapping[str, Any] | Unreadable]:
    """The items of a whole document: a list, an object holding one, or a single item."""
    if isinstance(document, Mapping) and form.fields[0] not in {str(name).casefold().strip() for name in document}:
        lists = [value for value in document.values() if isinstance(value, list)]
        document = document.get(form.plural) or (lists[0] if lists else document)
    for item in document if isinstance(document, list) else [document]:
        if isinstance(item, Mapping):
            yield item
        else:
            yield Unreadable("unparsable", excerpt(item))


def _salvaged(text: str, form: ItemForm) -> Iterator[Mapping[str, Any] | Unreadable]:
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
                yield from _listed(orjson.loads(_JSON_TOKEN.sub(_with_escapes, text[start : match.end()])), form)
            except orjson.JSONDecodeError:
                yield Unreadable("unparsable", beginning(text[start : match.end()]))
        elif mark == '"':  # a string without an end: nothing behind it can be trusted
            break
    if open_objects and open_objects[-1] > last_item >= 0:  # the caller reports a text without any object
        yield Unreadable("unparsable", beginning(text[open_objects[-1] :]))


def _marked_items(text: str, form: ItemForm, *, cut: bool) -> Iterator[Mapping[str, Any] | Unreadable]:
    """Items written as `### Field: text`. An item begins with its first field and ends at `### End` or the next."""
    names = {field.casefold() for field in form.fields}
    markers = [match for match in _MARKER.finditer(text) if match.group(1).casefold() in names | {"end"}]
    current: dict[str, str] | None = None
    for index, match in enumerate(markers):
        name = match.group(1).casefold()
        end = markers[index + 1].start() if index + 1 < len(markers) else len(text)
        if current is not None and (name == "end" or name == form.fields[0] or name in current):
            yield current
            current = None
        if name == "end":
            continue
        if current is None:
            current = {}
        current[name] = ((match.group(2) or "") + text[match.end() : end]).strip()
    if current is not None:
        yield Unreadable("truncated", excerpt(current)) if cut else current


def or_nothing(text: str) -> str:
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
