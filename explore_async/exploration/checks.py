"""Checks of the user's: requests that a program on this machine answers, and no endpoint. Their answers are stored like
completions, so that they replay.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from explore_async.exploration.items import Checked, Unreadable, beginning
from explore_async.exploration.task_state import TaskState
from explore_async.exploration.values import ChatRequest, Completion, Example, Failure, Request
from explore_async.settings.recipe import Check, Recipe

KIND: Final = "check"
"""The kind of these requests."""
_MODEL: Final = "check:"
PASSED: Final = Completion('{"ok": true}', "stop", 0, 0)
"""What a check says in a rehearsal, where no program runs."""


def values_for(recipe: Recipe, task: TaskState, example: Example, output: str, check: int) -> dict[str, Any]:
    """The values of a request for the check of this number. `output`: the answer to check."""
    return {
        "count": 1,
        "check": check,
        "example": {
            "id": example.id,
            "task_id": example.task_id,
            "domain": recipe.domains[task.domain].name,
            "task": task.task.name,
            "instruction": example.instruction,
            "input": example.input,
            "output": output,
        },
    }


def render(recipe: Recipe, request: Request) -> ChatRequest:
    """The request as it is stored: the example as JSON, for the check and its version."""
    check = recipe.checks[request.prompt.values["check"]]
    return ChatRequest(
        model=_MODEL + check.name,
        messages=({"role": "user", "content": orjson.dumps(request.prompt.values["example"]).decode()},),
        sampling={},
        seed=0,
        extra_body={"command": list(check.command), "function": check.function, "version": check.version},
    )


def is_for_check(request: ChatRequest) -> bool:
    """True where a rendered request is for a check, and for no model."""
    return request.model.startswith(_MODEL)


def check_of(recipe: Recipe, request: ChatRequest) -> Check | None:
    """The check that a rendered request is for; None where it is for a model."""
    name = request.model.removeprefix(_MODEL)
    return next((check for check in recipe.checks if check.name == name), None) if is_for_check(request) else None


def fault(failure: Failure) -> tuple[Unreadable, ...]:
    """The words of a check that gave no verdict; nothing for other failures, and for those of earlier versions."""
    return (Unreadable(failure.kind, failure.detail),) if failure.kind == "unchecked" else ()


def parse(completion: Completion) -> Checked | Unreadable:
    """The answer of a check. Unreadable where it is no object with a true or false `ok`."""
    try:
        document = orjson.loads(completion.text)
    except orjson.JSONDecodeError:
        document = None
    if isinstance(document, dict) and isinstance(document.get("ok"), bool):
        return Checked(document["ok"], str(document.get("reason") or ""))
    return Unreadable("unparsable", beginning(completion.text))
