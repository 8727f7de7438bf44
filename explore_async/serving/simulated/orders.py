"""A request with its values checked as vLLM checks them, as an order for texts. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from explore_async.serving.simulated.fields import (
    COMPLETION_TOKENS,
    ChatFields,
    CompletionFields,
    InvalidRequest,
    Message,
    SamplingFields,
    StructuredOutputs,
)
from explore_async.serving.simulated.model import ANY_OBJECT, TextRequest
from explore_async.serving.simulated.tokens import MOST_LOGPROBS, VOCABULARY, count_tokens, token_id

_MOST_TEXTS: Final = 16_384
_GREEDY: Final = 1e-5
"""Temperatures below it are 0."""

_RULES: Final[Mapping[str, tuple[tuple[Callable[[Any], bool], str], ...]]] = {
    "n": (
        (lambda value: value >= 1, "n must be at least 1, got {}."),
        (lambda value: value <= _MOST_TEXTS, f"n must be at most {_MOST_TEXTS}, got {{}}."),
    ),
    "presence_penalty": ((lambda value: -2 <= value <= 2, "presence_penalty must be in [-2, 2], got {}."),),  # noqa: PLR2004
    "frequency_penalty": ((lambda value: -2 <= value <= 2, "frequency_penalty must be in [-2, 2], got {}."),),  # noqa: PLR2004
    "repetition_penalty": ((lambda value: value > 0, "repetition_penalty must be greater than zero, got {}."),),
    "temperature": (
        (lambda value: value >= 0, "temperature must be non-negative, got {}."),
        (lambda value: value <= 2, "temperature must be in [0, 2], got {}."),  # noqa: PLR2004
    ),
    "top_p": ((lambda value: 0 < value <= 1, "top_p must be in (0, 1], got {}."),),
    "top_k": ((lambda value: value >= -1, "top_k must be 0 (disable), or at least 1, got {}."),),
    "min_p": ((lambda value: 0 <= value <= 1, "min_p must be in [0, 1], got {}."),),
    "min_tokens": ((lambda value: value >= 0, "min_tokens must be greater than or equal to 0, got {}."),),
    "stop": ((lambda value: value != "" and "" not in _listed(value), "stop cannot contain an empty string."),),
    "bad_words": ((lambda value: "" not in value, "bad_words cannot contain an empty string. Got bad_words={}"),),
    "prompt_logprobs": (
        (lambda value: value >= -1, "`prompt_logprobs` must be a positive value or -1."),
        (
            lambda value: value <= MOST_LOGPROBS,
            f"Requested prompt logprobs of {{}}, which is greater than max allowed: {MOST_LOGPROBS}",
        ),
    ),
    "logit_bias": (
        (
            lambda value: all(key.isdecimal() and int(key) < VOCABULARY for key in value),
            "logit_bias contains key(s) that are no token ids of the vocabulary. Got {}",
        ),
    ),
}
"""A rule for a field that is given, and the message where it does not hold."""


@dataclass(frozen=True, slots=True)
class Prompt:
    text: str
    tokens: int


@dataclass(frozen=True, slots=True)
class Order:
    """`number` texts for each of the prompts, and how to send them."""

    prompts: Sequence[Prompt]
    texts: TextRequest
    number: int
    wanted_tokens: int | None
    """`max_tokens` as it was given."""
    logprobs: int | None
    """Alternatives for each token, None for no probabilities."""
    tool: str | None
    """The function that is called; the text is its arguments."""
    tool_required: bool
    fields: SamplingFields


def order_chat(fields: ChatFields, *, length: int) -> Order:
    """`length`: tokens of the model's context. Raises InvalidRequest."""
    if not fields.messages:
        raise InvalidRequest("`messages` must not be empty.", "messages")
    _check_stream(fields)
    logprobs = _chat_logprobs(fields)
    prompt = _prompt(prompt_of(fields.messages), length)  # a chat template makes a prompt of no text, too
    wanted, name = fields.max_completion_tokens, "max_completion_tokens"
    if wanted is None:
        wanted, name = fields.max_tokens, "max_tokens"
    most = _most_tokens(wanted, name, prompt.tokens, length)
    tool, arguments = _tool(fields, prompt.text)
    texts = _text(fields, prompt.text, most, {"schema": arguments} if tool is not None else _form(fields))
    return Order([prompt], texts, _number(fields), wanted, logprobs, tool, fields.tool_choice == "required", fields)


