"""A slow, obvious check of a document against a JSON schema: the part of draft 7 that editors need for our configs."""

from __future__ import annotations

import re
from typing import Any

TYPES: dict[str, Any] = {
    "object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float), "null": type(None),
}  # fmt: skip
KNOWN = {
    "$schema", "$defs", "$ref", "title", "description", "default", "type", "properties", "required", "additionalProperties", "propertyNames", "items",
    "minItems", "anyOf", "enum", "const", "pattern", "minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum",
    "patternProperties", "minProperties", "maxProperties",
}  # fmt: skip


def fits(value: Any, schema: Any, root: dict[str, Any]) -> bool:
    """True when the value is valid. A keyword that is not known here fails the test: it would be ignored in silence."""
    if isinstance(schema, bool):
        return schema
    assert set(schema) <= KNOWN, set(schema) - KNOWN
    return all(_holds(name, given, value, schema, root) for name, given in schema.items())


def _holds(name: str, given: Any, value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    match name:
        case "$ref":
            return fits(value, root["$defs"][given.removeprefix("#/$defs/")], root)
        case "type":
            return isinstance(value, TYPES[given]) and not (isinstance(value, bool) and given in {"integer", "number"})
        case "anyOf":
            return any(fits(value, one, root) for one in given)
        case "enum":
            return value in given
        case "const":
            return bool(value == given)
        case "required":
            return not isinstance(value, dict) or set(given) <= set(value)
        case "properties":
            return not isinstance(value, dict) or all(
                fits(value[key], given[key], root) for key in given if key in value
            )
        case "additionalProperties":
            more = set(value) - set(schema.get("properties", {})) if isinstance(value, dict) else set()
            more -= {key for key in more for pattern in schema.get("patternProperties", {}) if re.search(pattern, key)}
            return all(fits(value[key], given, root) for key in more)
        case "propertyNames":
            return not isinstance(value, dict) or all(fits(key, given, root) for key in value)
        case "patternProperties":
            return not isinstance(value, dict) or all(
                fits(value[key], one, root)
                for key in value
                for pattern, one in given.items()
                if re.search(pattern, key)
            )
        case "minProperties" | "maxProperties":
            return not isinstance(value, dict) or (
                len(value) >= given if name == "minProperties" else len(value) <= given
            )
        case "items":
            return not isinstance(value, list) or all(fits(one, given, root) for one in value)
        case "minItems":
            return not isinstance(value, list) or len(value) >= given
        case "minLength" | "maxLength":
            return not isinstance(value, str) or (len(value) >= given if name == "minLength" else len(value) <= given)
        case "pattern":
            return not isinstance(value, str) or re.search(given, value) is not None
        case "minimum":
            return not number or value >= given
        case "maximum":
            return not number or value <= given
        case "exclusiveMinimum":
            return not number or value > given
    return True
