"""Strategies by name: each sets the switches that a config leaves open. There is one explorer for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

from pydantic import BaseModel

StrategyName: TypeAlias = Literal["explore_instruct", "self_instruct", "adaptive"]

_DEFAULTS: Final[Mapping[str, Mapping[tuple[str, str], Any]]] = {
    "explore_instruct": {},
    "self_instruct": {
        ("generation", "demonstrations"): 8,
        ("generation", "demonstrations_from"): "pool",
    },
    "adaptive": {
        ("exploration", "lookahead"): "criterion",
        ("exploration", "facets"): 4,
        ("generation", "policy"): "yield",
    },
}
_FIXED: Final[Mapping[str, Mapping[tuple[str, str], Any]]] = {"self_instruct": {("exploration", "depth"): 0}}
"""What a strategy is, whatever the config says of it."""


def with_switches(document: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a recipe, as a user writes them, with the switches that their strategy has."""
    filled = dict(document)
    exploration = filled.get("exploration")
    name = exploration.get("strategy") if isinstance(exploration, Mapping) else getattr(exploration, "strategy", None)
    for (group, setting), value in _DEFAULTS.get(str(name), {}).items():
        filled[group] = _with(filled.get(group), setting, value, replaces=False)
    for (group, setting), value in _FIXED.get(str(name), {}).items():
        filled[group] = _with(filled.get(group), setting, value, replaces=True)
    return filled


def _with(group: Any, setting: str, value: Any, *, replaces: bool) -> Any:
    if isinstance(group, BaseModel):
        is_given = setting in group.model_fields_set
        return group if is_given and not replaces else group.model_copy(update={setting: value})
    if group is None or isinstance(group, Mapping):
        given = dict(group or {})
        return {**given, setting: value} if replaces or setting not in given else given
    return group  # what it is, is told where it is checked