def order_completion(fields: CompletionFields, *, length: int) -> Order:
    """`length`: tokens of the model's context. Raises InvalidRequest."""
    if fields.suffix:
        raise InvalidRequest("suffix is not currently supported", "suffix")
    _check_stream(fields)
    if (logprobs := fields.logprobs) is not None and logprobs < -1:
        raise InvalidRequest("`logprobs` must be a positive value or -1.", "logprobs")
    _check_logprobs(logprobs)
    given = _prompts(fields.prompt)
    if not all(given):
        raise InvalidRequest("The decoder prompt cannot be empty")
    prompts = [
        _prompt(text, length) if isinstance(text, str) else _prompt(" ".join(map(str, text)), length, len(text))
        for text in given
    ]
    longest = max(prompt.tokens for prompt in prompts)
    wanted = COMPLETION_TOKENS if fields.max_tokens is None else fields.max_tokens
    most = 0 if wanted == 0 and fields.echo else _most_tokens(wanted, "max_tokens", longest, length)
    texts = _text(fields, prompts[0].text, most, _form(fields))
    return Order(prompts, texts, _number(fields), wanted, logprobs, None, False, fields)


def prompt_of(messages: Sequence[Message]) -> str:
    """The text of the messages. Raises InvalidRequest for what is no text."""
    for message in messages:
        for part in message.content if isinstance(message.content, list) else ():
            if part.text is None:
                raise InvalidRequest(f"The model is not multimodal: it reads text, and no {part.type}.", "messages")
    return "\n".join(message.text for message in messages)


def _prompts(prompt: str | list[str] | list[int] | list[list[int]] | None) -> Sequence[str | list[Any]]:
    if prompt is None or prompt == []:
        raise InvalidRequest("Either prompt or prompt_embeds must be provided and non-empty.", "prompt")
    if isinstance(prompt, str):
        return [prompt]
    several = [one for one in prompt if not isinstance(one, int)]
    return several or [prompt]


def _prompt(text: str, length: int, tokens: int | None = None) -> Prompt:
    tokens = max(1, count_tokens(text)) if tokens is None else tokens
    if tokens > length:
        message = f"This model's maximum context length is {length} tokens. However, your prompt contains {tokens} "
        message += "input tokens, which exceeds this limit even without any output tokens. Please reduce the length "
        raise InvalidRequest(f"{message}of the input prompt.", "input_tokens")
    if tokens == length:
        message = f"The decoder prompt (length {tokens}) plus the number of requested output tokens (at least 1) is "
        raise InvalidRequest(f"{message}longer than the maximum model length of {length}.")
    return Prompt(text, tokens)


def _most_tokens(wanted: int | None, name: str, prompt_tokens: int, length: int) -> int:
    """Tokens that a completion may have: those that are asked for, and no more than the context has left."""
    if wanted is not None and wanted > length:
        message = f"{name}={wanted} cannot be greater than max_model_len={length}. Please request fewer output tokens."
        raise InvalidRequest(message, name)
    if wanted is not None and wanted < 1:
        raise InvalidRequest(f"max_tokens must be at least 1, got {wanted}.", "max_tokens")
    return length - prompt_tokens if wanted is None else min(wanted, length - prompt_tokens)


def _text(fields: SamplingFields, prompt: str, most: int, form: Mapping[str, Any]) -> TextRequest:
    for name in fields.model_fields_set & _RULES.keys():
        if (value := getattr(fields, name)) is not None:
            for holds, message in _RULES[name]:
                if not holds(value):
                    raise InvalidRequest(message.format(value), name)
    if fields.min_tokens > most > 0:
        raise InvalidRequest(f"min_tokens must be less than or equal to max_tokens={most}, got {fields.min_tokens}.")
    if fields.temperature is not None and fields.temperature < _GREEDY and _number(fields) > 1:
        raise InvalidRequest(f"n must be 1 when using greedy sampling, got {fields.n}.")
    return TextRequest(
        prompt=prompt,
        most_tokens=most,
        least_tokens=fields.min_tokens,
        whole=fields.ignore_eos,
        stop=_listed(fields.stop),
        keeps_stop=fields.include_stop_str_in_output,
        **form,
    )


