"""Reads a streamed completion: server-sent events from pieces of bytes, and the moments at which text arrives.

A request that fails raises one of our errors and is not asked again.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, Final

import orjson

from explore_async.errors import EndpointUnavailable
from explore_async.serving.endpoints.client import EndpointClient
from explore_async.serving.endpoints.wire import read_count

_END_OF_LINE = re.compile(rb"\r\n|\n|\r")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_DONE: Final = "[DONE]"
_TEXTS: Final = ("content", "reasoning_content", "reasoning")
"""The fields in which engines send the text of a model; the last two hold its reasoning."""
_EXCERPT = 200


class EventReader:
    """Reads server-sent events from a stream of bytes: the same events, however the stream is cut into pieces.

    It keeps the `data` of events and ignores their names, ids and comments.
    """

    def __init__(self) -> None:
        self._line: list[bytes] = []
        self._data: list[bytes] = []
        self._after_return = False
        self._first = True

    def feed(self, piece: bytes) -> list[str]:
        """The events that this piece completes."""
        if self._after_return and piece:  # a line may end in CR LF, cut in the middle
            piece = piece.removeprefix(b"\n")
            self._after_return = False
        if not piece:
            return []
        self._after_return = piece.endswith(b"\r")
        *lines, rest = _END_OF_LINE.split(piece)
        events: list[str] = []
        for line in lines:
            self._line.append(line)
            self._take_line(events)
        if rest:
            self._line.append(rest)
        return events

    def close(self) -> list[str]:
        """Ends the stream; returns its last event where no blank line followed it, which some servers forget."""
        events: list[str] = []
        self._take_line(events)
        self._dispatch(events)
        return events

    def _take_line(self, events: list[str]) -> None:
        line = b"".join(self._line)
        self._line.clear()
        if self._first:
            line = line.removeprefix(_BYTE_ORDER_MARK)
            self._first = False
        if not line:
            self._dispatch(events)
        elif line == b"data" or line.startswith(b"data:"):
            self._data.append(line[5:].removeprefix(b" "))

    def _dispatch(self, events: list[str]) -> None:
        if self._data:
            events.append(b"\n".join(self._data).decode(errors="replace"))
            self._data.clear()


@dataclass(frozen=True, slots=True)
class Chunk:
    """The content of one event of a streamed chat completion. A count that is missing is None."""

    choice: bool = False
    text: bool = False
    finished: bool = False
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    error: str | None = None


def read_chunk(event: str) -> Chunk:
    """Reads an event. Fields may be missing; an event that is not a chunk at all is an error."""
    try:
        document = orjson.loads(event)
    except orjson.JSONDecodeError:
        return Chunk(error=f"an event that is not JSON: {event[:_EXCERPT]}")
    if not isinstance(document, dict):
        return Chunk(error=f"an event that is not an object: {event[:_EXCERPT]}")
    if (error := document.get("error")) or document.get("object") == "error":
        detail = error.get("message") if isinstance(error, dict) else error
        texts = (text for text in (detail, document.get("message")) if text and isinstance(text, str))
        return Chunk(error=next(texts, event)[:_EXCERPT])
    choices, usage = document.get("choices"), document.get("usage")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else None
    delta = (choice or {}).get("delta")
    return Chunk(
        choice=choice is not None,
        text=isinstance(delta, dict) and any(delta.get(name) for name in _TEXTS),
        finished=bool((choice or {}).get("finish_reason")),
        prompt_tokens=_count(usage, "prompt_tokens"),
        output_tokens=_count(usage, "completion_tokens"),
    )


def _count(usage: Any, name: str) -> int | None:
    return read_count(usage.get(name)) if isinstance(usage, Mapping) else None


@dataclass(frozen=True, slots=True)
class StreamedCompletion:
    """The times of a completion, in seconds since its request, and its tokens.

    `gaps_s`: between one piece of text and the next; a piece may hold several tokens. Without `usage` from the server,
    `output_tokens` counts pieces and `prompt_tokens` is 0.
    """

    ttft_s: float
    e2e_s: float
    gaps_s: tuple[float, ...]
    prompt_tokens: int
    output_tokens: int
    usage: bool

    @property
    def tpot_s(self) -> float | None:
        """Seconds for each token after the first; None for a single token."""
        return (self.e2e_s - self.ttft_s) / (self.output_tokens - 1) if self.output_tokens > 1 else None

    def tokens_between(self, begin_s: float, end_s: float) -> float:
        """Output tokens that arrived between two moments, in seconds since its request: in proportion to the pieces."""
        moments = [self.ttft_s, *(self.ttft_s + after for after in accumulate(self.gaps_s))]
        within = sum(begin_s < moment <= end_s for moment in moments)
        return self.output_tokens * within / len(moments)


class _Transcript:
    """The part of a streamed completion that has arrived."""

    def __init__(self) -> None:
        self.moments: list[float] = []
        self.last = 0.0
        self.finished = False
        self.done = False
        self.prompt_tokens: int | None = None
        self.output_tokens: int | None = None

    def take(self, events: Iterable[str], now: float) -> str | None:
        """Takes in events; returns the server's error message if one of them has one."""
        for event in events:
            self.done = self.done or event == _DONE
            if self.done:
                return None
            chunk = read_chunk(event)
            if chunk.error is not None:
                return chunk.error
            if chunk.choice:
                self.last = now
            if chunk.text:
                self.moments.append(now)
            self.finished = self.finished or chunk.finished
            self.prompt_tokens = self.prompt_tokens if chunk.prompt_tokens is None else chunk.prompt_tokens
            self.output_tokens = self.output_tokens if chunk.output_tokens is None else chunk.output_tokens
        return None


async def ask(client: EndpointClient, body: bytes, *, timeout_s: float) -> StreamedCompletion:
    """Makes one attempt. EndpointUnavailable with status 200: the stream is cut, empty, or reports an error."""
    reader, transcript = EventReader(), _Transcript()
    began = time.perf_counter()
    async with aclosing(client.stream(body, timeout_s=timeout_s)) as pieces:
        async for piece in pieces:
            if fault := transcript.take(reader.feed(piece), time.perf_counter()):
                raise _broken(client, f"ended in the middle of a stream: {fault}")
    if fault := transcript.take(reader.close(), time.perf_counter()):
        raise _broken(client, f"ended in the middle of a stream: {fault}")
    ended = transcript.finished or transcript.done
    if not transcript.moments:
        raise _broken(client, "streamed no text" if ended else "answered without a stream of text")
    if not ended:
        raise _broken(client, "ended the stream before the completion was finished")
    return StreamedCompletion(
        ttft_s=transcript.moments[0] - began,
        e2e_s=transcript.last - began,
        gaps_s=tuple(after - before for before, after in pairwise(transcript.moments)),
        prompt_tokens=transcript.prompt_tokens or 0,
        output_tokens=transcript.output_tokens or len(transcript.moments),
        usage=transcript.output_tokens is not None,
    )


def _broken(client: EndpointClient, what: str) -> EndpointUnavailable:
    # What a server says in its stream has not been through the client's hands.
    return EndpointUnavailable(f"{client.url} {client.excerpt(what.encode())}", endpoint=client.url, status=200)
