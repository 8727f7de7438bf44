"""The turns of an example's conversation as texts for a reader. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from explore_async.curation.collections.conversations import conversation_of
from explore_async.curation.files.fields import FieldError
from explore_async.curation.files.turns import Turn, TurnError, content_text

_MORE = ("tool_calls", "function_call", "reasoning_content", "tool_call_id")
"""Keys of a turn that a reader needs beside its text."""


def shown_turns(example: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Each turn with its role, and what stands beside the turns with its name; nothing where the example has no more
    than its instruction, input and output.
    """
    try:
        conversation = conversation_of(example)
    except FieldError:
        return []
    if conversation is None:
        return []
    shown = [(str(turn.message["role"]), _text(turn)) for turn in conversation.turns]
    shown += [(f"rejected {turn.message['role']}", _text(turn)) for turn in conversation.rejected or ()]
    if conversation.label is not None:
        shown.append(("label", str(conversation.label).lower()))
    return [*shown, *((name, _as_json(value)) for name, value in conversation.carried.items())]


def _text(turn: Turn) -> str:
    return "\n".join(filter(None, _texts(turn.message)))


def _texts(message: Mapping[str, Any]) -> Iterator[str]:
    content = message.get("content")
    try:
        yield content_text(content)
    except TurnError:
        yield _as_json(content)
    if isinstance(content, list):
        others = [part for part in content if isinstance(part, Mapping) and not isinstance(part.get("text"), str)]
        yield from map(_as_json, others)
    yield from (f"{name}: {_as_json(message[name])}" for name in _MORE if message.get(name))


def _as_json(value: Any) -> str:
    if isinstance(value, str):
        return value
    try:
        return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    except TypeError:
        return repr(value)
