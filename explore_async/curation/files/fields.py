"""Fields of a row that a command looks at: the text to compare, the group that the row belongs to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from explore_async.curation.files.transcripts import read_column
from explore_async.curation.files.turns import TALKS, TurnError, user_texts

USER_TURNS = "user-turns"
"""As a field: the texts of all user turns of a row's conversation."""
_COLUMNS_SHOWN = 8


class FieldError(ValueError):
    """The row lacks a field; the message names the fields that it has."""


def text_of(value: Mapping[str, Any], fields: Sequence[str]) -> str:
    """The texts of these fields, joined by line breaks; `user-turns` are those of all user turns of a conversation."""
    if len(fields) == 1 and isinstance(value.get(fields[0]), str):
        return str(value[fields[0]])  # nearly always
    texts = [(field, field_of(value, field)) for field in fields]
    for field, text in texts:
        if not isinstance(text, str):
            raise FieldError(f"field {field} is {kind_of(text)}, not a text")
    return "\n".join(text for _, text in texts)


def group_of(value: Mapping[str, Any], column: str) -> str:
    """A name for the group: equal for equal values of one type only."""
    group = field_of(value, column)
    if not isinstance(group, str | int | None):
        raise FieldError(f"column {column} is {kind_of(group)}, not a text, whole number, true, false or null")
    return repr(group)


def field_of(value: Mapping[str, Any], name: str) -> Any:
    """The value of the column with this name, or else at the end of the dotted path: `messages.0.content`."""
    if name in value:
        return value[name]
    if name == USER_TURNS:
        return _user_turns(value)
    at: Any = value
    for part in name.split("."):
        if isinstance(at, Mapping) and part in at:
            at = at[part]
        elif isinstance(at, list) and part.isdecimal() and int(part) < len(at):
            at = at[int(part)]
        else:
            columns = list(value)
            more = ", …" if len(columns) > _COLUMNS_SHOWN else ""
            raise FieldError(f"no field {name}; there is {', '.join(columns[:_COLUMNS_SHOWN]) or 'nothing'}{more}")
    return at


def _user_turns(value: Mapping[str, Any]) -> str:
    column = next((name for name in TALKS if value.get(name)), None)
    if column is None:
        raise FieldError(f"no conversation ({', '.join(TALKS)}) for {USER_TURNS}")
    try:
        return user_texts(read_column(column, value[column]))
    except TurnError as error:
        raise FieldError(f"field {column} {error}") from error


def kind_of(value: object) -> str:
    """The kind of the value, in words."""
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
