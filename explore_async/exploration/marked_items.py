"""Reads items from plain text with markers: `### Instruction: text`, other fields, `### End`.

Outputs have headings of their own. So a marker counts only with as many # as the first of its item, and only in the
order of the fields.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from explore_async.exploration import thoughts
from explore_async.exploration.items import ItemForm, Reading, Unreadable, excerpt

_MARKER: Final = re.compile(r"[ \t]*(#{2,4})[ \t]*([A-Za-z]+)[ \t]*(?::[ \t]*(.*))?$", re.MULTILINE)
_ON_A_LINE: Final = re.compile(rf"(?:^|(?<=[>\]▷])(?=#)){_MARKER.pattern}", re.MULTILINE)
"""At the beginning of a line, or right behind a mark of `thoughts`."""
_END: Final = "end"


@dataclass(slots=True)
class _Item:
    """An item in a text, with the place of its first marker. `end` is 0 while it is read."""

    start: int
    level: int
    end: int = 0
    is_closed: bool = False
    fields: dict[str, str] = field(default_factory=dict)


def read_items(text: str, form: ItemForm, *, ended: bool) -> Reading:
    """The items of a completion, and the thoughts around them. `ended`: the model itself ended it, so that the last
    item is whole even without its end mark.
    """
    parts = thoughts.split(text, partial(_shields, form))
    return Reading(_marked(parts.answer, form, ended=ended), parts.thoughts)


def _marked(text: str, form: ItemForm, *, ended: bool) -> Iterator[Mapping[str, Any] | Unreadable]:
    for item in _items(text, 0, form):
        is_whole = ended or item.is_closed or item.end < len(text)
        yield item.fields if is_whole else Unreadable("truncated", excerpt(item.fields))


def _items(text: str, position: int, form: ItemForm) -> Iterator[_Item]:
    """An item begins with its first field and ends at its end mark, at the next item or with the text."""
    item: _Item | None = None
    name, begins = "", 0

    def ended_at(place: int, item: _Item) -> _Item:
        item.fields[name] = (item.fields[name] + text[begins:place]).strip()
        item.end = place
        return item

    for marker in _markers(text, position):
        level, found = len(marker[1]), marker[2].casefold()
        if item is not None and level != item.level:
            continue
        if item is not None and found == _END:
            item.is_closed = True
            yield ended_at(marker.start(), item)
            item = None
            continue
        if found not in form.fields:
            continue
        if item is not None and found == form.fields[0]:
            yield ended_at(marker.start(), item)
            item = None
        if item is None:
            item = _Item(marker.start(), level)
        elif form.fields.index(found) > form.fields.index(name):
            ended_at(marker.start(), item)
        else:
            continue
        name, begins = found, marker.end()
        item.fields[name] = marker[3] or ""
    if item is not None:
        yield ended_at(len(text), item)


def _markers(text: str, position: int, until: int | None = None) -> Iterator[re.Match[str]]:
    """The lines with markers; what is at `position`, perhaps behind the end of thoughts, begins a line too."""
    end = len(text) if until is None else until
    if (first := _MARKER.match(text, position, end)) is not None:
        yield first
        position = first.end()
    yield from _ON_A_LINE.finditer(text, position, end)


def _shields(form: ItemForm, text: str, position: int, until: int) -> Iterator[thoughts.Span]:
    """The items from `position` on. One without its end mark reaches to a closing mark that was not opened in it: then
    it is a draft.
    """
    begins = (marker.start() for marker in _markers(text, position, until) if marker[2].casefold() == form.fields[0])
    if (first := next(begins, None)) is None:
        return
    for item in _items(text, first, form):
        is_open = False
        for mark in () if item.is_closed else thoughts.marks(text, item.start, item.end):
            if thoughts.is_closing(mark) and not is_open:
                yield item.start, mark.start()
                return
            is_open = not thoughts.is_closing(mark)
        yield item.start, item.end
