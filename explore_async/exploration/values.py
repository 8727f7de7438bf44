"""The values that all rooms exchange: requests, outcomes, tasks, examples, events. orjson writes them as they are."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeAlias

import orjson

Message: TypeAlias = Mapping[str, str]
"""{"role": "system" | "user" | "assistant", "content": text}; or alone a message of the role `TEXT`."""
TEXT: Final = "text"
"""The role of a whole prompt that a server puts into no chat template."""


SOURCE: Final = ("passage", "topic", "style", "facets")
"""The names in `Example.source`, in rows and in evidence."""


@dataclass(frozen=True, slots=True)
class Facet:
    """A criterion by which the exercises of a task differ, with its values, which exclude one another."""

    criterion: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Task:
    """A node of a domain's tree. `id` is its path ("0.3.1": tree 0, fourth child's second child) and never changes."""

    id: str
    name: str
    reason: str
    parent_id: str | None
    depth: int
    origin: str
    """"seed" for a task of the recipe, else the kind of request that brought it."""
    criterion: str = ""
    """The criterion by which its parent is divided into it and others; empty where none was asked for."""


def split_of(task: Task | TaskDropped) -> dict[str, Any]:
    """The criterion of a task for its line of JSON, where it has one."""
    return {"criterion": task.criterion} if task.criterion else {}


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to an instruction. `number` counts the answers that were asked for, from 0. `scores`: the judge's, from
    1 to 5, by aspect; empty without a judge.
    """

    number: int
    output: str
    scores: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Example:
    """An example that was kept. `request_ordinal`: of the request whose completion held it."""

    id: str
    task_id: str
    request_ordinal: int
    instruction: str
    input: str
    output: str
    answers: tuple[Answer, ...] = ()
    """Those that passed the filters, where each instruction has requests of its own; `output` is one of them."""
    messages: tuple[Message, ...] = ()
    """The conversation that begins with it, where it goes on."""
    source: Mapping[str, Any] = field(default_factory=dict)
    """What its request asked for beside its task, where that showed a passage or facets; see `passages.source_of`."""


def example_of(fields: Mapping[str, Any]) -> Example:
    """An example as it was before it became JSON."""
    answers = tuple(Answer(**answer) for answer in fields["answers"])
    return Example(**{**fields, "answers": answers, "messages": tuple(fields["messages"])})


@dataclass(frozen=True, slots=True)
class Demonstration:
    """An example shown in a prompt: a seed of the recipe, or an example of the parent task."""

    instruction: str
    input: str
    output: str


@dataclass(frozen=True, slots=True)
class AnswerSchema:
    """JSON schema that a completion has to follow, with its name in the OpenAI format."""

    name: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt that is not rendered yet: the name of its template (a kind of request) and its values."""

    template: str
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Request:
    """A request for a completion. `due` orders dispatch and commit; see docs/architecture.md. `turn`: the number of
    requests of this kind that the task, or the example, has had before.
    """

    ordinal: int
    due: int
    kind: str
    task_id: str
    turn: int
    prompt: Prompt
    seed: int
    about: str = ""
    """The id of the example that the request is about; empty where it is about the task."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A request as an endpoint sees it. `sampling` holds fields of the OpenAI chat completions body (temperature,
    top_p, max_tokens, stop, …), `extra_body` further fields that an engine offers.
    """

    model: str
    messages: tuple[Message, ...]
    sampling: Mapping[str, Any]
    seed: int
    answer_schema: AnswerSchema | None = None
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    sends_seed: bool = True
    """False: the seed only tells requests with the same messages apart, and no server sees it."""

    @property
    def plain_prompt(self) -> str | None:
        """The prompt where it goes into no chat template."""
        first = self.messages[0]
        return first["content"] if first["role"] == TEXT else None

    @property
    def limit(self) -> int | None:
        """The most tokens of the completion; None leaves it to the server."""
        return self.sampling.get("max_completion_tokens") or self.sampling.get("max_tokens")

    def limited(self, tokens: int) -> ChatRequest:
        """The same with at most this number of tokens; one that leaves its limit to the server stays as it is."""
        name = next((name for name in ("max_completion_tokens", "max_tokens") if name in self.sampling), None)
        return self if name is None else replace(self, sampling={**self.sampling, name: tokens})

    @property
    def key(self) -> str:
        """Digest of all that the model sees, and of the seed: equal keys, equal requests. 32 hex digits."""
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
class Form:
    """One of the first requests of a run, for a check whether an endpoint can serve requests like it. `sampling`: the
    part of the recipe's `sampling` that it has ("generation").
    """

    request: ChatRequest
    sampling: str


@dataclass(frozen=True, slots=True)
class Completion:
    """A model's response. `latency_s`: of the attempt that succeeded. `model`, `endpoint`: which of them responded.

    `reasoning`: what the server told apart as the model's thoughts; others are in the text, as the model marked them.
    `reasoning_tokens`: the part of `completion_tokens` that the server counts as thoughts, 0 where it does not say.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    model: str = ""
    endpoint: str = ""
    latency_s: float = 0.0
    reasoning: str = ""
    reasoning_tokens: int = 0

    @property
    def has_usage(self) -> bool:
        """False where the server counted no tokens, not even those of the prompt."""
        return bool(self.prompt_tokens or self.completion_tokens)


