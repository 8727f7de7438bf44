"""Reads JSON from elsewhere, bounded in depth and without rounding whole numbers. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final

import orjson

DEEPEST: Final = 200
"""Levels of lists and objects within each other. orjson writes 254, some of which are ours, around a row."""
_BEYOND: Final = 2.0**63
"""From here on orjson makes a float of a whole number that 64 bits do not hold."""
_CONTAINERS: Final = frozenset({dict, list})
_PLAIN: Final = frozenset({str, int, bool, type(None)})
_LONGEST: Final = 20
"""Characters of the longest number that 64 bits hold, its sign included."""


class TooDeepError(orjson.JSONDecodeError):
    """JSON with more than DEEPEST levels, which is read, but neither walked through nor written again."""

    def __init__(self) -> None:
        super().__init__(f"nested deeper than {DEEPEST} levels", "", 0)


def json_value(raw: bytes) -> Any:
    """The value, in which a whole number beyond 64 bits is its text: nothing that we write to could hold the number.
    Raises orjson.JSONDecodeError, of which TooDeepError is one.
    """
    is_shallow = raw.count(b"[") + raw.count(b"{") <= DEEPEST  # nearly always
    value = orjson.loads(raw) if is_shallow else shallow_json(raw)
    return json.loads(raw, parse_int=_whole_number) if _has_large_float(value) else value


def shallow_json(raw: bytes | str) -> Any:
    """The value as orjson reads it. Raises orjson.JSONDecodeError, of which TooDeepError is one."""
    value = orjson.loads(raw)
    level = [value]
    for _ in range(DEEPEST):
        level = [part for whole in level for part in _parts(whole) if type(part) in _CONTAINERS]
    if level:
        raise TooDeepError
    return value


def _parts(value: Any) -> Iterable[Any]:
    if type(value) is dict:
        return value.values()
    return value if type(value) is list else ()


def fault_of(raw: bytes, error: orjson.JSONDecodeError) -> str:
    """The reason why the bytes are no JSON that we read, in words. NaN and Infinity are none, though json.dumps of
    Python writes them.
    """
    if isinstance(error, TooDeepError):
        return error.msg
    constants: list[str] = []
    with suppress(ValueError, RecursionError):
        json.loads(raw, parse_constant=constants.append)
        if constants:
            return f"invalid JSON: {constants[0]} is no value of JSON; write null in its place"
    return f"invalid JSON: {error}"


def _has_large_float(value: Any) -> bool:
    if type(value) is float:
        return abs(value) >= _BEYOND
    if type(value) is dict:
        value = value.values()
    elif type(value) is not list:
        return False
    return not _PLAIN.issuperset(map(type, value)) and any(map(_has_large_float, value))


def _whole_number(digits: str) -> int | str:
    if len(digits) > _LONGEST:
        return digits
    number = int(digits)
    return number if -(2**63) <= number < 2**64 else digits
