"""One attempt at one question, over HTTP, to any OpenAI-compatible endpoint.

Owns the only place where a foreign exception or a status becomes one of ours. It never retries (the pool does), keeps
nothing between calls, and never lets the key into a message, a repr or a cause. The format itself is in `wire`.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from http import HTTPStatus
from typing import Any

import aiohttp
import orjson

from explore_async.errors import (
    AttemptTimedOut,
    ConnectionFailed,
    ContextOverflow,
    EndpointError,
    EndpointUnavailable,
    RateLimited,
    RequestRejected,
)
from explore_async.exploration.values import ChatRequest, Completion
from explore_async.serving.endpoints import wire
from explore_async.serving.endpoints.credentials import Mask, read_authority, read_key
from explore_async.serving.endpoints.engine_metrics import EngineMetrics, read_metrics
from explore_async.serving.endpoints.values import normalise_url
from explore_async.settings.operation import EndpointSettings

MAX_BODY_BYTES = 16 * 2**20
"""An answer larger than this, after decompression, is nonsense (or a bomb)."""
READ_BUFFER_BYTES = 2 * 2**20  # aiohttp's 64 KiB made vLLM's own benchmark ten times slower on long answers
CONNECT_TIMEOUT_S = 10.0
EXCERPT_CHARACTERS = 300

_PATIENCE = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY}
_REFUSALS = range(300, 500)
"""Statuses that are final; a success without a text is none."""
_KEY_REFUSED = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}


def open_session() -> aiohttp.ClientSession:
    """One session for all endpoints. The pool bounds concurrency, so the connector does not; every attempt brings
    its own deadline. Proxy variables of the environment are ignored: a request to loopback must never go
    through a proxy, and traffic to one's own servers should not either. Cookies are, too: a load balancer's would send
    all requests to one replica.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        read_bufsize=READ_BUFFER_BYTES,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
        trust_env=False,
    )


async def open_client(endpoint: EndpointSettings, session: aiohttp.ClientSession) -> EndpointClient:
    """The client of an endpoint. Raises ConfigError where its key or its authority cannot be read."""

    def opened() -> EndpointClient:  # whole: asyncio's debug mode logs what threads return
        key, authority = read_key(endpoint), read_authority(endpoint)
        return EndpointClient(endpoint.url, session=session, api_key=key, authority=authority)

    return await asyncio.to_thread(opened)


