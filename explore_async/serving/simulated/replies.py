"""The documents and chunks by which texts are sent: chat completions and completions, as vLLM writes them. Pure."""

from __future__ import annotations

import random
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from explore_async.serving.simulated.fields import InvalidRequest
from explore_async.serving.simulated.merging import UnusableSchema
from explore_async.serving.simulated.model import SimulatedModel, Text, digest_of
from explore_async.serving.simulated.orders import Order, Prompt
from explore_async.serving.simulated.pacing import StreamProgress
from explore_async.serving.simulated.patterns import PatternError
from explore_async.serving.simulated.tokens import TokenLogprob, draw_logprobs, split_tokens, token_id
from explore_async.settings.recipe import SIMULATED

_LEAST_LOGPROB: Final = -9999.0
_NO_OTHER_CONTENT: Final = dict.fromkeys(("refusal", "annotations", "audio", "function_call", "reasoning"))


@dataclass(frozen=True, slots=True)
class Choice:
    """One text of a response. `digest` decides its probabilities."""

    index: int
    prompt: Prompt
    text: Text
    digest: bytes


@dataclass(frozen=True, slots=True)
class SentToken:
    """A token of a stream. `offset`: of its first character in the text."""

    text: str
    logprob: TokenLogprob | None
    offset: int
    last: bool


def write_choices(model: SimulatedModel, order: Order, digest: bytes) -> list[Choice]:
    """The texts of an order; the first has the digest of the request. Raises InvalidRequest."""
    choices: list[Choice] = []
    for prompt in order.prompts:
        texts = order.texts if len(order.prompts) == 1 else replace(order.texts, prompt=prompt.text)
        for _ in range(order.number):
            own = digest_of(digest, len(choices)) if choices else digest
            try:
                text = model.write(texts, own)
            except (UnusableSchema, PatternError) as error:
                raise InvalidRequest(f"The text cannot have the form that is asked for: {error}") from error
            choices.append(Choice(len(choices), prompt, text, own))
    return choices


def usage_of(prompts: Sequence[Prompt], tokens: int, cached_tokens: int | None = None) -> dict[str, Any]:
    """`cached_tokens`: None while they are not known."""
    prompt_tokens = sum(prompt.tokens for prompt in prompts)
    usage: dict[str, Any] = {
        "prompt_tokens": prompt_tokens,
        "total_tokens": prompt_tokens + tokens,
        "completion_tokens": tokens,
    }
    if cached_tokens is not None:
        usage["prompt_tokens_details"] = {"cached_tokens": cached_tokens}
    return usage


class Reply(ABC):
    """The response to one order. Its id is its own: equal requests get equal texts under other ids."""

    prefix: str
    kind: str
    chunk_kind: str

    def __init__(self, model: str, order: Order, request_id: str | None) -> None:
        self._order = order
        self._model = model
        self.id = f"{self.prefix}-{request_id or f'{random.getrandbits(128):032x}'}"
        self._created = int(time.time())

    def document(self, choices: Sequence[Choice], usage: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": self.kind,
            "created": self._created,
            "model": self._model,
            "choices": [self.choice(choice) for choice in choices],
            "service_tier": None,
            "system_fingerprint": SIMULATED,
            "usage": usage,
        }

    def chunk(self, choices: Sequence[dict[str, Any]], usage: dict[str, Any] | None = None) -> dict[str, Any]:
        chunk: dict[str, Any] = {
            "id": self.id,
            "object": self.chunk_kind,
            "created": self._created,
            "model": self._model,
            "choices": choices,
        }
        if usage is not None:
            chunk["usage"] = usage
        if not choices or choices[0]["finish_reason"]:
            chunk["system_fingerprint"] = SIMULATED
        return chunk

    def event(self, piece: dict[str, Any], tokens: int) -> bytes:
        """The server-sent event of a choice's piece, with the usage so far where that is asked for."""
        options = self._order.fields.stream_options
        running = options is not None and options.include_usage and options.continuous_usage_stats
        return _event(self.chunk([piece], usage_of(self._order.prompts, tokens) if running else None))

    def closing(self, usage: dict[str, Any]) -> bytes:
        """The end of the stream, after the usage where that is asked for."""
        options = self._order.fields.stream_options
        last = _event(self.chunk([], usage)) if options is not None and options.include_usage else b""
        return last + b"data: [DONE]\n\n"

    def ends(self, text: Text) -> dict[str, Any]:
        return {"finish_reason": text.finish_reason, "stop_reason": text.stop_reason}

    @abstractmethod
    def choice(self, choice: Choice) -> dict[str, Any]:
        """The whole text."""

    @abstractmethod
    def opening(self, choice: Choice) -> list[dict[str, Any]]:
        """The chunks before the first token."""

    @abstractmethod
    def piece(self, choice: Choice, token: SentToken) -> dict[str, Any]:
        """A chunk's choice for one token, the last with the reason for the end."""

    def tokens(self, choice: Choice) -> list[str]:
        return split_tokens(choice.text.text, choice.text.tokens) or [""]

    def drawn(self, choice: Choice, tokens: Sequence[str]) -> list[TokenLogprob] | None:
        return None if self._order.logprobs is None else draw_logprobs(choice.digest, tokens, self._order.logprobs)

    def ids(self, tokens: Sequence[str]) -> dict[str, Any]:
        return {"token_ids": [token_id(token) for token in tokens]} if self._order.fields.return_token_ids else {}


