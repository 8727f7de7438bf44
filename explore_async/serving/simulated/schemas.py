"""Random values that satisfy a JSON schema. Pure.

It follows what vLLM's grammars follow. A keyword that needs a search (`not`, `if`, `contains` …) is refused by name.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from typing import Any, Final
from urllib.parse import unquote

import orjson

from explore_async.serving.simulated.merging import Schema, Unsatisfiable, UnusableSchema, both, merge, modern, types_of
from explore_async.serving.simulated.patterns import FORMATS, PatternError, draw_match
from explore_async.serving.simulated.scalars import checked, draw_integer, draw_number, fits
from explore_async.serving.simulated.vocabulary import NOUNS

_REFUSED: Final = frozenset(
    {"not", "if", "contains", "dependentRequired", "dependentSchemas", "dependencies", "$dynamicRef", "$recursiveRef"}
)
_COMPOSED: Final = frozenset({"$ref", "allOf", "anyOf", "oneOf"})
_SPECIAL: Final = _REFUSED | _COMPOSED | {"const", "enum"}
"""Keywords beside `type` and its own: most schemas have none of them."""
_RECURSIONS: Final = 2
"""Passes of a path through one $ref, after which values are as small as the schema allows."""
_MOST_RECURSIONS: Final = 12
_TRIES: Final = 40
_MOST_DRAWS: Final = 20_000
"""Values of one instance, those that did not fit included."""

_INVALID: Final = (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError, re.error)
"""The exceptions for a keyword of a schema with a value that it cannot have."""

DrawText = Callable[[random.Random, str], str]
"""Draws a text for a property of this name."""


class InstanceDrawer:
    """Draws instances of one schema. Lists are as long as the schema allows with `full_lists`, else of any length.

    Raises UnusableSchema when the schema is at fault, or when nothing that fits was found.
    """

    def __init__(self, schema: Any, draw_text: DrawText, *, full_lists: bool) -> None:
        self._root = schema
        self._draw_text = draw_text
        self._full_lists = full_lists
        self._draws = 0

    def draw(self, rng: random.Random) -> Any:
        try:
            return self._value(rng, self._root, "", ())
        except Unsatisfiable as error:
            raise UnusableSchema(f"no value was found that satisfies it: {error}") from error
        except UnusableSchema:
            raise
        except PatternError as error:
            raise UnusableSchema(str(error)) from error
        except _INVALID as error:
            raise UnusableSchema(f"it is not a valid schema: {type(error).__name__} {error}") from error

    def _value(self, rng: random.Random, schema: Any, name: str, trail: tuple[str, ...]) -> Any:
        """`trail`: every $ref on the way here."""
        self._draws += 1
        if self._draws > _MOST_DRAWS:
            raise UnusableSchema("its values are too many, or too hard to find")
        if schema is False:
            raise Unsatisfiable("false allows nothing")
        schema = {} if schema is True else schema
        if _SPECIAL.isdisjoint(schema):
            return self._typed_value(rng, schema, name, trail)
        if _COMPOSED.isdisjoint(schema):
            return self._plain_value(rng, schema, name, trail)
        problem = Unsatisfiable("its references have no end, or its parts exclude one another")
        for flat, path in self._flattened(rng, {}, [schema], trail):
            try:
                return self._plain_value(rng, flat, name, path)
            except Unsatisfiable as error:
                problem = error
        raise problem

    def _flattened(
        self, rng: random.Random, flat: dict[str, Any], parts: list[Any], trail: tuple[str, ...]
    ) -> Iterator[tuple[dict[str, Any], tuple[str, ...]]]:
        """The schema without references and alternatives: one for each choice of alternatives, a random one first."""
        flat, parts = dict(flat), list(parts)
        while parts:
            part = parts.pop()
            if part is True:
                continue
            if part is False:
                return
            rest = {key: value for key, value in part.items() if key not in _COMPOSED}
            try:
                merge(flat, rest)
            except Unsatisfiable:
                return
            if (reference := part.get("$ref")) is not None:
                trail = (*trail, reference)
                if trail.count(reference) > _MOST_RECURSIONS:
                    return
                parts.append(self._target(reference))
            parts += part.get("allOf", ())
            for key in ("anyOf", "oneOf"):
                if (variants := part.get(key)) is not None:
                    left_over = {key: value for key, value in part.items() if key == "oneOf"} if key == "anyOf" else {}
                    for variant in self._in_random_order(rng, variants, trail):
                        yield from self._flattened(rng, flat, [*parts, left_over, variant], trail)
                    return
        yield flat, trail

    def _in_random_order(self, rng: random.Random, variants: list[Any], trail: tuple[str, ...]) -> list[Any]:
        first = rng.choice(variants)
        ordered = [first, *[variant for variant in variants if variant is not first]]
        return sorted(ordered, key=_refers) if self._is_deep(trail) else ordered

    def _target(self, reference: str) -> Any:
        target = self._root if reference.startswith("#") else {}
        try:
            for part in filter(None, unquote(reference.removeprefix("#")).split("/")):
                key = part.replace("~1", "/").replace("~0", "~")
                target = target[int(key)] if isinstance(target, list) else target[key]
        except (LookupError, TypeError, ValueError):
            raise UnusableSchema(f"it refers to {reference!r}, which is not in it") from None
        return target

    def _is_deep(self, trail: tuple[str, ...]) -> bool:
        return bool(trail) and trail.count(trail[-1]) > _RECURSIONS

    def _plain_value(self, rng: random.Random, schema: Schema, name: str, trail: tuple[str, ...]) -> Any:
        if refused := _REFUSED.intersection(schema):
            raise UnusableSchema(f"the simulated model does not follow these keywords: {', '.join(sorted(refused))}")
        if "const" in schema:
            return checked(schema["const"], schema)
        if "enum" in schema:
            values = [value for value in schema["enum"] if fits(value, schema)]
            if not values:
                raise Unsatisfiable("no value of enum fits")
            return rng.choice(values)
        return self._typed_value(rng, schema, name, trail)

    def _typed_value(self, rng: random.Random, schema: Schema, name: str, trail: tuple[str, ...]) -> Any:
        kind = schema.get("type")
        if not isinstance(kind, str):
            kinds = types_of(schema)
            kind = kinds[0] if kind is None else rng.choice(kinds)
        match kind:
            case "string":
                return self._text(rng, schema, name)
            case "object":
                return self._object(rng, schema, trail)
            case "array":
                return self._array(rng, schema, name, trail)
            case "integer":
                return draw_integer(rng, schema)
            case "number":
                return draw_number(rng, schema)
            case "boolean":
                return rng.random() < 0.5  # noqa: PLR2004
            case "null":
                return None
            case other:
                raise UnusableSchema(f"it has a type that JSON does not have: {other!r}")

    def _object(self, rng: random.Random, schema: Schema, trail: tuple[str, ...]) -> dict[str, Any]:
        properties, required = {**schema.get("properties", {})}, schema.get("required", ())
        patterns, others = schema.get("patternProperties", {}), schema.get("additionalProperties", True)
        least, most = schema.get("minProperties", 0), schema.get("maxProperties")
        if (
            least == 0 and most is None and not patterns and properties.keys() == set(required)
        ):  # as ours are, and quick
            return {name: self._value(rng, part, name, trail) for name, part in properties.items()}
        value: dict[str, Any] = {}

        def rule(name: str) -> Any:
            rules = [part for pattern, part in patterns.items() if re.search(pattern, name)]
            own = properties.get(name, True if rules else others)
            for part in rules:
                own = both(own, part)
            return own

        optional = [name for name in properties if name not in required]
        if self._is_deep(trail) or most is not None:
            del optional[max(0, (least if most is None or self._is_deep(trail) else most) - len(required)) :]
        for name in (*[name for name in properties if name in required or name in optional], *required):
            if name in value:
                continue
            try:
                value[name] = self._value(rng, rule(name), name, trail)
            except Unsatisfiable:
                if name in required:
                    raise
        wanted = least
        if not properties and not required and (isinstance(others, dict) or patterns) and not self._is_deep(trail):
            wanted = max(least, rng.randint(1, 3) if most is None else min(rng.randint(1, 3), most))
        for _ in range(_TRIES):
            if len(value) >= wanted:
                break
            name = self._name(rng, schema, list(patterns))
            if name not in value and rule(name) is not False:
                value[name] = self._value(rng, rule(name), name, trail)
        if len(value) < least or (most is not None and len(value) > most):
            raise Unsatisfiable("an object cannot have so many properties")
        return value

    def _name(self, rng: random.Random, schema: Schema, patterns: list[str]) -> str:
        if (names := schema.get("propertyNames")) is not None:
            return str(self._value(rng, both(names, {"type": "string"}), "name", ()))
        return draw_match(rng, rng.choice(patterns)) if patterns else f"{rng.choice(NOUNS)}_{rng.randrange(100)}"

    def _array(self, rng: random.Random, schema: Schema, name: str, trail: tuple[str, ...]) -> list[Any]:
        schema = modern(schema)
        prefix, rest = schema.get("prefixItems", []), schema.get("items", {})
        most = len(prefix) if rest is False else None
        if "maxItems" in schema:
            most = schema["maxItems"] if most is None else min(most, schema["maxItems"])
        least = schema.get("minItems", 0 if self._is_deep(trail) else len(prefix) or 1)
        if most is not None and "minItems" not in schema:
            least = min(least, most)
        if prefix and most is None and "items" not in schema:
            most = max(least, len(prefix))
        most = least + (0 if self._is_deep(trail) else 3) if most is None else most
        if least > most:
            raise Unsatisfiable("an array cannot be so long")
        size = most if self._full_lists else rng.randint(least, most)
        unique, values = schema.get("uniqueItems", False), list[Any]()
        for position in range(size):
            part = prefix[position] if position < len(prefix) else rest
            try:
                values.append(
                    self._new_item(rng, part, name, trail, values) if unique else self._value(rng, part, name, trail)
                )
            except Unsatisfiable:
                if len(values) >= schema.get("minItems", 0):
                    break
                raise
        return values

    def _new_item(self, rng: random.Random, part: Any, name: str, trail: tuple[str, ...], others: list[Any]) -> Any:
        """A value that is not among `others`."""
        for _ in range(_TRIES):
            value = self._value(rng, part, name, trail)
            if value not in others:
                return value
        raise Unsatisfiable("there are not so many different values")

    def _text(self, rng: random.Random, schema: Schema, name: str) -> str:
        if len(schema) == 1 and "type" in schema:
            return self._draw_text(rng, name)
        least, most = schema.get("minLength", 0), schema.get("maxLength")
        if most is not None and least > most:
            raise Unsatisfiable("a string cannot be so long")
        if (pattern := schema.get("pattern", FORMATS.get(schema.get("format", "")))) is not None:
            for _ in range(_TRIES):
                text = draw_match(rng, pattern)
                if fits(text, schema):
                    return text
            raise Unsatisfiable(f"no string was found for the pattern {pattern!r}")
        text = self._draw_text(rng, name)
        while len(text) < least:
            text = f"{text} {self._draw_text(rng, 'output')}".strip()
        return text[:most]


def _refers(variant: Any) -> bool:
    return b'"$ref"' in orjson.dumps(variant)
