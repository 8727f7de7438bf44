"""The chat completions format as values and functions: what is sent, and what the answers of many servers mean.

Pure: opens no connection and raises nothing of ours. Reading tolerates what servers leave out, and whatever they put
in its place; None stands for an answer that is none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from explore_async.exploration.values import ChatRequest, Completion
from explore_async.settings import SIMULATED

# vLLM says it in words (two wordings), OpenAI by code, llama.cpp by type.
_OVERFLOW = re.compile(
    r"maximum context length|maximum model length|context_length_exceeded|exceed_context_size", re.IGNORECASE
)

LARGEST_COUNT = 2**40
"""Of tokens in one answer; more is no count. Sums of them have to fit into the 64 bits of JSON writers."""
_LONGEST_NAME = 500


@dataclass(frozen=True, slots=True)
class ServedModel:
    """An entry of /models. `owner` is how an engine gives itself away ("vllm")."""

    name: str
    owner: str = ""
    max_model_len: int | None = None


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


def read_completion(answer: Any, *, served_model: str, endpoint: str, latency_s: float) -> Completion | None:
    """None where the answer holds no text; an empty text is one."""
    try:
        choice = answer["choices"][0]
        text = choice["message"]["content"]
    except (KeyError, IndexError, TypeError):
        return None
    if not isinstance(text, str):
        return None
    usage = _mapping(answer.get("usage"))
    return Completion(
        text=text,
        finish_reason=_name(choice.get("finish_reason")),
        prompt_tokens=_count(usage.get("prompt_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
        cached_tokens=_count(_mapping(usage.get("prompt_tokens_details")).get("cached_tokens")),
        model=SIMULATED
        if answer.get("system_fingerprint") == SIMULATED
        else _name(answer.get("model")) or served_model,
        endpoint=endpoint,
        latency_s=latency_s,
    )


def read_catalogue(answer: Any) -> list[ServedModel] | None:
    """None where the answer is no list of models."""
    try:
        found = [
            ServedModel(_name(entry["id"]), _name(entry.get("owned_by")), _count(entry.get("max_model_len")) or None)
            for entry in answer["data"]
        ]
    except (KeyError, TypeError, AttributeError):
        return None
    return found if all(model.name for model in found) else None


def is_overflow(raw: bytes) -> bool:
    """Whether the body of a 400 says that the prompt is too long for the model."""
    return _OVERFLOW.search(_error_text(raw)) is not None


def retry_after(value: str | None) -> float | None:
    """Seconds from now, of a Retry-After in either form; None where it is missing or makes no sense."""
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
    """A count as servers report it; what is missing, negative, impossible or no number is 0."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_COUNT else 0


def _name(value: Any) -> str:
    """What names something; nothing where that is no short text."""
    return value[:_LONGEST_NAME] if isinstance(value, str) else ""


def _error_text(raw: bytes) -> str:
    """Message, code and type of an error body: the object under "error" (OpenAI) or the body itself (older vLLM)."""
    try:
        answer = _mapping(orjson.loads(raw))
    except orjson.JSONDecodeError:
        return ""
    error = answer.get("error", answer)
    if isinstance(error, str):
        return error
    said = (_mapping(error).get(part) for part in ("message", "code", "type"))
    return " ".join(part for part in said if isinstance(part, str))
