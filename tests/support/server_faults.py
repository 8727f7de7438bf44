"""Tables of what a server can do wrong, for tests of each fault alone, in pairs and without end.

`FAULTS` cost an attempt and are retried; `ODDITIES` are unusual responses with the text of the good one; `REFUSALS` end
a run at once. Each is made from the good text for a request.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from typing import Any

import orjson

from support import misbehaving as bad
from support.misbehaving import Behaviour, MisbehavingServer, answer, error, sensible

TEN_YEARS = str(10 * 365 * 86_400)


def raw(head: str, body: bytes = b"", **more: Any) -> Behaviour:
    return Behaviour(0, head.replace("\n", "\r\n").encode("latin-1") + body, **more)


def refusing(status: int, **headers: str) -> Behaviour:
    return error(status, f"no {status}", {name.replace("_", "-"): value for name, value in headers.items()})


OK_HEAD = "HTTP/1.1 200 OK\nContent-Type: application/json\n"

FAULTS: dict[str, Behaviour] = {
    "429": bad.RATE_LIMITED,
    "429 retry now": refusing(429, Retry_After="0"),
    "429 retry yesterday": refusing(429, Retry_After="-5"),
    "429 retry at a date": refusing(429, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"),
    "429 retry in ten years": refusing(429, Retry_After=TEN_YEARS),
    "429 retry beyond all dates": refusing(429, Retry_After="Mon, 01 Jan 2024 00:00:00 +99999999999999999999"),
    "429 retry garbage": refusing(429, Retry_After="\x01soon; 1e999"),
    "503 retry": refusing(503, Retry_After="0.01"),
    **{str(status): refusing(status) for status in (408, 425, 500, 502, 503, 504, 529, 599)},
    "500 with another code page": Behaviour(500, b"<h1>caf\xe9</h1>", {"Content-Type": "text/html; charset=utf-99"}),
    "reset": bad.CLOSED_AT_ONCE,
    "reset after the headers": bad.CLOSED_AFTER_HEADERS,
    "half a body": bad.HALF_BODY,
    "no JSON": bad.INVALID_JSON,
    "invalid UTF-8": bad.INVALID_UTF8,
    "not HTTP": bad.NOT_HTTP,
    "TLS": raw("", b"\x15\x03\x03\x00\x02\x02\x46"),
    "nothing at all": Behaviour(body=b""),
    "JSON null": Behaviour(body=b"null"),
    "JSON nested deep": Behaviour(body=b'{"choices":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "JSON nested": Behaviour(body=b'{"choices":' + b"[" * 1000 + b"]" * 1000 + b"}"),
    "no choices": bad.NO_CHOICES,
    "empty choices": bad.EMPTY_CHOICES,
    "choices of another kind": Behaviour(body=answer(choices=[[["message"]]])),
    "null content": bad.NULL_CONTENT,
    "content of another kind": Behaviour(body=answer({"text": 1})),
    "message of another kind": Behaviour(body=answer(choices=[{"message": "fine"}])),
    "tool calls": Behaviour(
        body=answer(choices=[{"message": {"content": None, "tool_calls": [{"function": {"arguments": "{}"}}]}}])
    ),
    "error object": Behaviour(body=b'{"error": {"message": "CUDA out of memory"}}'),
    "error object, nested": Behaviour(500, b'{"error": {"code": ' + b"[" * 900 + b"]" * 900 + b"}}"),
    "204": Behaviour(204, headers={"Content-Length": "0"}),
    "202": Behaviour(202, b'{"status": "queued"}'),
    "gzip that is none": bad.GZIP_GARBAGE,
    "gzip bomb": bad.gzip_bomb(200 * 2**20),
    "brotli that is none": Behaviour(body=answer(), headers={"Content-Encoding": "zstd"}),
    "too large": Behaviour(body=b" " * (17 * 2**20)),
    "a chunk that is none": raw(f"{OK_HEAD}Transfer-Encoding: chunked\n\nzz\n", answer()),
    "a chunk too short": raw(f"{OK_HEAD}Transfer-Encoding: chunked\n\nffff\n", answer()),
    "a length that is none": raw(f"{OK_HEAD}Content-Length: many\n\n", answer()),
    "a length below zero": raw(f"{OK_HEAD}Content-Length: -5\n\n", answer()),
    "a header too long": raw(f"{OK_HEAD}X-Long: {'x' * 100_000}\n\n", answer()),
    "too many headers": raw(OK_HEAD + "".join(f"X-{n}: y\n" for n in range(20_000)) + "\n", answer()),
    "another status line": raw("HTTP/9.9 OK 200\n\n", answer()),
    "101": raw("HTTP/1.1 101 Switching Protocols\nUpgrade: h2c\nConnection: Upgrade\n\n"),
}


def _whole(text: str, **changes: Any) -> Behaviour:
    return Behaviour(body=answer(text, **changes))


def _message(text: str, finish_reason: object = "stop", **fields: Any) -> Behaviour:
    message = {"role": "assistant", "content": text, **fields}
    return Behaviour(body=answer(choices=[{"message": message, "finish_reason": finish_reason}]))


def _chunked(body: bytes) -> bytes:
    pieces = (body[start : start + 100] for start in range(0, len(body), 100))
    return b"".join(b"%x;why=not\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\nTrailer: yes\r\n\r\n"


DECOY = orjson.dumps({"examples": [{"instruction": "Think of a decoy", "output": "None of this was meant."}]}).decode()

ODDITIES: dict[str, Callable[[str], Behaviour]] = {
    "another content type": lambda text: Behaviour(body=answer(text), headers={"Content-Type": "image/png"}),
    "no usage": lambda text: _whole(text, usage=None),
    "usage of another kind": lambda text: _whole(text, usage=[1, 2]),
    "negative usage": lambda text: _whole(text, usage={"prompt_tokens": -9, "completion_tokens": -(2**62)}),
    "absurd usage": lambda text: _whole(
        text,
        usage={
            "prompt_tokens": 2**63,
            "completion_tokens": 1e300,
            "prompt_tokens_details": {"cached_tokens": 2**64 - 1},
        },
    ),
    "cut by length, yet whole": lambda text: _message(text, "length"),
    "unknown finish reason": lambda text: _message(text, "the_cat_sat_on_it"),
    "finish reason of another kind": lambda text: _message(text, [{"why": [[]]}]),
    "reasoning_content": lambda text: _message(text, reasoning_content=f"Perhaps {DECOY}"),
    "reasoning": lambda text: _message(text, reasoning=DECOY, reasoning_details=[{"text": DECOY}]),
    "<think>": lambda text: _whole(f"<think>\nPerhaps {DECOY}? No.\n</think>\n\n{text}"),
    "</think> alone": lambda text: _whole(f"Perhaps {DECOY}\n</think>{text}"),
    "parts": lambda text: _message(
        "",
        content=[
            {"type": "thinking", "thinking": DECOY, "text": DECOY},
            {"type": "text", "text": text[:20]},
            {"type": "text", "text": text[20:]},
        ],
    ),
    "refusal beside": lambda text: _message(text, refusal=None, tool_calls=[]),
    "several choices": lambda text: Behaviour(
        body=answer(
            choices=[
                {"message": {"content": text}, "finish_reason": "stop"},
                {"index": 1, "message": {"content": DECOY}, "finish_reason": "stop"},
            ]
        )
    ),
    "another model": lambda text: _whole(text, model="m-2"),
    "a model of another kind": lambda text: _whole(text, model={"name": "m"}),
    "half characters beside": lambda text: Behaviour(
        body=answer(text).replace(b'"model":"m"', b'"model":"\\ud800","id":"\\\\ud800 \\ud83d\\ude00 \\udc00"')
    ),
    "duplicate keys": lambda text: Behaviour(body=b'{"choices":[],"usage":7,' + answer(text)[1:]),
    "compressed": lambda text: Behaviour(body=gzip.compress(answer(text)), headers={"Content-Encoding": "gzip"}),
    "chunked": lambda text: raw(f"{OK_HEAD}Transfer-Encoding: chunked\n\n", _chunked(answer(text))),
    "HTTP/1.0": lambda text: raw("HTTP/1.0 200 OK\n\n", answer(text)),
    "100 Continue": lambda text: raw("HTTP/1.1 100 Continue\n\n" * 3 + f"{OK_HEAD}Connection: close\n\n", answer(text)),
    "closed afterwards": lambda text: raw(f"{OK_HEAD}Content-Length: {len(answer(text))}\n\n", answer(text)),
    "cookies": lambda text: Behaviour(body=answer(text), headers={"Set-Cookie": "a,b=\x01; bad; Expires=never"}),
    "a byte order mark": lambda text: Behaviour(body=b"\xef\xbb\xbf" + answer(text)),
}

REFUSALS: dict[str, tuple[Behaviour, str]] = {
    "301": (Behaviour(301, headers={"Location": "https://elsewhere/v1", "Content-Length": "0"}), "https://elsewhere"),
    "401": (refusing(401), "no key was sent"),
    "402": (refusing(402), "No request can succeed"),
    "403": (refusing(403), "no key was sent"),
    "404": (bad.UNKNOWN_MODEL, "does not exist"),
    "405": (refusing(405), "No request can succeed"),
}
"""Each with the text that the message must have beside the endpoint."""

HANGS: dict[str, Behaviour] = {
    "says nothing": bad.slow(600),
    "a byte a second": Behaviour(body=b"", headers={"Content-Length": "100000"}, endless=b" ", pause_s=0.2),
    "headers for ever": raw("HTTP/1.1 200 OK\n", endless=b"X-More: y\r\n", pause_s=1.0),
    "100 Continue for ever": raw("", endless=b"HTTP/1.1 100 Continue\r\n\r\n", pause_s=0.01),
    "chunks for ever": raw(f"{OK_HEAD}Transfer-Encoding: chunked\n\n", endless=b"1\r\n \r\n", pause_s=0.05),
}


def is_probe(body: dict[str, Any]) -> bool:
    """True for a request that checks the endpoint and is not part of the run."""
    return body["messages"][-1]["content"] == "Say yes."


class Disturbed(MisbehavingServer):
    """Gives each request of a run the behaviours of `plan` in turn, then the good response; probes get a good response.

    `plan` is called once for each request, with its number and its good text. After `fail_after` all requests get that
    behaviour, probes too.
    """

    def __init__(self, plan: Callable[[int, str], list[Behaviour]], **more: Any) -> None:
        self._plan = plan
        self._left: dict[str, list[Behaviour]] = {}
        self.attempts = 0
        self._failure: Behaviour | None = None
        self._healthy_attempts = 0
        super().__init__(self._next, **more)

    def _next(self, body: dict[str, Any], _ordinal: int) -> Behaviour:
        if self._failure is not None and self.attempts >= self._healthy_attempts:
            return self._failure
        if is_probe(body):
            return Behaviour(body=answer("{}"))
        self.attempts += 1
        key = f"{body['seed']} {body['messages'][-1]['content']}"
        if key not in self._left:
            self._left[key] = self._plan(len(self._left), sensible(body))
        left = self._left[key]
        return left.pop(0) if left else Behaviour(body=answer(sensible(body)))

    def fail_after(self, behaviour: Behaviour, *, after: int) -> None:
        """Every request after that number of attempts gets `behaviour`."""
        self._failure, self._healthy_attempts = behaviour, after

    @property
    def requests(self) -> int:
        return len(self._left)
