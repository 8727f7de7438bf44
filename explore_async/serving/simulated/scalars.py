"""Numbers within the bounds of a schema, and whether a plain value keeps them. Pure."""

from __future__ import annotations

import math
import random
import re
from fractions import Fraction
from typing import Any, Final

from explore_async.serving.simulated.merging import Schema, Unsatisfiable, UnusableSchema, is_among, types_of

_TRIES: Final = 40


def draw_integer(rng: random.Random, schema: Schema) -> int:
    """Raises Unsatisfiable when none lies between the bounds, as `draw_number` does."""
    step = _exact(schema["multipleOf"]).numerator if "multipleOf" in schema else 1
    lower, upper = _bounds(schema)
    least = None if lower is None else math.ceil(lower)
    most = None if upper is None else math.floor(upper)
    if least is not None and least == schema.get("exclusiveMinimum"):
        least += 1
    if most is not None and most == schema.get("exclusiveMaximum"):
        most -= 1
    if least is None:
        least = 0 if most is None or most >= 0 else most - 100 * step
    if most is None:
        most = least + 100 * step
    first, last = -(-least // step), most // step
    if first > last:
        raise Unsatisfiable("no integer lies between the bounds")
    return rng.randint(first, last) * step


def draw_number(rng: random.Random, schema: Schema) -> float:
    lower, upper = _bounds(schema)
    if (step := schema.get("multipleOf")) is not None:
        return _multiple(rng, _exact(step), lower, upper, schema)
    if lower is None:
        lower = 0 if upper is None or upper > 0 else upper - 1
    least, most = lower, lower + 1 if upper is None else upper
    if least > most:
        raise Unsatisfiable("no number lies between the bounds")
    for _ in range(_TRIES):
        value: float = min(least + rng.random() * (most - least), most)
        if fits(value, schema):
            return value
    raise Unsatisfiable("no number lies between the bounds")


def _multiple(rng: random.Random, step: Fraction, lower: Any, upper: Any, schema: Schema) -> float:
    first = (0 if upper is None or upper > 0 else None) if lower is None else math.ceil(_exact(lower) / step)
    last = None if upper is None else math.floor(_exact(upper) / step)
    first = last - 100 if first is None and last is not None else first or 0
    last = first + 100 if last is None else last
    for _ in range(_TRIES if first <= last else 0):
        value = rng.randint(first, last) * step
        plain = int(value) if value.denominator == 1 else float(value)
        if fits(plain, {key: bound for key, bound in schema.items() if key != "multipleOf"}):
            return plain
    raise Unsatisfiable("no multiple lies between the bounds")


def _bounds(schema: Schema) -> tuple[Any, Any]:
    """The least and the largest number, with those that an exclusive bound excludes."""
    lower = [schema[key] for key in ("minimum", "exclusiveMinimum") if key in schema]
    upper = [schema[key] for key in ("maximum", "exclusiveMaximum") if key in schema]
    if not all(map(_is_number, (*lower, *upper))):
        raise UnusableSchema("its bounds are not all numbers")
    return max(lower, default=None), min(upper, default=None)


def checked(value: Any, schema: Schema) -> Any:
    if not fits(value, schema) or not is_among(value, schema.get("enum", [value])):
        raise Unsatisfiable("const does not fit the rest")
    return value


def fits(value: Any, schema: Schema) -> bool:
    """True when a plain value keeps the bounds of its own type."""
    if "type" in schema and not any(_is_of(kind, value) for kind in types_of(schema)):
        return False
    if isinstance(value, str):
        pattern = schema.get("pattern")
        return schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", math.inf) and (
            pattern is None or re.search(pattern, value) is not None
        )
    if not _is_number(value):
        return True
    return (
        schema.get("minimum", -math.inf) <= value <= schema.get("maximum", math.inf)
        and schema.get("exclusiveMinimum", -math.inf) < value < schema.get("exclusiveMaximum", math.inf)
        and ("multipleOf" not in schema or (_exact(value) / _exact(schema["multipleOf"])).denominator == 1)
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_of(kind: str, value: Any) -> bool:
    match kind:
        case "string":
            return isinstance(value, str)
        case "integer":
            return _is_number(value) and value == int(value)
        case "number":
            return _is_number(value)
        case "boolean":
            return isinstance(value, bool)
        case "null":
            return value is None
        case "array":
            return isinstance(value, list)
    return isinstance(value, dict)


def _exact(number: float) -> Fraction:
    """The number as it is written in decimals."""
    return Fraction(str(number))
