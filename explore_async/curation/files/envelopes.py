"""Rows within one JSON object, in the ways in which files hold them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from explore_async.curation.files.turns import are_objects, are_turns

_LISTS = ("data", "rows", "instances", "examples", "items", "records", "entries", "samples", "dataset", "results")
_SPLITS = ("train", "training", "validation", "valid", "val", "dev", "test")
_SPLIT = "split"
"""The column with the name of the list, where there are several."""
_OF_ROWS = frozenset({"instruction", "prompt", "question", "query", "problem", "messages", "conversations"})
"""Keys of a row."""
_ID = "id"
"""The column with the key of a row, where an object has rows by their keys."""


class RowsWithin(NamedTuple):
    rows: Sequence[Any]
    place: str
    """The keys that they are under, in words."""


def rows_within(value: Any) -> RowsWithin | None:
    """The rows of an object with a list of them, with splits, with rows by their keys, or with columns as pandas writes
    them; None for a row.
    """
    if not isinstance(value, Mapping):
        return None
    if _is_by_number(value):
        return _of_columns(value)
    if not _OF_ROWS.isdisjoint(value):
        return None
    if value and all(isinstance(row, Mapping) and not _OF_ROWS.isdisjoint(row) for row in value.values()):
        return RowsWithin([{_ID: key, **row} for key, row in value.items()], f"its keys; the column {_ID} has them")
    keys = {key.lower(): key for key in value}
    lists = [keys[name] for name in _SPLITS if name in keys and _are_rows(value[keys[name]])]
    if not lists:
        lists = [keys[name] for name in _LISTS if name in keys and _are_rows(value[keys[name]])][:1]
    if not lists:
        return None
    if len(lists) == 1:
        return RowsWithin([_unwrapped(row) for row in value[lists[0]]], lists[0])
    rows = [{_SPLIT: key, **row} for key in lists for row in map(_unwrapped, value[key])]
    counts = ", ".join(f"{key} ({len(value[key]):,})" for key in lists)
    return RowsWithin(rows, f"{counts}; the column {_SPLIT} says which")


def _are_rows(value: Any) -> bool:
    return are_objects(value) and not are_turns(value)


def _unwrapped(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """The row in an answer of the datasets server."""
    return row["row"] if isinstance(row.get("row"), Mapping) and "row_idx" in row else row


def _is_by_number(value: Mapping[str, Any]) -> bool:
    """True for a table as pandas writes it: an object for each column, or row, with the others' numbers as keys."""
    parts = list(value.values())
    if not parts or not all(isinstance(part, Mapping) and part for part in parts):
        return False
    if all(key.isdecimal() for key in value):
        return True
    return all(key.isdecimal() for key in parts[0]) and all(part.keys() == parts[0].keys() for part in parts)


def _of_columns(value: Mapping[str, Any]) -> RowsWithin:
    if all(key.isdecimal() for key in value):
        return RowsWithin(list(value.values()), "its numbers")
    numbers = next(iter(value.values()))
    return RowsWithin([{name: column[number] for name, column in value.items()} for number in numbers], "its columns")
