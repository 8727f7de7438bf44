"""The values that everything else passes around. Frozen; orjson writes them as they are."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import orjson

from explore_async.settings.recipe import Kind as Kind  # noqa: PLC0414 - for the typechecker: it is one of the values

Origin: TypeAlias = Literal["seed", "lookahead", "backtrack"]
Message: TypeAlias = Mapping[str, str]
"""{"role": "system" | "user" | "assistant", "content": text}"""


@dataclass(frozen=True, slots=True)
class Task:
    """A node of a domain's tree. `id` is its path ("0.3.1": tree 0, fourth child's second child) and never changes."""

    id: str
    name: str
    reason: str
    parent_id: str | None
    depth: int
    origin: Origin


@dataclass(frozen=True, slots=True)
class Example:
    """`request_ordinal` is that of the generate request whose answer held it."""

    id: str
    task_id: str
    request_ordinal: int
    instruction: str
    input: str
    output: str


@dataclass(frozen=True, slots=True)
class Demonstration:
    """An example shown in a prompt: the preset's own, or one of the parent task's."""

    instruction: str
    input: str
    output: str


@dataclass(frozen=True, slots=True)
class AnswerSchema:
    """JSON schema that an answer has to follow; `name` is what the OpenAI format calls it."""

    name: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a prompt is made of, unrendered: a template's name and the values it is filled with."""

    template: Kind
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Request:
    """One question the explorer wants answered. `due` orders dispatch and commit; see docs/architecture.md.
    `turn` counts the requests of this kind that the task has had before.
    """

    ordinal: int
    due: int
    kind: Kind
    task_id: str
    turn: int
    prompt: Prompt
    seed: int


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A request rendered for an endpoint. `sampling` holds fields of the OpenAI chat completions body
    (temperature, top_p, max_tokens, stop, …), `extra_body` what an engine offers beside them.
    """

    model: str
    messages: tuple[Message, ...]
    sampling: Mapping[str, Any]
    seed: int
    answer_schema: AnswerSchema | None = None
    extra_body: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Digest of all the model sees: equal keys, equal questions. 32 hex digits."""
        schema = self.answer_schema
        content = {
            "model": self.model,
            "messages": self.messages,
            "schema": None if schema is None else schema.schema,
            "sampling": dict(self.sampling),
            "extra_body": dict(self.extra_body),
            "seed": self.seed,
        }
        return hashlib.blake2b(orjson.dumps(content, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class Completion:
    """An endpoint's answer. `latency_s` covers the attempt that succeeded; `model` and `endpoint` say who answered."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    model: str = ""
    endpoint: str = ""
    latency_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that this run will not get an answer to, for a cause in the request itself.

    kind: "rejected" (4xx), "context_overflow", or "repeated" (failed `attempts` times while others succeeded).
    """

    kind: Literal["rejected", "context_overflow", "repeated"]
    detail: str
    attempts: int


Outcome: TypeAlias = Completion | Failure


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a task or an example was kept, and why. For a duplicate: the nearest kept text's id and its ROUGE-L F."""

    kept: bool
    reason: str
    score: float | None = None
    nearest: str | None = None


@dataclass(frozen=True, slots=True)
class TaskAdded:
    task: Task
    request_ordinal: int | None


@dataclass(frozen=True, slots=True)
class TaskDropped:
    """A proposed sub-task of `parent_id` that was not taken up."""

    parent_id: str
    name: str
    request_ordinal: int
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class TaskExhausted:
    """No more examples will be asked for this task: its last answers brought almost nothing new."""

    task_id: str


@dataclass(frozen=True, slots=True)
class ExampleKept:
    example: Example
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class ExampleDropped:
    """`example` is None where the answer held an item that could not be read as one; `excerpt` then shows it."""

    task_id: str
    request_ordinal: int
    verdict: Verdict
    example: Example | None = None
    excerpt: str = ""


@dataclass(frozen=True, slots=True)
class RequestFailed:
    task_id: str
    kind: Kind
    request_ordinal: int
    failure: Failure


Event: TypeAlias = TaskAdded | TaskDropped | TaskExhausted | ExampleKept | ExampleDropped | RequestFailed