def _form(fields: SamplingFields) -> dict[str, Any]:
    """The fields of a TextRequest that say which form the text has."""
    outputs, wanted = fields.structured_outputs, fields.response_format
    given = {} if outputs is None else _given(outputs)
    if wanted is not None and wanted.type != "text":
        if wanted.type == "json_object":
            given["json_object"] = True
        elif wanted.type == "structural_tag":
            given["structural_tag"] = ""
        elif wanted.json_schema is None:
            message = "When response_format type is 'json_schema', the 'json_schema' field must be provided."
            raise InvalidRequest(message, "response_format")
        else:
            if not isinstance(wanted.json_schema.definition, dict):
                raise InvalidRequest("The json_schema has no schema.", "response_format")
            given["json"] = wanted.json_schema.definition
    elif outputs is None:
        return {}
    if len(given) != 1:
        message = f"You can only use one kind of constraints for structured outputs, but there are {len(given)}: "
        raise InvalidRequest(f"{message}{', '.join(given) or 'none'}.", "structured_outputs")
    ((kind, value),) = given.items()
    match kind:
        case "json":
            return {"schema": _schema(value)}
        case "json_object" if value:
            return {"schema": ANY_OBJECT}
        case "regex":
            return {"regex": value}
        case "choice" if value:
            return {"choices": value}
        case "choice":
            raise InvalidRequest("Choice '[]' cannot be an empty list", "structured_outputs")
        case "json_object":
            raise InvalidRequest("structured_outputs.json_object must be True if set", "structured_outputs")
    raise InvalidRequest(f"The simulated model follows no {kind}: use json, regex or choice.", "structured_outputs")


def _given(outputs: StructuredOutputs) -> dict[str, Any]:
    named = {
        "json": outputs.definition,
        "regex": outputs.regex,
        "choice": outputs.choice,
        "grammar": outputs.grammar,
        "json_object": outputs.json_object,
        "structural_tag": outputs.structural_tag,
    }
    return {name: value for name, value in named.items() if value is not None}


def _schema(schema: str | dict[str, Any]) -> Any:
    if isinstance(schema, dict):
        return schema
    try:
        return orjson.loads(schema)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest("Invalid JSON grammar specification.", "structured_outputs") from error


def _tool(fields: ChatFields, prompt: str) -> tuple[str | None, Any]:
    """Name and schema of the function that must be called. With `auto` the simulated model calls none."""
    choice, tools = fields.tool_choice, fields.tools
    if tools == []:
        message = "`tools` must not be an empty array. Either provide at least one tool or omit the field entirely."
        raise InvalidRequest(message, "tools")
    if choice is None or choice == "none" or (choice == "auto" and tools):
        return None, None
    if not tools:
        raise InvalidRequest("When using `tool_choice`, `tools` must be set.", "tool_choice")
    functions: list[Any] = [tool.get("function") for tool in tools]
    named = {one["name"]: one.get("parameters") or {"type": "object"} for one in functions if _is_function(one)}
    if choice == "required" and named:
        name = list(named)[token_id(prompt) % len(named)]
    elif isinstance(choice, dict) and _is_function(choice.get("function")):
        name = choice["function"]["name"]
    else:
        message = f'Invalid value for `tool_choice`: {choice}! Only named tools, "none", "auto" or "required" are '
        raise InvalidRequest(f"{message}supported.", "tool_choice")
    if name not in named:
        message = "The tool specified in `tool_choice` does not match any of the specified `tools`"
        raise InvalidRequest(message, "tool_choice")
    return name, named[name]


def _is_function(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("name"), str)


def _number(fields: SamplingFields) -> int:
    return 1 if fields.n is None else fields.n


def _check_stream(fields: SamplingFields) -> None:
    if fields.stream_options is not None and not fields.stream:
        raise InvalidRequest("Stream options can only be defined when `stream=True`.", "stream_options")
    if fields.stream and fields.prompt_logprobs:
        raise InvalidRequest("`prompt_logprobs` are not available when `stream=True`.", "prompt_logprobs")


def _chat_logprobs(fields: ChatFields) -> int | None:
    top = fields.top_logprobs or 0
    if top < -1:
        raise InvalidRequest("`top_logprobs` must be a positive value or -1.", "top_logprobs")
    if top and not fields.logprobs:
        raise InvalidRequest("when using `top_logprobs`, `logprobs` must be set to true.", "top_logprobs")
    _check_logprobs(top)
    return top if fields.logprobs else None


def _check_logprobs(top: int | None) -> None:
    number = VOCABULARY if top == -1 else top or 0
    if number > MOST_LOGPROBS:
        message = f"Requested sample logprobs of {number}, which is greater than max allowed: {MOST_LOGPROBS}"
        raise InvalidRequest(message, "logprobs")


def _listed(stop: str | list[str] | None) -> list[str]:
    return [] if stop is None else [stop] if isinstance(stop, str) else stop
