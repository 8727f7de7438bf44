"""The chat completions format: bodies of requests, and the reading of responses of many servers.

Pure: it opens no connection and raises no error of ours. Reading tolerates missing and wrong fields; None stands for a
response that cannot be read.
"""

from __future__ import annotations

import math
import re
from codecs import BOM_UTF8
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import orjson

from explore_async.exploration.values import ChatRequest, Completion
from explore_async.settings.recipe import SIMULATED

MOST_TOKENS = 2**24
"""Of one completion; a greater count is taken as 0. The sums of what some servers report would not fit into a file."""
_LONGEST_NAME = 500

_REASONING: Final = ("reasoning", "reasoning_content", "thinking")
"""Names of a message's field with thoughts: vLLM of today, most others, Ollama."""
_REASONING_PARTS: Final = {"thinking", "reasoning"}
_OVERFLOW_CODES: Final[Mapping[str, str]] = {
    "context_length_exceeded": "OpenAI, as code",
    "exceed_context_size_error": "llama.cpp, as type",
}
"""Codes and types of an error that say: the prompt is longer than the model's context."""
_OVERFLOW_PHRASES: Final[Mapping[str, str]] = {
    "maximum context length": "vLLM, SGLang",
    "maximum model length": "vLLM's V1 engine",
    "context_length_exceeded": "gateways that repeat OpenAI's code in their message",
    "exceed_context_size": "gateways that repeat llama.cpp's type in their message",
}
"""The same in the messages of servers that have no code for it, in lower case."""
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
"""An escape in JSON; the group is a surrogate without its other half."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """An entry of /models. `owner` shows which engine it is ("vllm")."""

    name: str
    owner: str = ""


def chat_body(request: ChatRequest, served_model: str, priority: int | None) -> bytes:
    return orjson.dumps(chat_fields(request, served_model, priority), default=dict)


def chat_fields(request: ChatRequest, served_model: str, priority: int | None) -> dict[str, Any]:
    body: dict[str, Any] = {
        **request.sampling,
        **request.extra_body,
        "model": served_model,
        "messages": request.messages,
        "seed": request.seed,
        "stream": False,
    }
    if (schema := request.answer_schema) is not None:
        definition = {"name": schema.name, "schema": schema.schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": definition}
    if priority is not None:
        body["priority"] = priority
    return body


def read_json(raw: bytes) -> Any:
    """Parses JSON. Half an emoji, left when a model stops inside it, becomes U+FFFD; a byte order mark is skipped.

    Raises orjson.JSONDecodeError.
    """
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        whole = _ESCAPE.sub(lambda escape: rb"\ufffd" if escape[1] else escape[0], raw.removeprefix(BOM_UTF8))
        if whole == raw:
            raise
        return orjson.loads(whole)


def read_completion(document: Any, *, served_model: str, endpoint: str, latency_s: float) -> Completion | None:
    """The completion, None when there is no text; an empty text is a text. Of several choices the first counts."""
    try:
        choice = document["choices"][0]
        text = _text_of(choice, choice["message"])
    except (KeyError, IndexError, TypeError, AttributeError):
        return None
    if text is None:
        return None
    usage = _mapping(document.get("usage"))
    return Completion(
        text=text,
        finish_reason=_name(choice.get("finish_reason"), ""),
        prompt_tokens=_count(usage.get("prompt_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
        cached_tokens=_count(_mapping(usage.get("prompt_tokens_details")).get("cached_tokens")),
        model=SIMULATED
        if document.get("system_fingerprint") == SIMULATED
        else _name(document.get("model"), served_model),
        endpoint=endpoint,
        latency_s=latency_s,
        reasoning=_reasoning_of(choice["message"]),
        reasoning_tokens=_count(
            _mapping(usage.get("completion_tokens_details")).get("reasoning_tokens")  # OpenAI, vLLM
            or usage.get("reasoning_tokens")  # SGLang
        ),
    )


def _text_of(choice: Mapping[str, Any], message: Mapping[str, Any]) -> str | None:
    """The text without the model's thoughts (`reasoning_content`, `reasoning`, parts of other types)."""
    content = message.get("content")
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type", "text") == "text"]
        content = "".join(text for text in texts if isinstance(text, str)) if texts else None
    if content is None:
        content = message.get("refusal")
    if content is None and choice.get("finish_reason") == "length":
        return ""  # it thought until the limit, and would do so again
    return content if isinstance(content, str) else None


def _reasoning_of(message: Mapping[str, Any]) -> str:
    """The model's thoughts where the server tells them apart, under one of the names in use, or as parts of a list."""
    for name in _REASONING:
        if (thoughts := message.get(name)) and isinstance(thoughts, str):
            return thoughts
    content = message.get("content")
    if not isinstance(content, list):
        return ""
    parts = [part for part in content if isinstance(part, dict) and part.get("type") in _REASONING_PARTS]
    return "\n".join(_part_text(part.get(str(part["type"])) or part.get("text")) for part in parts)


def _part_text(value: Any) -> str:
    """The text of a part: as it is (Anthropic), or in parts of its own (Mistral)."""
    if isinstance(value, list):
        return "".join(_part_text(part.get("text")) for part in value if isinstance(part, dict))
    return value if isinstance(value, str) else ""


def _name(value: object, otherwise: str) -> str:
    return value[:_LONGEST_NAME] if value and isinstance(value, str) else otherwise


def read_catalogue(document: Any) -> list[ServedModel] | None:
    """The listed models, None when it is not a list of models."""
    try:
        return [
            ServedModel(entry["id"], _name(entry.get("owned_by"), ""))
            for entry in document["data"]
            if isinstance(entry["id"], str)
        ]
    except (KeyError, TypeError, AttributeError):
        return None


def is_overflow(raw: bytes) -> bool:
    """True when the body of a 400 says that the prompt is too long for the model."""
    message, codes = _read_error(raw)
    return any(code in _OVERFLOW_CODES for code in codes) or any(
        phrase in message.lower() for phrase in _OVERFLOW_PHRASES
    )


def retry_after(value: str | None) -> float | None:
    """Seconds from now, of a Retry-After in either form; None when it is missing or makes no sense."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            moment = parsedate_to_datetime(value)
        except (ValueError, OverflowError):
            return None
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - datetime.now(UTC).timestamp()
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(value: Any) -> int:
    """A count as servers report it; 0 when it is missing, negative, absurd or not a number."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MOST_TOKENS else 0


def _read_error(raw: bytes) -> tuple[str, list[str]]:
    """Message, and code and type, of an error: the object under "error" (OpenAI) or the body itself (older vLLM)."""
    try:
        body = _mapping(orjson.loads(raw))
    except orjson.JSONDecodeError:
        return "", []
    error = body.get("error", body)
    if isinstance(error, str):
        return error, []
    message, *codes = (_mapping(error).get(part) for part in ("message", "code", "type"))
    return message if isinstance(message, str) else "", [code for code in codes if isinstance(code, str)]