class TokenStream:
    """The events of one choice. `finish` is for a future: then all tokens are ready."""

    def __init__(self, reply: Reply, choice: Choice, progress: StreamProgress) -> None:
        self.choice = choice
        self.progress = progress
        self._reply = reply
        self._tokens = reply.tokens(choice)
        self._logprobs = reply.drawn(choice, self._tokens)
        self._sent = self._offset = 0

    @property
    def ended(self) -> bool:
        return self._sent == len(self._tokens)

    def finish(self, _: object) -> None:
        self.progress.report(len(self._tokens))

    def take(self) -> bytes:
        """The events of the tokens that are ready and were not taken."""
        events: list[bytes] = []
        if self._sent >= self.progress.tokens:
            return b""
        if not self._sent:
            events += [self._reply.event(piece, 0) for piece in self._reply.opening(self.choice)]
        while self._sent < min(self.progress.tokens, len(self._tokens)):
            text = self._tokens[self._sent]
            logprob = None if self._logprobs is None else self._logprobs[self._sent]
            self._sent += 1
            token = SentToken(text, logprob, self._offset, self.ended)
            events.append(self._reply.event(self._reply.piece(self.choice, token), self._sent))
            self._offset += len(text)
        return b"".join(events)


class ChatReply(Reply):
    prefix, kind, chunk_kind = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def ends(self, text: Text) -> dict[str, Any]:
        calls = self._order.tool_required and text.finish_reason == "stop"
        return {"finish_reason": "tool_calls" if calls else text.finish_reason, "stop_reason": text.stop_reason}

    def choice(self, choice: Choice) -> dict[str, Any]:
        tokens = self.tokens(choice) if self._order.logprobs is not None or self._order.fields.return_token_ids else []
        message: dict[str, Any] = {"role": "assistant", "content": choice.text.text, **_NO_OTHER_CONTENT}
        if self._order.tool is not None:
            message |= {"content": "", "tool_calls": [self._call(choice, choice.text.text)]}
        return {
            "index": choice.index,
            "message": message,
            "logprobs": _chat_logprobs(self.drawn(choice, tokens)),
            **self.ends(choice.text),
            **self.ids(tokens),
        }

    def opening(self, choice: Choice) -> list[dict[str, Any]]:
        delta: dict[str, Any] = {"role": "assistant", "content": ""}
        chunks = [{"index": choice.index, "delta": delta, "logprobs": None, "finish_reason": None}]
        if self._order.tool is not None:
            call = {"tool_calls": [{"index": 0, **self._call(choice, "")}]}
            chunks.append({"index": choice.index, "delta": call, "logprobs": None, "finish_reason": None})
        return chunks

    def piece(self, choice: Choice, token: SentToken) -> dict[str, Any]:
        delta: dict[str, Any] = {"content": token.text}
        if self._order.tool is not None:
            delta = {"tool_calls": [{"index": 0, "function": {"arguments": token.text}}]}
        return {
            "index": choice.index,
            "delta": delta,
            "logprobs": None if token.logprob is None else _chat_logprobs([token.logprob]),
            **(self.ends(choice.text) if token.last else {"finish_reason": None}),
            **self.ids([token.text]),
        }

    def _call(self, choice: Choice, arguments: str) -> dict[str, Any]:
        function = {"name": self._order.tool, "arguments": arguments}
        return {"id": f"chatcmpl-tool-{choice.digest.hex()}", "type": "function", "function": function}


class CompletionReply(Reply):
    prefix, kind, chunk_kind = "cmpl", "text_completion", "text_completion"

    def choice(self, choice: Choice) -> dict[str, Any]:
        echo = choice.prompt.text if self._order.fields.echo else ""
        tokens = self.tokens(choice) if self._order.logprobs is not None or self._order.fields.return_token_ids else []
        return {
            "index": choice.index,
            "text": echo + choice.text.text,
            "logprobs": _logprobs(self.drawn(choice, tokens), len(echo)),
            **self.ends(choice.text),
            **self.ids(tokens),
            "prompt_logprobs": None,
        }

    def opening(self, choice: Choice) -> list[dict[str, Any]]:
        if not self._order.fields.echo:
            return []
        return [{"index": choice.index, "text": choice.prompt.text, "logprobs": None, "finish_reason": None}]

    def piece(self, choice: Choice, token: SentToken) -> dict[str, Any]:
        offset = token.offset + (len(choice.prompt.text) if self._order.fields.echo else 0)
        return {
            "index": choice.index,
            "text": token.text,
            "logprobs": None if token.logprob is None else _logprobs([token.logprob], offset),
            **(self.ends(choice.text) if token.last else {"finish_reason": None, "stop_reason": None}),
            **self.ids([token.text]),
        }


def _chat_logprobs(drawn: Sequence[TokenLogprob] | None) -> dict[str, Any] | None:
    if drawn is None:
        return None
    content = [
        {**_logprob(one.token, one.logprob), "top_logprobs": [_logprob(*ranked) for ranked in one.top]} for one in drawn
    ]
    return {"content": content}


def _logprob(token: str, logprob: float) -> dict[str, Any]:
    return {"token": token, "logprob": max(logprob, _LEAST_LOGPROB), "bytes": list(token.encode("utf-8", "replace"))}


def _logprobs(drawn: Sequence[TokenLogprob] | None, offset: int) -> dict[str, Any] | None:
    if drawn is None:
        return None
    offsets: list[int] = []
    for one in drawn:
        offsets.append(offset)
        offset += len(one.token)
    return {
        "text_offset": offsets,
        "token_logprobs": [one.logprob for one in drawn],
        "tokens": [one.token for one in drawn],
        "top_logprobs": [dict(one.top or [(one.token, one.logprob)]) for one in drawn],
    }


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(chunk) + b"\n\n"
