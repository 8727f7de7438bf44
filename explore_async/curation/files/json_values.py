"""Reads JSON from elsewhere without rounding whole numbers. Pure."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any, Final

import orjson

_BEYOND: Final = 2.0**63
"""From here on orjson makes a float of a whole number that 64 bits do not hold."""
_PLAIN: Final = frozenset({str, int, bool, type(None)})
_LONGEST: Final = 20
"""Characters of the longest number that 64 bits hold, its sign included."""


def json_value(raw: bytes) -> Any:
    """The value, in which a whole number beyond 64 bits is its text: nothing that we write to could hold the number.
    Raises orjson.JSONDecodeError.
    """
    value = orjson.loads(raw)
    if not _has_large_float(value):
        return value  # nearly always
    try:
        return json.loads(raw, parse_int=_whole_number)
    except RecursionError:  # nested more deeply than Python's reader goes
        return value


def fault_of(raw: bytes, error: orjson.JSONDecodeError) -> str:
    """The reason why the bytes are no JSON, in words. NaN and Infinity are none, though json.dumps of Python writes
    them.
    """
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