@dataclass(frozen=True, slots=True)
class Failure:
    """The outcome of a request that gets no completion in this run, for a cause in the request itself.

    kind: "rejected" (4xx), "context_overflow", "repeated" (failed `attempts` times while others succeeded), or
    "unchecked" (a check of the user's gave no verdict). detail: the cause in words. attempts: the times that
    it was sent.
    """

    kind: Literal["rejected", "context_overflow", "repeated", "unchecked"]
    detail: str
    attempts: int


Outcome: TypeAlias = Completion | Failure
"""The end of a request, which the explorer commits."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision to keep or drop a task or an example. For a duplicate: the id of the nearest kept text and its
    score, the ROUGE-L F-measure.
    """

    kept: bool
    reason: str
    score: float | None = None
    nearest: str | None = None


@dataclass(frozen=True, slots=True)
class TaskAdded:
    """A task joins the tree. `request_ordinal`: of the request that proposed it; None for tasks of the config."""

    task: Task
    request_ordinal: int | None


@dataclass(frozen=True, slots=True)
class TaskDropped:
    """A proposed sub-task of `parent_id` that did not become a task."""

    parent_id: str
    name: str
    request_ordinal: int
    verdict: Verdict
    criterion: str = ""


@dataclass(frozen=True, slots=True)
class FacetsNamed:
    """The facets of a task are known; none where the completion held none that could be read. `dropped`: criteria that
    could not be used, each with the reason.
    """

    task_id: str
    request_ordinal: int
    facets: tuple[Facet, ...]
    dropped: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class TaskExhausted:
    """No more examples are asked for this task: its latest completions brought almost nothing new, or so much of what
    it has to give is there (`coverage`, as estimated; None where that did not decide).
    """

    task_id: str
    coverage: float | None = None


@dataclass(frozen=True, slots=True)
class ExamplesWait:
    """The last examples of a completion are not decided yet: their task has its quota. They may be decided later, at
    the commit of another request.
    """

    task_id: str
    request_ordinal: int
    number: int


@dataclass(frozen=True, slots=True)
class InstructionKept:
    """An instruction is new. It becomes an example when the requests that it still needs have passed. `example`: as far
    as it is known; its output may be empty.
    """

    example: Example
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class AnswerJudged:
    """An answer to a kept instruction passed the filters or did not. `number` counts its answers from 0."""

    example_id: str
    task_id: str
    number: int
    request_ordinal: int
    verdict: Verdict
    turn: int = 0
    """Of the conversation; 0 is the instruction with its answer."""


@dataclass(frozen=True, slots=True)
class FollowUpJudged:
    """The next question of the user in a conversation was asked, or is none: then the conversation ends. `turn` counts
    from 0, the instruction.
    """

    example_id: str
    task_id: str
    turn: int
    request_ordinal: int
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class AnswerChecked:
    """A check of the user's passed an answer or did not. `detail`: the reason that it gave."""

    example_id: str
    task_id: str
    number: int
    request_ordinal: int
    check: str
    verdict: Verdict
    detail: str
    turn: int = 0


@dataclass(frozen=True, slots=True)
class AnswerScored:
    """The judge scored an answer, or could not be read for good: then `scores` is empty."""

    example_id: str
    task_id: str
    number: int
    request_ordinal: int
    scores: Mapping[str, int]
    verdict: Verdict
    turn: int = 0


@dataclass(frozen=True, slots=True)
class PairJudged:
    """A judge compared the two answers to a question in one order, or could not be read for good. `kind`: of its
    requests. `order`: 0 where the first dataset's answer came first, 1 where the second's did. `preferred`: "a" or "b",
    the dataset, or "tie"; empty where it could not be read. `text`: the judge's words, or their beginning.
    """

    example_id: str
    task_id: str
    kind: str
    order: int
    request_ordinal: int
    preferred: Literal["a", "b", "tie", ""]
    text: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class ExampleKept:
    """An example becomes part of the dataset. `answer`: the number of the answer that its output is."""

    example: Example
    verdict: Verdict
    answer: int = 0


@dataclass(frozen=True, slots=True)
class ExampleDropped:
    """An example, or an item that could not be read as one, was dropped.

    `example` is None for an item of a completion that could not be read; `excerpt` then shows it.
    """

    task_id: str
    request_ordinal: int
    verdict: Verdict
    example: Example | None = None
    excerpt: str = ""


@dataclass(frozen=True, slots=True)
class RequestFailed:
    """A request gets no completion in this run."""

    task_id: str
    kind: str
    request_ordinal: int
    failure: Failure


Event: TypeAlias = (
    TaskAdded
    | TaskDropped
    | FacetsNamed
    | TaskExhausted
    | ExamplesWait
    | InstructionKept
    | AnswerJudged
    | AnswerChecked
    | AnswerScored
    | FollowUpJudged
    | PairJudged
    | ExampleKept
    | ExampleDropped
    | RequestFailed
)
"""A decision that follows from a commit."""
