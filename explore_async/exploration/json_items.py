"""Reads items from JSON: whole documents, and what is whole in others, amid words, fenced or cut."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson

from explore_async.exploration import thoughts
from explore_async.exploration.items import ItemForm, Reading, Unreadable, beginning, excerpt
from explore_async.exploration.json_escapes import as_meant

_TOKEN: Final = re.compile(r'"(?:[^"\\]++|\\.)*+("?+)|[{}]', re.DOTALL)  # possessive: else 100 bytes a character
"""A string, which may lack its end: then the group is empty; or a brace."""
_BEGINS: Final = re.compile(r'[^"{}]{0,300}+(?:\{\s*+"\w++"\s*+:|\{\s*+\})')
"""The text after thoughts: words, then the beginning of an object. Within a string its quotation mark has an escape."""
_SURPLUS_COMMA: Final = re.compile(r'("(?:[^"\\]++|\\.)*+"?+)|,(?=\s*+[}\]])', re.DOTALL)
"""A string, which stays, or a comma behind the last part of a list or an object."""
_CONTROL: Final = dict.fromkeys(range(0x20)) | {ord("\n"): "\\n", ord("\t"): "\\t"}
"""Line breaks and tabs within a string, which models write and JSON forbids, get escapes; other controls go."""


def read_items(text: str, form: ItemForm) -> Reading:
    """The items of a completion, and the thoughts around them. A text that is a document as a whole holds none."""
    if (document := _document(text)) is not None:
        return Reading(_listed(document, form), "")
    parts = thoughts.split(text, _strings)
    document = _document(parts.answer) if parts.answer != text else None
    items = _salvaged(parts.answer, form) if document is None else _listed(document, form)
    return Reading(items, parts.thoughts)


def document_in(text: str) -> Mapping[str, Any] | None:
    """The first whole object in the text: it as a whole, or one amid words or in a fence."""
    if isinstance(whole := _document(text), Mapping):
        return whole
    start = text.find("{")
    depth = 0
    for token in _TOKEN.finditer(text, max(start, 0)):
        depth += {"{": 1, "}": -1}.get(token[0], 0)
        if token[0] == "}" and depth == 0:
            return document if isinstance(document := _document(text[start : token.end()]), Mapping) else None
    return None


def without_thoughts(text: str) -> str:
    """The text without thoughts; as it is where it is a document as a whole."""
    return text if _document(text) is not None else thoughts.split(text, _strings).answer


def _document(text: str) -> Any:
    """The document, an object or a list, that is the whole text, fenced or not; else None."""
    text = text.strip()
    if text.startswith("```") and text.endswith("```"):
        text = text[text.find("\n") + 1 : -3].strip()
    if not text.startswith(("{", "[")):
        return None
    try:
        return _loads(text)
    except orjson.JSONDecodeError:
        return None


def _loads(source: str) -> Any:
    """Parses JSON as it was meant. Raises orjson.JSONDecodeError."""
    source = as_meant(source)
    try:
        return orjson.loads(source)
    except orjson.JSONDecodeError:
        lenient = _SURPLUS_COMMA.sub(lambda found: (found[1] or "").translate(_CONTROL), source)
        if lenient == source:
            raise
        return orjson.loads(lenient)


def _strings(text: str, position: int, until: int) -> Iterator[thoughts.Span]:
    """The strings of the objects from `position` on, as far as no answer begins within: there they were no strings."""
    first = text.find("{", position, until)
    if first < 0:
        return
    for token in _TOKEN.finditer(text, first):
        start, end = token.span()
        if token[0] in "{}":
            continue
        for mark in thoughts.marks(text, start, end):
            if thoughts.is_closing(mark) and _BEGINS.match(text, mark.end()):
                yield start, mark.start()
                return
        yield start, end


def _listed(document: object, form: ItemForm) -> Iterator[Mapping[str, Any] | Unreadable]:
    """The items of a whole document: a list, an object holding one, perhaps some objects further in, or an item."""
    while isinstance(document, Mapping) and form.fields[0] not in {str(name).casefold().strip() for name in document}:
        inner = _list_in(document, form)
        if inner is None:
            break
        document = inner
    for item in document if isinstance(document, list) else [document]:
        if isinstance(item, Mapping):
            yield item
        else:
            yield Unreadable("unparsable", excerpt(item))


def _list_in(document: Mapping[str, Any], form: ItemForm) -> Any:
    """The part of the object that holds its items: the list of their name, one of objects, any list, or an object."""
    values = list(document.values())
    lists = [value for value in values if isinstance(value, list)]
    of_objects = [some for some in lists if any(isinstance(item, Mapping) for item in some)]
    objects = [value for value in values if isinstance(value, Mapping)]
    return next(filter(None, (document.get(form.plural), *of_objects, *lists, *objects)), lists[0] if lists else None)


def _salvaged(text: str, form: ItemForm) -> Iterator[Mapping[str, Any] | Unreadable]:
    """The whole objects in a text that is not a whole document, in one pass; then the item that was cut.

    An object that cannot be read as a whole is read by the innermost objects in it.
    """
    open_objects: list[int] = []
    innermost: list[str] = []
    last = -1
    for match in _TOKEN.finditer(text, max(text.find("{"), 0)):  # quotation marks before it belong to prose
        mark = match[0]
        if mark == "{":
            open_objects.append(match.start())
        elif mark == "}" and open_objects:
            start = open_objects.pop()
            if start > last:
                last = start
                innermost.append(text[start : match.end()])
            if not open_objects:
                document = _document(text[start : match.end()])
                yield from _each(innermost, form) if document is None else _listed(document, form)
                innermost.clear()
        elif not match[1] and mark != "}":  # a string without an end: nothing behind it can be trusted
            break
    yield from _each(innermost, form)
    if open_objects and open_objects[-1] > last >= 0:  # the caller reports a text without any object
        yield Unreadable("unparsable", beginning(text[open_objects[-1] :]))


def _each(objects: list[str], form: ItemForm) -> Iterator[Mapping[str, Any] | Unreadable]:
    for source in objects:
        document = _document(source)
        if document is None:
            yield Unreadable("unparsable", beginning(source))
        else:
            yield from _listed(document, form)
