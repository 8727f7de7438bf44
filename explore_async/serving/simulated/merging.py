"""Several JSON schemas that hold together, as one (`allOf`, and the neighbours of a `$ref`). Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import partial
from typing import Any, Final

Schema = Mapping[str, Any]

_LARGEST: Final = {"minimum", "exclusiveMinimum", "minItems", "minLength", "minProperties"}
_SMALLEST: Final = {"maximum", "exclusiveMaximum", "maxItems", "maxLength", "maxProperties"}
_INNER: Final = {"items", "additionalProperties", "propertyNames"}
"""Keywords that hold a schema, or true or false."""
_SAME: Final = {"const", "pattern", "format"}


class Unsatisfiable(Exception):
    """No value fits the schema, or none that can be drawn."""


class UnusableSchema(ValueError):
    """The schema is not valid, or has a keyword that the simulated model does not follow."""


def both(one: Any, other: Any) -> Any:
    """The schema of what fits two; either may be true or false."""
    if one is True or one in ({}, other):
        return other
    if other is True or other == {}:
        return one
    return False if one is False or other is False else {"allOf": [one, other]}


def merge(into: dict[str, Any], schema: Schema) -> None:
    """Adds the keywords of a schema. Raises Unsatisfiable where two of them exclude one another."""
    schema = modern(schema)
    joined = {key: join(into, schema) for key, join in _JOINED.items() if key in into or key in schema}
    for key, value in schema.items():
        into[key] = _combined(key, into[key], value) if key in into else value
    into |= joined


def modern(schema: Schema) -> Schema:
    """The schema with a list of `items`, which drafts before 2020-12 have, as `prefixItems`."""
    if not isinstance(schema.get("items"), list):
        return schema
    rest = {key: value for key, value in schema.items() if key not in {"items", "additionalItems"}}
    return {**rest, "prefixItems": schema["items"], "items": schema.get("additionalItems", True)}


def is_among(value: Any, values: list[Any]) -> bool:
    """True when JSON has the same value there, where true is not 1."""
    return any(value == other and isinstance(value, bool) == isinstance(other, bool) for other in values)


def types_of(schema: Schema) -> list[str]:
    """The types that `type` allows. Without it, those whose keywords the schema has: an object, an array …"""
    kind = schema.get("type")
    if isinstance(kind, str):
        return [kind]
    if isinstance(kind, list):
        return kind
    return [next((guess for guess, keywords in _TELLTALES.items() if not keywords.isdisjoint(schema)), "string")]


_TELLTALES: Final[Mapping[str, frozenset[str]]] = {
    "object": frozenset({"properties", "required", "additionalProperties", "patternProperties", "minProperties"}),
    "array": frozenset({"items", "prefixItems", "minItems", "maxItems", "uniqueItems"}),
    "number": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}),
}


def _combined(key: str, one: Any, other: Any) -> Any:
    if key in _LARGEST:
        return max(one, other)
    if key in _SMALLEST:
        return min(one, other)
    if key in _INNER:
        return both(one, other)
    match key:
        case "type":
            return _common_types(one, other)
        case "required":
            return list(dict.fromkeys([*one, *other]))
        case "enum":
            return [value for value in one if is_among(value, other)]
        case "multipleOf":
            return float(_least_common_multiple(Fraction(str(one)), Fraction(str(other))))
        case "uniqueItems":
            return one or other
    if key in _SAME and not is_among(one, [other]):
        raise Unsatisfiable(f"two different values of {key}")
    return one


def _common_types(one: Any, other: Any) -> list[str]:
    ones, others = types_of({"type": one}), types_of({"type": other})
    common = [kind for kind in ones if kind in others]
    if ("number" in ones and "integer" in others) or ("integer" in ones and "number" in others):
        common.append("integer")
    if not common:
        raise Unsatisfiable(f"no value is of type {one} and {other}")
    return common


def _members(key: str, one: Schema, other: Schema) -> dict[str, Any]:
    """`properties` or `patternProperties` of both; what only one of them has must fit the rest of the other, too."""
    ones, others = one.get(key, {}), other.get(key, {})
    rest_of_one, rest_of_other = one.get("additionalProperties", True), other.get("additionalProperties", True)
    return {name: both(ones.get(name, rest_of_one), others.get(name, rest_of_other)) for name in {**ones, **others}}


def _prefix(one: Schema, other: Schema) -> list[Any]:
    ones, others = one.get("prefixItems", []), other.get("prefixItems", [])
    rest_of_one, rest_of_other = one.get("items", True), other.get("items", True)
    return [
        both(
            ones[number] if number < len(ones) else rest_of_one,
            others[number] if number < len(others) else rest_of_other,
        )
        for number in range(max(len(ones), len(others)))
    ]


_JOINED: Final[Mapping[str, Callable[[Schema, Schema], Any]]] = {
    "properties": partial(_members, "properties"),
    "patternProperties": partial(_members, "patternProperties"),
    "prefixItems": _prefix,
}
"""Keywords whose parts meet what another keyword of the other schema says of the rest."""


def _least_common_multiple(one: Fraction, other: Fraction) -> Fraction:
    return Fraction(math.lcm(one.numerator, other.numerator), math.gcd(one.denominator, other.denominator))
