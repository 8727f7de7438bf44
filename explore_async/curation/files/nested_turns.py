"""Turns within objects: an object may number its turns, and a turn may have replies, of which the best goes on.

Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_NUMBERED = re.compile(r"[a-z]*[ _-]?(\d{1,18})", re.IGNORECASE)
_REPLIES = "replies"


def are_numbered(value: Any) -> bool:
    """True for an object whose keys number the turns in it: turn_1, turn_2."""
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(_NUMBERED.fullmatch(key) is not None for key in value)
        and all(isinstance(turn, Mapping) for turn in value.values())
    )


def is_branched(value: Any) -> bool:
    """True for a turn in whose replies, or theirs, there is more than one."""
    replies = value.get(_REPLIES) if isinstance(value, Mapping) else None
    return isinstance(replies, list) and (len(replies) > 1 or any(map(is_branched, replies)))


def in_order(value: Mapping[str, Any]) -> list[Any]:
    """The turns of an object: those that it numbers, or itself with the best of its replies, and the best of theirs."""
    if are_numbered(value):
        numbers = {key: int(found[1]) for key in value if (found := _NUMBERED.fullmatch(key)) is not None}
        return [value[key] for key in sorted(value, key=numbers.__getitem__)]
    turns: list[Any] = []
    at: Mapping[str, Any] | None = value
    while at is not None:
        replies = at.get(_REPLIES)
        if not isinstance(replies, list):
            return [*turns, at]
        turns.append({key: part for key, part in at.items() if key != _REPLIES})
        at = min((reply for reply in replies if isinstance(reply, Mapping)), key=_rank, default=None)
    return turns


def _rank(reply: Mapping[str, Any]) -> tuple[bool, float]:
    """Orders replies: what is not deleted first, then as readers ranked them, then as they stand."""
    rank = reply.get("rank")
    return bool(reply.get("deleted")), rank if isinstance(rank, int | float) else float("inf")
