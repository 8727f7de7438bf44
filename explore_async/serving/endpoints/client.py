"""One attempt at one request, over HTTP, to any OpenAI-compatible endpoint.

Owns the only place where a foreign exception or a status becomes an error of ours. It never retries (the pool does),
keeps nothing between calls, and never lets the key into a message, a repr or a cause. The format itself is in `wire`.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from functools import lru_cache
from http import HTTPStatus
from typing import Any

import aiohttp
import orjson

from explore_async.errors import (
    AttemptTimedOut,
    CacheFull,
    ConnectionFailed,
    ContextOverflow,
    EndpointError,
    EndpointUnavailable,
    NoText,
    RateLimited,
    RequestRejected,
)
from explore_async.exploration.values import ChatRequest, Completion
from explore_async.serving.endpoints import wire
from explore_async.serving.endpoints.credentials import KeyMask, missing_authorities, read_authority, read_key
from explore_async.serving.endpoints.engine_metrics import EngineMetrics, read_metrics
from explore_async.serving.endpoints.values import normalise_url
from explore_async.settings.operation import EndpointSettings

MAX_BODY_BYTES = 16 * 2**20
"""A body larger than this, after decompression, is nonsense (or a bomb)."""
READ_BUFFER_BYTES = 2 * 2**20  # aiohttp's 64 KiB made vLLM's own benchmark ten times slower on long completions
CONNECT_TIMEOUT_S = 60.0
"""For a connection: where a thousand are made at once, a server's backlog is full, and the system tries again after 1,
3, 7, 15 and 31 s.
"""
PAGE_TIMEOUT_S = 10.0
"""For /models and /metrics."""
VERSION_TIMEOUT_S = 3.0
EXCERPT_CHARACTERS = 300

_PATIENCE = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY}
_FINAL = range(300, 500)
"""Statuses that no retry changes."""
_KEY_REJECTED = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
_INSTEAD: dict[wire.Absence, str] = {
    "thoughts": "thoughts",
    "tool calls": "tool calls",
    "event stream": "a stream of events, though none was asked for,",
}


@lru_cache(16)
def _timeout(total_s: float | None) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=total_s, sock_connect=CONNECT_TIMEOUT_S)


def open_session() -> aiohttp.ClientSession:
    """The session of all endpoints. The pool bounds concurrency, so the connector does not; every attempt has its own
    deadline. Proxy variables of the environment are ignored: requests to loopback and to the user's own servers must
    not go through a proxy. Cookies are ignored too: those of a load balancer would send all requests to one replica.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        read_bufsize=READ_BUFFER_BYTES,
        timeout=_timeout(None),
        trust_env=False,
    )


async def open_client(endpoint: EndpointSettings, session: aiohttp.ClientSession) -> EndpointClient:
    """The client of an endpoint. Raises ConfigError when its key or its authority cannot be read."""

    def build() -> EndpointClient:  # the whole client: asyncio's debug mode logs what threads return
        key, authority = read_key(endpoint), read_authority(endpoint)
        missing_file = "" if authority is not None else missing_authorities()
        return EndpointClient(
            endpoint.url, session=session, api_key=key, authority=authority, missing_file=missing_file
        )

    return await asyncio.to_thread(build)


