"""The instances of schemas that the simulated model draws, judged by jsonschema."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import jsonschema
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from explore_async.serving.simulated.merging import UnusableSchema
from explore_async.serving.simulated.patterns import FORMATS, draw_match
from explore_async.serving.simulated.schemas import InstanceDrawer

Schemas = st.SearchStrategy[Any]
HALVES = st.integers(-20, 20).map(lambda number: number / 2)
"""Numbers that a float holds exactly, whole ones among them."""
BOUNDS = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")
PATTERNS = (r"^[A-Z]{2}-\d+$", r"(ab|c)+d?", r"^\s*[^a-z]\w{1,3}$", r"^(?<name>x|yy)(-\1)*$")
NODE = {
    "type": "object",
    "properties": {
        "value": {"type": "integer"},
        "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
        "all": {"type": "array", "items": {"$ref": "#/$defs/node"}},
    },
    "required": ["value", "all"],
}


def texts(rng: random.Random, _name: str) -> str:
    return " ".join(rng.choice(("a", "be", "cat")) for _ in range(rng.randrange(5)))


def drawn(schema: Any, seed: int = 0, *, full_lists: bool = False) -> Any:
    return InstanceDrawer(schema, texts, full_lists=full_lists).draw(random.Random(seed))


def some(**parts: Schemas) -> Schemas:
    """A schema with any of these keywords."""
    return st.fixed_dictionaries({}, optional=parts)


def typed(name: str, **parts: Schemas) -> Schemas:
    return some(**parts).map(lambda schema: {"type": name, **schema})


def numbers() -> Schemas:
    parts = {**dict.fromkeys(BOUNDS, HALVES), "multipleOf": st.sampled_from([1, 2, 3, 0.5, 2.5])}
    return typed("integer", **parts) | typed("number", **parts)


def strings() -> Schemas:
    lengths = {"minLength": st.integers(0, 30), "maxLength": st.integers(0, 30)}
    return typed("string", **lengths) | typed("string", pattern=st.sampled_from(PATTERNS))


def plain() -> Schemas:
    values = st.lists(st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=2), min_size=1, max_size=4)
    return st.one_of(
        numbers(),
        strings(),
        st.sampled_from([True, {}, {"type": "boolean"}, {"type": ["null", "string"]}, {"$ref": "#/$defs/node"}]),
        values.map(lambda found: {"enum": found}),
        values.map(lambda found: {"const": found[0]}),
    )


def composed(inner: Schemas) -> Schemas:
    names, parts = st.sampled_from("abcd"), st.lists(inner, min_size=1, max_size=3)
    arrays = typed(
        "array",
        items=inner,
        prefixItems=parts,
        minItems=st.integers(0, 4),
        maxItems=st.integers(0, 4),
        uniqueItems=st.booleans(),
    )
    objects = typed(
        "object",
        properties=st.dictionaries(names, inner, max_size=3),
        required=st.lists(names, max_size=2, unique=True),
        additionalProperties=st.booleans() | inner,
        patternProperties=st.dictionaries(st.sampled_from(["^k_", "b"]), inner, max_size=1),
        propertyNames=st.just({"type": "string", "maxLength": 12}),
        minProperties=st.integers(0, 3),
        maxProperties=st.integers(0, 4),
    )
    joined = st.sampled_from(["anyOf", "allOf"])
    choices = st.tuples(joined, parts).map(lambda pair: {pair[0]: pair[1]})
    beside = st.tuples(numbers(), choices).map(lambda pair: {**pair[0], **pair[1]})
    return arrays | objects | choices | beside


SCHEMAS = st.recursive(plain(), composed, max_leaves=8)


@given(SCHEMAS, st.integers(0, 2**32), st.booleans())
def test_what_is_drawn_fits(schema: Any, seed: int, full_lists: bool) -> None:
    """Whatever the schema, the instance satisfies it, or the schema is refused."""
    root = {"$defs": {"node": NODE}, "allOf": [schema]}
    try:
        value = drawn(root, seed, full_lists=full_lists)
    except UnusableSchema:
        assume(False)
    for_python = json.loads(json.dumps(root).replace("(?<name>", "(?P<name>"))
    jsonschema.Draft202012Validator(for_python).validate(value)


@given(numbers(), st.integers(0, 2**32))
def test_a_number_that_exists_is_found(schema: Any, seed: int) -> None:
    """A numeric schema is refused only if no multiple of a half (of one, for integers) near its bounds satisfies it."""
    validator = jsonschema.Draft202012Validator(schema)
    candidates = [number // 2 if schema["type"] == "integer" else number / 2 for number in range(-60, 61)]
    if any(map(validator.is_valid, candidates)):
        validator.validate(drawn(schema, seed))


SATISFIABLE: list[Any] = [
    {"type": "array", "maxItems": 0, "items": {"type": "string"}},
    {"type": "integer", "maximum": -5},
    {"type": "integer", "minimum": 1.5, "maximum": 2.5},
    {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.001},
    {"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 5},
    {"type": "integer", "multipleOf": 7, "minimum": 10, "maximum": 20},
    {"type": "number", "multipleOf": 0.25, "minimum": -1, "exclusiveMaximum": -0.5},
    {"type": "array", "items": {"enum": [1, 2, 3]}, "uniqueItems": True, "minItems": 3, "maxItems": 9},
    {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "items": False},
    {"allOf": [{"properties": {"a": {"type": "integer"}}, "required": ["a"]}, {"properties": {"a": {"minimum": 5}}}]},
    {"$ref": "#/$defs/node", "$defs": {"node": NODE}},
    {"type": "object", "properties": {"child": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}, "required": ["child"]},
    {"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 2},
    {"type": "object", "properties": {"a": False, "b": True}},
    {"type": "object", "required": ["unnamed"]},
    {"type": "object", "patternProperties": {r"^k_\d$": {"type": "null"}}, "additionalProperties": False},
    {"anyOf": [{"type": "string"}, {"type": "integer"}], "minimum": 3, "type": "integer"},
    {"oneOf": [{"type": "string", "minLength": 2}, {"type": "integer"}]},
    {"type": ["integer", "null"], "minimum": 2},
    *({"type": "string", "format": name} for name in FORMATS),
]


@pytest.mark.parametrize("schema", SATISFIABLE, ids=str)
def test_these_are_followed(schema: Any) -> None:
    """Schemas of every kind that vLLM's grammars follow get an instance, whatever is drawn."""
    for seed in range(50):
        value = drawn(schema, seed)
        jsonschema.Draft202012Validator(schema).validate(value)
        if "format" in schema:
            assert re.fullmatch(FORMATS[schema["format"]], value)


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"type": "string", "not": {"const": ""}}, "does not follow these keywords: not"),
        ({"type": "foo"}, "'foo'"),
        ({"type": "integer", "minimum": 2.2, "maximum": 2.9}, "no integer lies between"),
        ({"type": "integer", "minimum": 1, "exclusiveMinimum": True}, "bounds are not all numbers"),
        ({"$ref": "#/$defs/missing"}, "refers to '#/\\$defs/missing'"),
        ({"$ref": "https://example.com/schema"}, "refers to 'https"),
        ({"$ref": "#"}, "references have no end"),
        ({"properties": {"me": {"$ref": "#"}}, "required": ["me"]}, "references have no end"),
        ({"type": "array", "minItems": "a"}, "not a valid schema"),
        ({"type": "array", "minItems": 100_000}, "too many"),
        ({"properties": []}, "not a valid schema"),
        ({"type": "string", "pattern": "("}, "not a regular expression"),
        ({"enum": []}, "no value of enum fits"),
        ({"allOf": [{"type": "string"}, {"type": "integer"}]}, "exclude one another"),
        (False, "allows nothing"),
    ],
    ids=str,
)
def test_these_are_refused_by_name(schema: Any, why: str) -> None:
    """A schema that is no schema, that nothing satisfies or that asks for a search says so."""
    with pytest.raises(UnusableSchema, match=why):
        drawn(schema)


ATOMS = st.sampled_from(["a", ".", r"\d", r"\W", r"\s", "[a-c]", "[^a-c]", r"[\w.]", r"\.", "(?:x|yz)", ""])
PATTERN = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map("".join),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"({'|'.join(parts)})"),
        st.tuples(inner, st.sampled_from("*+?") | st.just("{2,3}")).map(lambda pair: f"(?:{pair[0]}){pair[1]}"),
    ),
    max_leaves=6,
)


@given(PATTERN, st.integers(0, 2**32))
def test_a_match_is_a_match(pattern: str, seed: int) -> None:
    """A pattern is matched as a whole by what is drawn for it."""
    assert re.fullmatch(pattern, draw_match(random.Random(seed), pattern))
