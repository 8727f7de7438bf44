"""The checks of requests: what vLLM refuses is refused, with its words, and the rest becomes an order for texts."""

from __future__ import annotations

from typing import Any

import pytest

from explore_async.serving.simulated.fields import (
    ChatFields,
    CompletionFields,
    InvalidRequest,
    read_body,
    read_fields,
)
from explore_async.serving.simulated.orders import Order, order_chat, order_completion

LENGTH = 1000
MESSAGES = [{"role": "user", "content": "Say something"}]
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": SCHEMA}}


def chat(**fields: Any) -> Order:
    return order_chat(read_fields(ChatFields, {"messages": MESSAGES, **fields}), length=LENGTH)


def completion(**fields: Any) -> Order:
    return order_completion(read_fields(CompletionFields, {"prompt": "Say something", **fields}), length=LENGTH)


REFUSED: list[tuple[dict[str, Any], str | None, str]] = [
    ({"messages": None}, "body.messages", "Input should be a valid list"),
    ({"messages": []}, "messages", "must not be empty"),
    ({"messages": ["hello"]}, "body.messages.0", "valid dictionary"),
    ({"messages": [{"content": "hello"}]}, "body.messages.0.role", "Field required"),
    ({"messages": [{"role": "user", "content": 5}]}, "body.messages.0.content", "valid string"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages", "no image_url"),
    ({"messages": [{"role": "user", "content": "word " * 2000}]}, "input_tokens", "maximum context length is 1000 tokens"),
    ({"max_tokens": -1}, "max_tokens", "max_tokens must be at least 1, got -1"),
    ({"max_tokens": 0}, "max_tokens", "max_tokens must be at least 1, got 0"),
    ({"max_completion_tokens": 0}, "max_tokens", "max_tokens must be at least 1, got 0"),
    ({"max_tokens": 10.5}, "body.max_tokens", "got a number with a fractional part"),
    ({"max_tokens": "many"}, "body.max_tokens", "unable to parse string as an integer"),
    ({"max_tokens": 1001}, "max_tokens", "max_tokens=1001 cannot be greater than max_model_len=1000"),
    ({"max_completion_tokens": 1001}, "max_completion_tokens", "max_completion_tokens=1001 cannot be greater"),
    ({"min_tokens": -1}, "min_tokens", "min_tokens must be greater than or equal to 0"),
    ({"min_tokens": 9, "max_tokens": 8}, None, "min_tokens must be less than or equal to max_tokens=8, got 9"),
    ({"n": 0}, "n", "n must be at least 1, got 0"),
    ({"n": -2}, "n", "n must be at least 1, got -2"),
    ({"n": 1.5}, "body.n", "fractional part"),
    ({"n": 2, "temperature": 0}, None, "n must be 1 when using greedy sampling, got 2"),
    ({"temperature": -0.1}, "temperature", "temperature must be non-negative, got -0.1"),
    ({"temperature": 2.1}, "temperature", r"temperature must be in \[0, 2\], got 2.1"),
    ({"temperature": "hot"}, "body.temperature", "valid number"),
    ({"top_p": 0}, "top_p", r"top_p must be in \(0, 1\], got 0"),
    ({"top_p": 1.1}, "top_p", "top_p must be in"),
    ({"top_k": -2}, "top_k", "top_k must be 0"),
    ({"min_p": 2}, "min_p", "min_p must be in"),
    ({"presence_penalty": 3}, "presence_penalty", "presence_penalty must be in"),
    ({"frequency_penalty": -3}, "frequency_penalty", "frequency_penalty must be in"),
    ({"repetition_penalty": 0}, "repetition_penalty", "greater than zero"),
    ({"seed": 2**63}, "body.seed", "less than or equal"),
    ({"seed": 1.5}, "body.seed", "fractional part"),
    ({"stop": ""}, "stop", "stop cannot contain an empty string"),
    ({"stop": ["a", ""]}, "stop", "stop cannot contain an empty string"),
    ({"stop": list("abcde")}, "body.stop", "at most 4 items"),
    ({"logit_bias": {"word": 1}}, "logit_bias", "no token ids"),
    ({"bad_words": [""]}, "bad_words", "cannot contain an empty string"),
    ({"top_logprobs": 2}, "top_logprobs", "`logprobs` must be set to true"),
    ({"logprobs": True, "top_logprobs": -2}, "top_logprobs", "positive value or -1"),
    ({"logprobs": True, "top_logprobs": 21}, "logprobs", "Requested sample logprobs of 21"),
    ({"stream_options": {"include_usage": True}}, "stream_options", "only be defined when `stream=True`"),
    ({"stream": True, "prompt_logprobs": 1}, "prompt_logprobs", "not available when `stream=True`"),
    ({"response_format": {"type": "xml"}}, "body.response_format.type", "Input should be 'text'"),
    ({"response_format": {"type": "json_schema"}}, "response_format", "the 'json_schema' field must be provided"),
    ({"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}}, "body.response_format.json_schema.name", "required"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}}, "response_format", "no schema"),
    ({"structured_outputs": {}}, "structured_outputs", "only use one kind"),
    ({"structured_outputs": {"regex": "a", "choice": ["b"]}}, "structured_outputs", "regex, choice"),
    ({"structured_outputs": {"choice": []}}, "structured_outputs", "cannot be an empty list"),
    ({"structured_outputs": {"json": "{"}}, "structured_outputs", "Invalid JSON grammar"),
    ({"structured_outputs": {"json_object": False}}, "structured_outputs", "must be True if set"),
    ({"structured_outputs": {"grammar": "root ::= x"}}, "structured_outputs", "follows no grammar"),
    ({"tools": []}, "tools", "must not be an empty array"),
    ({"tool_choice": "required"}, "tool_choice", "`tools` must be set"),
    ({"tool_choice": "any", "tools": [TOOL]}, "tool_choice", "Invalid value for `tool_choice`: any"),
    ({"tool_choice": {"function": {"name": "x"}}, "tools": [TOOL]}, "tool_choice", "does not match any"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "param", "message"), REFUSED, ids=lambda value: str(value)[:60])
def test_a_request_that_vllm_refuses_is_refused(fields: dict[str, Any], param: str | None, message: str) -> None:
    """With status 400, the field in `param` and the reason in vLLM's words."""
    with pytest.raises(InvalidRequest, match=message) as caught:
        chat(**fields)
    error = caught.value.document["error"]
    assert (caught.value.code, error["code"], error["param"]) == (400, 400, param)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt": None}, "must be provided and non-empty"),
        ({"prompt": []}, "must be provided and non-empty"),
        ({"prompt": ""}, "cannot be empty"),
        ({"prompt": {"a": 1}}, "validation error"),
        ({"prompt": list(range(2000))}, "maximum context length"),
        ({"max_tokens": 0}, "at least 1, got 0"),
        ({"logprobs": -2}, "positive value or -1"),
        ({"logprobs": 21}, "greater than max allowed: 20"),
        ({"suffix": "end"}, "suffix"),
    ],
    ids=str,
)
def test_the_same_of_completions(fields: dict[str, Any], message: str) -> None:
    """/v1/completions has the same checks, and its own for prompts, suffixes and probabilities."""
    with pytest.raises(InvalidRequest, match=message):
        completion(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        dict.fromkeys(("max_tokens", "temperature", "top_p", "seed", "stop", "n", "stream", "logprobs", "tools")),
        {"max_tokens": "12", "temperature": "0.5", "seed": -1, "min_p": 0, "top_k": -1, "user": "me", "foo": [1]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]},
        {"messages": [*MESSAGES, {"role": "assistant", "content": None, "tool_calls": []}, {"role": "tool", "content": "5"}]},
        {"messages": [{"role": "user", "content": ""}]},
        {"guided_json": SCHEMA, "response_format": {"type": "text"}},
        {"structured_outputs": {"json": '{"type": "string"}'}, "priority": -5, "ignore_eos": False},
    ],
    ids=lambda value: str(value)[:60],
)  # fmt: skip
def test_what_vllm_takes_is_taken(fields: dict[str, Any]) -> None:
    """Null fields, numbers in strings, unknown and removed fields, text in parts."""
    assert chat(**fields).number == 1