class EndpointClient:
    """Sends requests to one endpoint through a session of its caller. Without `authority` the system's are used, or
    those of SSL_CERT_FILE; see `missing_authorities` for `missing_file`.
    """

    def __init__(
        self,
        url: str,
        *,
        session: aiohttp.ClientSession,
        api_key: str | None = None,
        authority: ssl.SSLContext | None = None,
        missing_file: str = "",
    ) -> None:
        self.url = normalise_url(url)
        self._session = session
        self._mask = KeyMask(api_key)
        self._missing_file = missing_file
        self._ssl: ssl.SSLContext | bool = True if authority is None else authority
        self._headers = {"Content-Type": "application/json"}
        if api_key is not None:
            self._headers["Authorization"] = f"Bearer {api_key}"

    def __repr__(self) -> str:
        return f"EndpointClient({self.url!r})"

    async def models(self) -> list[str]:
        return [model.name for model in await self.catalogue()]

    async def catalogue(self) -> list[wire.ServedModel]:
        """Models that GET /models lists. Raises RequestRejected with status 404 or 405 where there is no such page."""
        document, _ = await self._exchange("GET", "/models", None, timeout_s=PAGE_TIMEOUT_S)
        catalogue = wire.read_catalogue(document)
        if catalogue is None:
            raise EndpointUnavailable(
                f"{self.url} answered 200 without a list of models", endpoint=self.url, status=200
            )
        return catalogue

    async def metrics(self) -> EngineMetrics | None:
        """The engine's /metrics page, beside /v1; None when there is no page that is understood."""
        root = re.sub(r"/v\d+\w*$", "", self.url)
        try:
            _, page = await self._send("GET", f"{root}/metrics", None, timeout_s=PAGE_TIMEOUT_S)
        except RequestRejected:
            return None
        return read_metrics(page.decode(errors="replace"))

    async def version(self, engine: str) -> str:
        """The version of the engine, asked where an engine of this name (`owned_by` in /models) tells it, beside /v1;
        empty where it does not.
        """
        if (page := wire.VERSION_PAGES.get(engine)) is None:
            return ""
        root = re.sub(r"/v\d+\w*$", "", self.url)
        try:
            _, raw = await self._send("GET", root + page, None, timeout_s=VERSION_TIMEOUT_S)
        except EndpointError:
            return ""
        return wire.read_version(raw)

    async def ask(
        self, request: ChatRequest, *, served_model: str, timeout_s: float | None, priority: int | None = None
    ) -> Completion:
        """One attempt. `served_model` is this endpoint's name for the model; `timeout_s`, if given, covers all of it.

        A 200 without a text raises EndpointUnavailable (NoText where what is there instead is known), since a retry may
        help; an empty text is a completion.
        """
        body = wire.chat_body(request, served_model, priority)
        started = time.perf_counter()
        document, raw = await self._exchange("POST", wire.path_of(request), body, timeout_s=timeout_s)
        latency_s = time.perf_counter() - started
        completion = wire.read_completion(document, served_model=served_model, endpoint=self.url, latency_s=latency_s)
        if completion is None:
            raise self._no_text(wire.absence(document), raw)
        return completion

    async def stream(self, body: bytes, *, timeout_s: float) -> AsyncGenerator[bytes]:
        """One attempt at a streamed chat completion: the bytes of a 200, as they come.

        It has its own connection: llama.cpp closes it after a stream without notice, and the next request on it would
        fail.
        """
        timeout = _timeout(timeout_s)
        url, headers = f"{self.url}/chat/completions", {**self._headers, "Connection": "close"}
        with self._foreign_errors(timeout_s):
            async with self._session.post(
                url, data=body, headers=headers, timeout=timeout, allow_redirects=False, ssl=self._ssl
            ) as response:
                if response.status != HTTPStatus.OK:
                    raise self._status_error(response.status, response.headers, await self._read(response))
                async for piece in response.content.iter_any():
                    yield piece

    async def _exchange(
        self, method: str, path: str, body: bytes | None, *, timeout_s: float | None
    ) -> tuple[Any, bytes]:
        """The JSON of a 200, parsed and as it came; all else is raised as an error of ours."""
        status, raw = await self._send(method, self.url + path, body, timeout_s=timeout_s)
        try:
            return wire.read_json(raw), raw
        except orjson.JSONDecodeError:
            if wire.is_event_stream(raw):
                raise self._no_text("event stream", raw) from None
            raise EndpointUnavailable(
                f"{self.url} answered {status} without JSON: {self.excerpt(raw)}", endpoint=self.url, status=status
            ) from None

    def _no_text(self, instead: wire.Absence | None, raw: bytes) -> EndpointError:
        if instead is not None:
            message = f"{self.url} answered 200 with {_INSTEAD[instead]} instead of a text: {self.excerpt(raw)}"
            return NoText(message, instead=instead, endpoint=self.url, status=200)
        message = f"{self.url} answered 200 without a text: {self.excerpt(raw)}"
        kind = ContextOverflow if wire.is_overflow(raw) else EndpointUnavailable  # gateways say errors with a 200, too
        return kind(message, endpoint=self.url, status=200)

    async def _send(self, method: str, url: str, body: bytes | None, *, timeout_s: float | None) -> tuple[int, bytes]:
        """Status and body of a 200; all else is raised as an error of ours."""
        timeout = _timeout(timeout_s)
        with self._foreign_errors(timeout_s):
            async with self._session.request(
                method, url, data=body, headers=self._headers, timeout=timeout, allow_redirects=False, ssl=self._ssl
            ) as response:
                raw = await self._read(response)
        if response.status != HTTPStatus.OK:
            raise self._status_error(response.status, response.headers, raw)
        return response.status, self._mask.mask_body(raw)

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        chunks: list[bytes] = []
        room = MAX_BODY_BYTES
        async for chunk in response.content.iter_any():
            room -= len(chunk)
            if room < 0:
                response.close()
                raise EndpointUnavailable(
                    f"{self.url} answered {response.status} with more than {MAX_BODY_BYTES >> 20} MiB",
                    endpoint=self.url,
                    status=response.status,
                )
            chunks.append(chunk)
        return b"".join(chunks)

    @contextlib.contextmanager
    def _foreign_errors(self, timeout_s: float | None) -> Iterator[None]:
        """The only place where exceptions of aiohttp and of sockets become ours."""
        try:
            yield
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            cause = _cause(error, self._missing_file)
            raise ConnectionFailed(f"{self.url} cannot be reached: {cause}", endpoint=self.url) from error
        except TimeoutError as error:
            message = f"{self.url} did not answer within {timeout_s or CONNECT_TIMEOUT_S:.4g} s"
            raise AttemptTimedOut(message, endpoint=self.url) from error
        except aiohttp.ClientResponseError as error:
            # "from None": it holds the request's headers, and so the key.
            detail = self.excerpt(error.message.encode(errors="replace"))
            message = f"{self.url} did not answer in HTTP ({detail}); is its URL https:// instead of http://?"
            raise EndpointUnavailable(message, endpoint=self.url) from None
        except (aiohttp.ClientError, OSError) as error:
            detail = self.excerpt(f"{type(error).__name__}: {error}".encode(errors="replace"))
            raise EndpointUnavailable(f"{self.url} ended the connection: {detail}", endpoint=self.url) from None

    def _status_error(self, status: int, headers: Mapping[str, str], raw: bytes) -> EndpointError:
        message = f"{self.url} answered {status}: {self.excerpt(raw) or 'nothing'}"
        if location := headers.get("Location"):
            message += f" (it points to {self.excerpt(location.encode(errors='replace'))})"
        if status >= HTTPStatus.BAD_REQUEST and status not in _KEY_REJECTED and wire.is_overflow(raw):
            return ContextOverflow(message, endpoint=self.url, status=status)
        retry_after = wire.retry_after(headers.get("Retry-After"))
        if status == HTTPStatus.TOO_MANY_REQUESTS or (
            status == HTTPStatus.SERVICE_UNAVAILABLE and retry_after is not None
        ):
            return RateLimited(message, endpoint=self.url, status=status, retry_after=retry_after)
        if status not in _FINAL or status in _PATIENCE:
            kind = CacheFull if wire.is_full_cache(raw) else EndpointUnavailable
            return kind(message, endpoint=self.url, status=status)
        if status in _KEY_REJECTED:
            which = "the key was rejected" if "Authorization" in self._headers else "no key was sent"
            message = f"{self.url} answered {status}, {which}: {self.excerpt(raw)}"
        return RequestRejected(message, endpoint=self.url, status=status)

    def excerpt(self, raw: bytes) -> str:
        """One line of a server's text for a message, without the key and without control characters."""
        text = self._mask.mask_message(raw)[: 16 * EXCERPT_CHARACTERS].decode(errors="replace")
        line = " ".join("".join(c if c.isprintable() or c.isspace() else "\ufffd" for c in text).split())
        return line[:EXCERPT_CHARACTERS]


def _cause(error: aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError, missing_file: str) -> str:
    """The cause in the system's words, without aiohttp's about host and TLS. `missing_file`: of authorities."""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return f"no connection within {CONNECT_TIMEOUT_S:.4g} s"
    if isinstance(error.os_error, ssl.SSLError) and error.os_error.reason == "WRONG_VERSION_NUMBER":
        return "it does not speak TLS; is its URL http:// instead of https://?"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        reason = getattr(error.certificate_error, "verify_message", "") or "it is not valid"
        if missing_file:
            return f"its certificate is not trusted: {reason}. SSL_CERT_FILE is {missing_file}: there is no such file"
        return (
            f"its certificate is not trusted: {reason}. If your own authority signed it, name the authority's "
            "certificate in the endpoint's ca_file, or for all endpoints in the environment variable SSL_CERT_FILE"
        )
    return error.os_error.strerror or str(error.os_error)
