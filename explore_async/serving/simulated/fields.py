"""The fields of requests and their types: read and refused as vLLM's OpenAI server does, with its words. Pure.

Fields that are not listed are ignored. `orders` checks the values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal, TypeVar

import orjson
from pydantic import BaseModel, Field, ValidationError

_MOST_REPORTED: Final = 10
_LONGEST_INPUT: Final = 200
_TYPE: Final = "Bad Request"
"""The type of the errors that are about types."""
_BRANCHES: Final = {"str", "int", "float", "bool", "dict", "list"}
_BRACKETS = re.compile(r"[\[\](){}]")
COMPLETION_TOKENS: Final = 16
"""`max_tokens` of /v1/completions when it is not given."""
_MOST_STOPS: Final = 4
Fields = TypeVar("Fields", bound=BaseModel)
_Whole64 = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]


class InvalidRequest(Exception):
    """The request is refused: the error document's message, type, param and code."""

    def __init__(
        self, message: str, param: str | None = None, *, kind: str = "BadRequestError", code: int = 400
    ) -> None:
        super().__init__(message)
        self.document = {"error": {"message": message, "type": kind, "param": param, "code": code}}
        self.code = code


class _Part(BaseModel):
    type: str = "text"
    text: str | None = None


class Message(BaseModel):
    role: str
    content: str | list[_Part] | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "\n".join(part.text or "" for part in self.content)
        return self.content or ""


class _JsonSchema(BaseModel):
    name: str
    definition: Any = Field(None, alias="schema")


class _ResponseFormat(BaseModel):
    type: Literal["text", "json_object", "json_schema", "structural_tag"]
    json_schema: _JsonSchema | None = None


class StructuredOutputs(BaseModel):
    definition: str | dict[str, Any] | None = Field(None, alias="json")
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    json_object: bool | None = None
    structural_tag: str | None = None


class _StreamOptions(BaseModel):
    include_usage: bool | None = False
    continuous_usage_stats: bool | None = False


class SamplingFields(BaseModel):
    """The fields that chat completions and completions share."""

    model: str | None = None
    max_tokens: int | None = None
    n: int | None = 1
    seed: _Whole64 | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    stop: str | Annotated[list[str], Field(max_length=_MOST_STOPS)] | None = None
    stop_token_ids: list[int] | None = None
    include_stop_str_in_output: bool = False
    bad_words: list[str] | None = None
    ignore_eos: bool = False
    min_tokens: int = 0
    prompt_logprobs: int | None = None
    response_format: _ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    stream: bool | None = False
    stream_options: _StreamOptions | None = None
    priority: _Whole64 = 0
    request_id: str | None = None
    echo: bool | None = False
    return_token_ids: bool | None = None


class ChatFields(SamplingFields):
    messages: list[Message]
    max_completion_tokens: int | None = None
    logprobs: bool | None = False
    top_logprobs: int | None = 0
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None


class CompletionFields(SamplingFields):
    prompt: str | list[str] | list[int] | list[list[int]] | None = None
    max_tokens: int | None = COMPLETION_TOKENS
    logprobs: int | None = None
    suffix: str | None = None


class TokenizeFields(BaseModel):
    model: str | None = None
    prompt: str | None = None
    messages: list[Message] | None = None
    return_token_strs: bool | None = False


class DetokenizeFields(BaseModel):
    model: str | None = None
    tokens: list[int]


def read_body(raw: bytes, media_type: str) -> dict[str, Any]:
    """The JSON object of a request. Raises InvalidRequest."""
    if media_type != "application/json":
        message = "Unsupported Media Type: Only 'application/json' is allowed"
        raise InvalidRequest(f"1 validation error:\n  {message}", kind=_TYPE)
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        problem = {"type": "json_invalid", "loc": ("body", error.pos), "msg": "JSON decode error", "input": {}}
        raise _invalid([{**problem, "ctx": {"error": error.msg}}]) from None
    if not isinstance(body, dict):
        message = "Input should be a valid dictionary or object to extract fields from"
        raise _invalid([{"type": "model_attributes_type", "loc": ("body",), "msg": message, "input": body}])
    return body


def read_fields(kind: type[Fields], body: Mapping[str, Any]) -> Fields:
    """The body's fields. Raises InvalidRequest that names all with a wrong type."""
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False)
        raise _invalid([{**problem, "loc": ("body", *problem["loc"])} for problem in problems]) from None


def _invalid(problems: Sequence[Mapping[str, Any]]) -> InvalidRequest:
    label = "error" if len(problems) == 1 else "errors"
    lines = [f"  {_shown(problem)}" for problem in problems[:_MOST_REPORTED]]
    if (more := len(problems) - _MOST_REPORTED) > 0:
        lines.append(f"  ...and {more} more {label}")
    message = "\n".join([f"{len(problems)} validation {label}:", *lines])
    return InvalidRequest(message, _path(problems[0]["loc"]), kind=_TYPE)


def _shown(problem: Mapping[str, Any]) -> str:
    value = problem["input"]
    if isinstance(value, list | dict):
        value = f"<{type(value).__name__} of {len(value)} items>"
    elif len(text := str(value)) > _LONGEST_INPUT:
        value = f"{text[:_LONGEST_INPUT]}...[truncated]"
    return str({**problem, "loc": _path(problem["loc"]), "input": value})


def _path(places: Sequence[str | int]) -> str:
    """A dotted path, without the names of types by which pydantic tells the branches of a union."""
    names = [str(place) for place in places]
    return ".".join(name for name in names if name not in _BRANCHES and not _BRACKETS.search(name))
