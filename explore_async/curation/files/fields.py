"""What a command is asked to look at in a row: the text of some of its fields, the group it belongs to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_COLUMNS_SHOWN = 8


class FieldError(ValueError):
    """The row lacks what was asked for; the message says what there is instead."""


def text_of(value: Mapping[str, Any], fields: Sequence[str]) -> str:
    """The texts of these fields, joined by line breaks."""
    if len(fields) == 1 and isinstance(value.get(fields[0]), str):
        return str(value[fields[0]])  # nearly always
    found = [(field, field_of(value, field)) for field in fields]
    for field, text in found:
        if not isinstance(text, str):
            raise FieldError(f"field {field} is {_kind(text)}, not a text")
    return "\n".join(text for _, text in found)


def group_of(value: Mapping[str, Any], column: str) -> str:
    """A name for the group: equal for equal values of one type only."""
    group = field_of(value, column)
    if not isinstance(group, str | int | None):
        raise FieldError(f"column {column} is {_kind(group)}, not a text, whole number, true, false or null")
    return repr(group)


def field_of(value: Mapping[str, Any], name: str) -> Any:
    """The column of this name, or else what lies at the end of its dotted path: `messages.0.content`."""
    if name in value:
        return value[name]
    found: Any = value
    for part in name.split("."):
        if isinstance(found, Mapping) and part in found:
            found = found[part]
        elif isinstance(found, list) and part.isdecimal() and int(part) < len(found):
            found = found[int(part)]
        else:
            columns = list(value)
            more = ", …" if len(columns) > _COLUMNS_SHOWN else ""
            raise FieldError(f"no field {name}; there is {', '.join(columns[:_COLUMNS_SHOWN]) or 'nothing'}{more}")
    return found


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case list():
            return "a list"
        case Mapping():
            return "an object"
        case str():
            return "a text"
    return type(value).__name__