def test_a_completion_ends_with_the_context() -> None:
    """Without `max_tokens` it may fill the context; with a larger one than is left, too."""
    assert chat().texts.most_tokens == LENGTH - chat().prompts[0].tokens
    assert chat(max_tokens=LENGTH).texts.most_tokens == LENGTH - chat().prompts[0].tokens
    assert chat(max_completion_tokens=7, max_tokens=9).texts.most_tokens == 7
    assert completion().texts.most_tokens == 16
    assert completion(max_tokens=None, n=2).number == 2


def test_prompts_of_completions() -> None:
    """A text, texts, token ids, or lists of token ids."""
    assert len(completion(prompt=["a", "b"]).prompts) == 2
    assert [prompt.tokens for prompt in completion(prompt=[[1, 2, 3], [4]]).prompts] == [3, 1]
    assert [prompt.tokens for prompt in completion(prompt=[1, 2, 3]).prompts] == [3]
    assert completion(max_tokens=0, echo=True).texts.most_tokens == 0


@pytest.mark.parametrize(
    ("raw", "media_type", "message"),
    [
        (b"{", "application/json", "JSON decode error"),
        (b"[]", "application/json", "valid dictionary"),
        (b"{}", "text/plain", "Unsupported Media Type"),
    ],
)
def test_bodies_that_are_no_objects(raw: bytes, media_type: str, message: str) -> None:
    """They are refused as vLLM does, before any field is looked at."""
    with pytest.raises(InvalidRequest, match=message):
        read_body(raw, media_type)


def test_all_fields_of_a_wrong_type_are_named() -> None:
    """As pydantic does: one refusal for all of them, the first in `param`, long values cut short."""
    with pytest.raises(InvalidRequest, match="2 validation errors") as caught:
        chat(n="x" * 1000, seed="y")
    assert len(str(caught.value)) < 1000
    assert "body.seed" in str(caught.value)
