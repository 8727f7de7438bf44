"""The JSON schema of a config file, with which an editor completes and checks it. Its texts are those of the code."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from typing import Any

from explore_async.settings import base, operation, recipe, run_settings
from explore_async.settings.base import Settings
from explore_async.settings.run_settings import RunSettings

_DRAFT = "http://json-schema.org/draft-07/schema#"
"""Editors know this draft best, and nothing here needs a later one."""


def config_schema() -> dict[str, Any]:
    """The schema of a config as a user writes it."""
    schema = RunSettings.model_json_schema()
    groups = {group.__name__: group for group in _below(Settings)}
    documents = _field_documents()
    for name, part in [("RunSettings", schema), *schema["$defs"].items()]:
        if name in groups:
            _describe(part, groups[name], documents)
    prompts = schema["properties"]["prompts"]
    schema["properties"]["prompts"] = {
        "anyOf": [{"type": "string"}, prompts],
        "description": prompts.pop("description"),
    }
    _remove_titles(schema)
    return {"$schema": _DRAFT, "title": "A config of explore_async", **schema}


def _below(group: type[Settings]) -> Iterator[type[Settings]]:
    for below in group.__subclasses__():
        yield below
        yield from _below(below)


def _describe(part: dict[str, Any], group: type[Settings], documents: dict[tuple[str, str], str]) -> None:
    """Gives each setting of the group the docstring below its field."""
    (properties,) = (one["properties"] for one in part.get("anyOf", [part]) if "properties" in one)
    for name, described in properties.items():
        for owner in group.__mro__:
            if (text := documents.get((owner.__name__, name))) is not None:
                described["description"] = text
                break


def _field_documents() -> dict[tuple[str, str], str]:
    """The docstrings of fields, by class and field: Python itself keeps none of them."""
    found: dict[tuple[str, str], str] = {}
    for module in (base, operation, recipe, run_settings):
        for node in ast.parse(inspect.getsource(module)).body:
            if isinstance(node, ast.ClassDef):
                for field, below in zip(node.body, node.body[1:], strict=False):
                    match field, below:
                        case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                            found[node.name, name] = inspect.cleandoc(text)
    return found


def _remove_titles(part: Any) -> None:
    """Removes the names of fields in capitals, which pydantic adds."""
    if isinstance(part, dict):
        if isinstance(part.get("title"), str):
            del part["title"]
        for below in part.values():
            _remove_titles(below)
    elif isinstance(part, list):
        for below in part:
            _remove_titles(below)
