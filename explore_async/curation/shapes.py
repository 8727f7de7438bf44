"""An example in the shapes that trainers read. Pure.

What a user says is the instruction, with the input below it after an empty line where there is one; what the assistant
says is the output.
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
    said = [{"from": "human", "value": _asked(row)}, {"from": "gpt", "value": text_of(row, ["output"])}]
    return {"id": row.get("id"), "conversations": said}


def _messages(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"messages": [*_prompt(row), *_completion(row)]}


def _prompt_completion(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"prompt": _prompt(row), "completion": _completion(row)}


def _prompt(row: Mapping[str, Any]) -> list[dict[str, str]]:
    return [{"role": "user", "content": _asked(row)}]


def _completion(row: Mapping[str, Any]) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text_of(row, ["output"])}]


def _asked(row: Mapping[str, Any]) -> str:
    given = _input(row)
    instruction = text_of(row, ["instruction"])
    return f"{instruction}\n\n{given}" if given else instruction


def _input(row: Mapping[str, Any]) -> str:
    """Missing and null are no input."""
    given = row.get("input")
    if given is not None and not isinstance(given, str):
        raise FieldError("field input is not a text")
    return given or ""


SHAPES: dict[str, Shape] = {
    "rows": _plain,
    "alpaca": _alpaca,
    "sharegpt": _sharegpt,
    "messages": _messages,
    "prompt-completion": _prompt_completion,
}
"""By the names under which trainers know them; messages and prompt-completion are TRL's conversational formats."""
