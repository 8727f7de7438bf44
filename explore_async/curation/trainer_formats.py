"""The shapes in which trainers read an example. Pure.

The user's turn is the instruction, with the input below it after an empty line where there is one; the assistant's turn
is the output.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from explore_async.curation.files.fields import FieldError, text_of

Shape: TypeAlias = Callable[[Mapping[str, Any]], dict[str, Any]]


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """All columns as the run wrote them, provenance included."""
    return dict(row)


def _alpaca(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"instruction": text_of(row, ["instruction"]), "input": _input(row), "output": text_of(row, ["output"])}


def _sharegpt(row: Mapping[str, Any]) -> dict[str, Any]:
    turns = [{"from": "human", "value": _user_turn(row)}, {"from": "gpt", "value": text_of(row, ["output"])}]
    return {"id": row.get("id"), "conversations": turns}


def _messages(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"messages": [*_prompt(row), *_completion(row)]}


def _prompt_completion(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"prompt": _prompt(row), "completion": _completion(row)}


def _prompt(row: Mapping[str, Any]) -> list[dict[str, str]]:
    return [{"role": "user", "content": _user_turn(row)}]


def _completion(row: Mapping[str, Any]) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text_of(row, ["output"])}]


def _user_turn(row: Mapping[str, Any]) -> str:
    text = _input(row)
    instruction = text_of(row, ["instruction"])
    return f"{instruction}\n\n{text}" if text else instruction


def _input(row: Mapping[str, Any]) -> str:
    """The input; empty where it is missing or null."""
    text = row.get("input")
    if text is not None and not isinstance(text, str):
        raise FieldError("field input is not a text")
    return text or ""


SHAPES: dict[str, Shape] = {
    "rows": _plain,
    "alpaca": _alpaca,
    "sharegpt": _sharegpt,
    "messages": _messages,
    "prompt-completion": _prompt_completion,
}
"""By the names that trainers use; messages and prompt-completion are TRL's conversational formats."""