class EndpointClient:
    """Speaks to one endpoint through a session that somebody else owns. Without an `authority` the system's verify."""

    def __init__(
        self,
        url: str,
        *,
        session: aiohttp.ClientSession,
        api_key: str | None = None,
        authority: ssl.SSLContext | None = None,
    ) -> None:
        self.url = normalise_url(url)
        self._session = session
        self._mask = Mask(api_key)
        self._ssl: ssl.SSLContext | bool = True if authority is None else authority
        self._headers = {"Content-Type": "application/json"}
        if api_key is not None:
            self._headers["Authorization"] = f"Bearer {api_key}"

    def __repr__(self) -> str:
        return f"EndpointClient({self.url!r})"

    async def models(self) -> list[str]:
        return [model.name for model in await self.catalogue()]

    async def catalogue(self) -> list[wire.ServedModel]:
        """What GET /models lists. An endpoint without that page raises RequestRejected with status 404 or 405."""
        answer, _ = await self._exchange("GET", "/models", None, timeout_s=CONNECT_TIMEOUT_S)
        catalogue = wire.read_catalogue(answer)
        if catalogue is None:
            raise EndpointUnavailable(
                f"{self.url} answered 200 without a list of models", endpoint=self.url, status=200
            )
        return catalogue

    async def metrics(self) -> EngineMetrics | None:
        """What the engine says of itself at /metrics, beside /v1; None where it says nothing that is understood."""
        root = re.sub(r"/v\d+\w*$", "", self.url)
        try:
            _, page = await self._send("GET", f"{root}/metrics", None, timeout_s=CONNECT_TIMEOUT_S)
        except RequestRejected:
            return None
        return read_metrics(page.decode(errors="replace"))

    async def ask(
        self, request: ChatRequest, *, served_model: str, timeout_s: float | None, priority: int | None = None
    ) -> Completion:
        """One attempt. `served_model` is this endpoint's name for the model; `timeout_s`, if given, covers all of it.

        A 200 that holds no text raises EndpointUnavailable, since asking again may help; an empty text is an answer.
        """
        body = wire.chat_body(request, served_model, priority)
        started = time.perf_counter()
        answer, raw = await self._exchange("POST", "/chat/completions", body, timeout_s=timeout_s)
        latency_s = time.perf_counter() - started
        completion = wire.read_completion(answer, served_model=served_model, endpoint=self.url, latency_s=latency_s)
        if completion is None:
            message = f"{self.url} answered 200 without a text: {self.excerpt(raw)}"
            raise EndpointUnavailable(message, endpoint=self.url, status=200)
        return completion

    async def stream(self, body: bytes, *, timeout_s: float) -> AsyncGenerator[bytes]:
        """One attempt at a chat completion whose body asks for a stream: the bytes of a 200, as they come.

        On a connection of its own: llama.cpp closes it after a stream without having said so, and the next request
        on it would fail.
        """
        timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_TIMEOUT_S)
        url, headers = f"{self.url}/chat/completions", {**self._headers, "Connection": "close"}
        with self._mapped(timeout_s):
            async with self._session.post(
                url, data=body, headers=headers, timeout=timeout, allow_redirects=False, ssl=self._ssl
            ) as response:
                if response.status != HTTPStatus.OK:
                    raise self._refusal(response.status, response.headers, await self._read(response))
                async for piece in response.content.iter_any():
                    yield piece

    async def _exchange(
        self, method: str, path: str, body: bytes | None, *, timeout_s: float | None
    ) -> tuple[Any, bytes]:
        """The JSON of a 200, parsed and as it came; anything else is raised as one of our errors."""
        status, raw = await self._send(method, self.url + path, body, timeout_s=timeout_s)
        try:
            return wire.read_json(raw), raw
        except orjson.JSONDecodeError:
            raise EndpointUnavailable(
                f"{self.url} answered {status} without JSON: {self.excerpt(raw)}", endpoint=self.url, status=status
            ) from None

    async def _send(self, method: str, url: str, body: bytes | None, *, timeout_s: float | None) -> tuple[int, bytes]:
        """Status and body of a 200; anything else is raised as one of our errors."""
        timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_TIMEOUT_S)
        with self._mapped(timeout_s):
            async with self._session.request(
                method, url, data=body, headers=self._headers, timeout=timeout, allow_redirects=False, ssl=self._ssl
            ) as response:
                raw = await self._read(response)
        if response.status != HTTPStatus.OK:
            raise self._refusal(response.status, response.headers, raw)
        return response.status, self._mask.of_answer(raw)

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
    def _mapped(self, timeout_s: float | None) -> Iterator[None]:
        """The one edge at which exceptions of aiohttp and of sockets become ours."""
        try:
            yield
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise ConnectionFailed(f"{self.url} cannot be reached: {_cause(error)}", endpoint=self.url) from error
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
            raise EndpointUnavailable(f"{self.url} broke off: {detail}", endpoint=self.url) from None

    def _refusal(self, status: int, headers: Mapping[str, str], raw: bytes) -> EndpointError:
        message = f"{self.url} answered {status}: {self.excerpt(raw) or 'nothing'}"
        if location := headers.get("Location"):
            message += f" (it points to {self.excerpt(location.encode(errors='replace'))})"
        retry_after = wire.retry_after(headers.get("Retry-After"))
        if status == HTTPStatus.TOO_MANY_REQUESTS or (
            status == HTTPStatus.SERVICE_UNAVAILABLE and retry_after is not None
        ):
            return RateLimited(message, endpoint=self.url, status=status, retry_after=retry_after)
        if not _REFUSALS.start <= status < _REFUSALS.stop or status in _PATIENCE:
            return EndpointUnavailable(message, endpoint=self.url, status=status)
        if status in _KEY_REFUSED:
            which = "the key was refused" if "Authorization" in self._headers else "the key was refused (none was sent)"
            message = f"{self.url} answered {status}, {which}: {self.excerpt(raw)}"
        elif status == HTTPStatus.BAD_REQUEST and wire.is_overflow(raw):
            return ContextOverflow(message, endpoint=self.url, status=status)
        return RequestRejected(message, endpoint=self.url, status=status)

    def excerpt(self, raw: bytes) -> str:
        """A line of what a server said, for a message: without the key, and without what steers a terminal."""
        text = self._mask.of_message(raw)[: 16 * EXCERPT_CHARACTERS].decode(errors="replace")
        line = " ".join("".join(c if c.isprintable() or c.isspace() else "\ufffd" for c in text).split())
        return line[:EXCERPT_CHARACTERS]


def _cause(error: aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError) -> str:
    """The system's words, without aiohttp's own about host and TLS."""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return f"no connection within {CONNECT_TIMEOUT_S:.4g} s"
    if isinstance(error.os_error, ssl.SSLError) and error.os_error.reason == "WRONG_VERSION_NUMBER":
        return "it does not speak TLS; is its URL http:// instead of https://?"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        reason = getattr(error.certificate_error, "verify_message", "") or "it is not valid"
        return (
            f"its certificate was refused: {reason}. If an authority of your own has signed it, name that one's "
            "certificate in the endpoint's ca_file, or for all endpoints in the environment variable SSL_CERT_FILE"
        )
    return error.os_error.strerror or str(error.os_error)
