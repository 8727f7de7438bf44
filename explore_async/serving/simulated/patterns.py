"""Random strings that match a regular expression, for `pattern` and `format` of a schema and for guided decoding."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from functools import lru_cache
from importlib import import_module
from typing import Any, Final

_REPEATS_BEYOND_LEAST: Final = 4
"""Of `*`, `+` and `{3,}`: at most this number more than the least."""
_PRINTABLE: Final = [chr(code) for code in range(32, 127)]
_NAMED_GROUP = re.compile(r"\(\?<(?=[A-Za-z_])")
"""The beginning of a named group in JavaScript, whose expressions JSON schemas have."""
_parser: Any = import_module("re._parser")  # the only reader of regular expressions that comes with Python

_YEAR, _MONTH, _DAY = r"20[0-4]\d", r"(0[1-9]|1[0-2])", r"(0[1-9]|1\d|2[0-8])"
_DATE = f"{_YEAR}-{_MONTH}-{_DAY}"
_TIME = r"([01]\d|2[0-3]):[0-5]\d:[0-5]\dZ"
_HOST = r"[a-z]{3,8}\.example\.(com|org)"
_BYTE = r"(\d|[1-9]\d|1\d\d|2[0-4]\d)"
FORMATS: Final[Mapping[str, str]] = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f"{_DATE}T{_TIME}",
    "duration": r"P[1-9]DT[1-9]H",
    "email": rf"[a-z]{{3,8}}@{_HOST}",
    "hostname": _HOST,
    "ipv4": rf"{_BYTE}\.{_BYTE}\.{_BYTE}\.{_BYTE}",
    "ipv6": r"2001:db8(:[1-9a-f][0-9a-f]{0,3}){6}",
    "uri": rf"https://{_HOST}/[a-z]{{1,8}}",
    "uuid": r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
}


class PatternError(ValueError):
    """The pattern is no regular expression, or it has a part that is not followed here."""


@lru_cache(maxsize=256)
def _parsed(pattern: str) -> Any:
    try:
        return _parser.parse(_NAMED_GROUP.sub("(?P<", pattern))
    except (re.error, RecursionError, OverflowError) as error:
        raise PatternError(f"{pattern!r} is not a regular expression: {error}") from error


def draw_match(rng: random.Random, pattern: str) -> str:
    """A string that the pattern matches as a whole; look-arounds and word boundaries are not heeded.

    Raises PatternError.
    """
    return _sequence(rng, _parsed(pattern), {})


def _sequence(rng: random.Random, items: Any, groups: dict[int, str]) -> str:
    return "".join(_item(rng, str(kind), value, groups) for kind, value in items)


def _item(rng: random.Random, kind: str, value: Any, groups: dict[int, str]) -> str:
    match kind:
        case "LITERAL":
            return chr(value)
        case "ANY":
            return rng.choice(_PRINTABLE)
        case "NOT_LITERAL":
            return rng.choice([character for character in _PRINTABLE if ord(character) != value])
        case "IN":
            return rng.choice(_characters(tuple((str(part), argument) for part, argument in value)))
        case "BRANCH":
            return _sequence(rng, rng.choice(value[1]), groups)
        case "SUBPATTERN":
            number, _, _, inner = value
            text = _sequence(rng, inner, groups)
            if number is not None:
                groups[number] = text
            return text
        case "ATOMIC_GROUP":
            return _sequence(rng, value, groups)
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            least, most, inner = value
            most = min(int(most), least + _REPEATS_BEYOND_LEAST)
            return "".join(_sequence(rng, inner, groups) for _ in range(rng.randint(least, most)))
        case "GROUPREF":
            return groups.get(value, "")
        case "AT" | "ASSERT" | "ASSERT_NOT":
            return ""
    raise PatternError(f"a part of the pattern cannot be followed: {kind.lower()}")


@lru_cache(maxsize=256)
def _characters(parts: tuple[tuple[str, Any], ...]) -> list[str]:
    """The characters of a class: the printable ASCII ones, or those that it names."""
    negated = parts[0][0] == "NEGATE"
    named: set[str] = set()
    for kind, argument in parts[negated:]:
        match kind:
            case "LITERAL":
                named.add(chr(argument))
            case "RANGE":
                named.update(map(chr, range(argument[0], min(argument[1], argument[0] + 0xFF) + 1)))
            case _:
                named.update(filter(re.compile(_CATEGORIES[str(argument)]).fullmatch, [*_PRINTABLE, "\t"]))
    found = sorted(set(_PRINTABLE) - named) if negated else sorted(named)
    if not found:
        raise PatternError("a class of characters in the pattern is empty")
    return found


_CATEGORIES: Final[Mapping[str, str]] = {
    "CATEGORY_DIGIT": r"\d",
    "CATEGORY_NOT_DIGIT": r"\D",
    "CATEGORY_SPACE": r"[ ]",
    "CATEGORY_NOT_SPACE": r"\S",
    "CATEGORY_WORD": r"\w",
    "CATEGORY_NOT_WORD": r"\W",
}
