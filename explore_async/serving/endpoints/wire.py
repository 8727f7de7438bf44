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
from fnmatch import fnmatchcase
from typing import Any, Final, Literal, TypeAlias

import orjson

from explore_async.exploration.values import ChatRequest, Completion
from explore_async.settings.recipe import SIMULATED

MOST_TOKENS = 2**24
"""Of one completion; a greater count is taken as 0. The sums of what some servers report would not fit into a file."""
_LONGEST_NAME = 500
_LONGEST_ERROR = 4096
_LONGEST_VERSION = 60
VERSION_PAGES: Final[Mapping[str, str]] = {
    "vllm": "/version",
    "simulator": "/version",
    "sglang": "/get_server_info",
    "llamacpp": "/props",
}
"""The page beside /v1 that has the version, by the engine's name in /models."""
_VERSION_FIELDS: Final = ("version", "build_info")

_REASONING: Final = ("reasoning", "reasoning_content", "thinking")
"""Names of a message's field with thoughts: vLLM of today, most others, Ollama."""
_REASONING_PARTS: Final = {"thinking", "reasoning"}
_OVERFLOW_CODES: Final[Mapping[str, str]] = {
    "context_length_exceeded": "OpenAI, Groq, llama-cpp-python, as code",
    "exceed_context_size_error": "llama.cpp, as type",
}
"""Codes and types of an error that say: prompt and completion do not fit into the model's context."""
_OVERFLOW_PHRASES: Final[Mapping[str, str]] = {
    "maximum context length": "vLLM, SGLang, Mistral, DeepSeek, OpenRouter",
    "maximum model length": "vLLM's V1 engine",
    "max_model_len": "vLLM, of max_tokens alone",
    "longer than the model's context length": "SGLang, of the prompt",
    "exceeds the maximum allowed length": "SGLang, of the prompt",
    "tokens + `max_new_tokens` must be": "TGI, Together",
    "tokens + max_new_tokens must be": "TGI",
    "`inputs` must have less than": "TGI, of the prompt",
    "`max_new_tokens` must be <=": "TGI, of max_tokens alone",
    "contextwindowexceedederror": "LiteLLM, before the words of what is behind it",
    "exceed context limit": "Anthropic",
    "prompt is too long": "Anthropic, Fireworks",
    "input is too long for requested model": "Bedrock",
    "exceeds the maximum number of tokens allowed": "Gemini",
    "exceeds the context window": "OpenAI",
    "maximum prompt length is": "xAI",
    "reduce the length of the messages or completion": "Groq, Cerebras",
    "exceeds the available context size": "llama.cpp",
    "exceed context window of": "llama-cpp-python",
    "greater than the context length": "LM Studio",
    "loaded with context length of only": "LM Studio, earlier",
    "truncate prompt with n_keep": "LM Studio",
    "exceeds the context length": "Ollama",
    "exceeds maximum sequence length": "TensorRT-LLM",
    "exceed max_seq_len": "TensorRT-LLM",
    "request too large for": "OpenAI and Groq: more tokens than their limit of a minute",
    "context_length_exceeded": "gateways that repeat OpenAI's code in their message",
    "exceed_context_size": "gateways that repeat llama.cpp's type in their message",
}
"""The same in the messages of servers that have no code for it, in lower case."""
_FULL_CACHE: Final = "context size has been exceeded"
"""llama.cpp while it writes, with status 500: requests that share its cache have filled it together."""
_CONTEXT_FIELDS: Final = ("max_model_len", "context_length", "context_window", "max_context_length")
"""Names of a model's context in /models: of vLLM and SGLang, OpenRouter and Together, Groq, Mistral. That of llama.cpp
is left out: it ends a completion there instead of refusing the request.
"""
Absence: TypeAlias = Literal["thoughts", "tool calls", "event stream"]
"""The response of a server that writes no text, because of the way it is set up."""
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
"""An escape in JSON; the group is a surrogate without its other half."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """An entry of /models. `owner` shows which engine it is ("vllm"). `context_tokens`: the most tokens of prompt and
    completion together, None where the server does not tell it.
    """

    name: str
    owner: str = ""
    context_tokens: int | None = None

    @property
    def is_wildcard(self) -> bool:
        """True for a pattern ("*", "openai/*"): a gateway lists it for names that it passes on."""
        return "*" in self.name

    def covers(self, name: str) -> bool:
        return fnmatchcase(name, self.name) if self.is_wildcard else name == self.name


def path_of(request: ChatRequest) -> str:
    """The page that takes the request, below the URL of the endpoint."""
    return "/chat/completions" if request.plain_prompt is None else "/completions"


def chat_body(request: ChatRequest, served_model: str, priority: int | None) -> bytes:
    return orjson.dumps(chat_fields(request, served_model, priority), default=dict)


def chat_fields(request: ChatRequest, served_model: str, priority: int | None) -> dict[str, Any]:
    prompt = request.plain_prompt
    body: dict[str, Any] = {
        **request.sampling,
        **request.extra_body,
        "model": served_model,
        **({"messages": request.messages} if prompt is None else {"prompt": prompt}),
        "stream": False,
    }
    if request.sends_seed:
        body["seed"] = request.seed
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
    """The completion, None when there is no text (`absence` says why). Of several choices the first counts."""
    try:
        choice = document["choices"][0]
        message = choice["message"] if "message" in choice else {"content": choice["text"]}
        text = _text_of(choice, message)
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
        reasoning=_reasoning_of(message),
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
    if (content is None or content == "") and choice.get("finish_reason") == "length":
        return ""  # it thought until the limit, and would do so again
    if content == "" and _instead(message) is not None:
        return None
    return content if isinstance(content, str) else None


def absence(document: Any) -> Absence | None:
    """The response of a 200 that has no text, None where it is another than these."""
    try:
        return _instead(_mapping(document["choices"][0]["message"]))
    except (KeyError, IndexError, TypeError):
        return None


def is_event_stream(raw: bytes) -> bool:
    """True when a body is a stream of events, whatever its content type says."""
    return raw.lstrip()[:6].startswith((b"data:", b"event:", b": "))


def _instead(message: Mapping[str, Any]) -> Absence | None:
    if message.get("tool_calls") or message.get("function_call"):
        return "tool calls"
    return "thoughts" if _reasoning_of(message) or message.get("reasoning_details") else None


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
    """The listed models, None when it is not a list of models. A list that is null is empty."""
    try:
        return [
            ServedModel(entry["id"], _name(entry.get("owned_by"), ""), _context_tokens(entry))
            for entry in document["data"] or ()
            if isinstance(entry["id"], str)
        ]
    except (KeyError, TypeError, AttributeError):
        return None


def _context_tokens(entry: Mapping[str, Any]) -> int | None:
    return next((count for name in _CONTEXT_FIELDS if (count := _count(entry.get(name)))), None)


def read_version(raw: bytes) -> str:
    """The version on a page of VERSION_PAGES, empty where there is none."""
    try:
        document = _mapping(read_json(raw))
    except orjson.JSONDecodeError:
        return ""
    return next((_name(document.get(name), "")[:_LONGEST_VERSION] for name in _VERSION_FIELDS if name in document), "")


def is_overflow(raw: bytes) -> bool:
    """True when an error says that prompt and completion do not fit into the model's context."""
    message, codes = _read_error(raw)
    return any(code in _OVERFLOW_CODES for code in codes) or any(
        phrase in message.lower() for phrase in _OVERFLOW_PHRASES
    )


def is_full_cache(raw: bytes) -> bool:
    """True when an error says that there was no room left while the completion was written."""
    return _FULL_CACHE in _read_error(raw)[0].lower()


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


def read_count(value: Any) -> int | None:
    """A count as servers report it, 123.0 as well; None when it is missing, negative, absurd or no whole number."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_TOKENS else None


def _count(value: Any) -> int:
    return read_count(value) or 0


def _read_error(raw: bytes) -> tuple[str, list[str]]:
    """Message, and code and type, of an error: the object under "error" (OpenAI; Gemini puts it into a list), the body
    itself (older vLLM), "detail" (FastAPI), or a text.
    """
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return raw[:_LONGEST_ERROR].decode(errors="replace"), []
    body = _mapping(body[0] if isinstance(body, list) and body else body)
    error = body.get("error", body)
    if isinstance(error, str):
        return error, []
    message, detail, *codes = (_mapping(error).get(part) for part in ("message", "detail", "code", "type"))
    said = next((text for text in (message, detail) if isinstance(text, str)), "")
    return said, [code for code in codes if isinstance(code, str)]
