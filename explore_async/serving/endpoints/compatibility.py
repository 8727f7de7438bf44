"""Check that an endpoint can serve requests of the recipe's form, before it gets a request of the run.

Answer format, roles of the messages and extra fields of the body are part of the data's identity. An endpoint that
cannot serve them is excluded; the requests are not adapted to it. A fault that comes now and then is no reason to
exclude it: only a fault of every attempt is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from http import HTTPStatus

from explore_async.errors import (
    AttemptTimedOut,
    ContextOverflow,
    EndpointError,
    EndpointUnavailable,
    NoText,
    RequestRejected,
)
from explore_async.exploration.parsing import without_reasoning
from explore_async.exploration.values import ChatRequest, Completion, Form
from explore_async.serving.endpoints.credentials import key_advice
from explore_async.serving.endpoints.endpoint import Endpoint
from explore_async.serving.endpoints.faults import cure_of, fatal_error, may_last, rejects_every_request
from explore_async.settings.operation import Retries

PROBE_TIMEOUT_S = 120.0
_PROBE_TOKENS = 8
_FENCED_TOKENS = 64
_TRIES = 3
_KEY_REJECTED = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
_EXCERPT = 60
_MOST_TEMPLATE_TOKENS = 100
"""That a chat template may add to a message. A message itself has at most as many tokens as bytes."""
_MOST_CHARACTERS_PER_TOKEN = 6
"""Of a prompt that is not counted by a server."""
_ADVISED_SHARE = 0.75
"""Of the room that the first prompts leave: later ones show examples and sub-tasks."""


class AnswersNothing(EndpointUnavailable):
    """The endpoint answers 500 to the plainest request as well: the form of the run's requests is not the cause."""


async def check_compatibility(
    endpoint: Endpoint, form: Form, retries: Retries, *, timeout_s: float = PROBE_TIMEOUT_S
) -> None:
    """Sends small requests in the form of the run's requests, and compares the context with what these need.

    Raises EndpointError when the endpoint cannot serve them, with the reason and what to change; EndpointUnavailable or
    RateLimited when the endpoint does not answer now.
    """
    await _Check(endpoint, form, retries, timeout_s).run()


def too_long_for(context: int, forms: Sequence[Form]) -> str:
    """Says which of these requests cannot fit into a context of so many tokens, by a low estimate of their prompts: the
    longest. Empty where all may fit.
    """
    longest, form = max(((_least_tokens(form), form) for form in forms), key=lambda pair: pair[0], default=(0, None))
    if form is None or form.request.limit is None or longest <= context:
        return ""
    limit, name = form.request.limit, _limit_name(form)
    return (
        f"the run's requests need {longest:,} tokens and more: about {longest - limit:,} for a first prompt and "
        f"{limit:,} for its completion ({name}). Lower {name}"
    )


def _least_tokens(form: Form) -> int:
    """Of a prompt and its completion; 0 where the length of the completion is left to the server."""
    if form.request.limit is None:
        return 0
    characters = sum(len(message["content"]) for message in form.request.messages)
    return characters // _MOST_CHARACTERS_PER_TOKEN + form.request.limit


def _limit_name(form: Form) -> str:
    name = "max_completion_tokens" if "max_completion_tokens" in form.request.sampling else "max_tokens"
    return f"sampling.{form.sampling}.{name}"


class _Check:
    def __init__(self, endpoint: Endpoint, form: Form, retries: Retries, timeout_s: float) -> None:
        self._endpoint = endpoint
        self._url = endpoint.url
        self._form = form
        self._request = form.request
        self._limit_name = _limit_name(form)
        self._retries = retries
        self._timeout_s = timeout_s

    async def run(self) -> None:
        short = tuple({**message, "content": "Say yes."} for message in self._request.messages)
        probe = replace(self._request, messages=short)
        completion = await self._answer(probe.limited(_PROBE_TOKENS))
        await self._check_context()
        if _is_thought(completion):
            completion = await self._after_thinking(probe)
        elif probe.answer_schema is not None and _is_fence(completion):
            completion = await self._answer(probe.limited(_FENCED_TOKENS))
        text = without_reasoning(completion.text).lstrip()
        if probe.answer_schema is not None and text and not text.startswith("{"):
            raise self._error(
                f"{self._url} accepts a JSON schema but does not follow it: its text should be an object and begins "
                f"with {text[:_EXCERPT]!r}. Set answer_format: text, or leave this endpoint out"
            )

    async def _check_context(self) -> None:
        """Compares the context, where the endpoint tells it, with the longest of the run's first prompts and the limit
        of its completion. The tokens of that prompt are counted by the endpoint, where there is doubt that it fits.
        """
        context, limit = self._endpoint.context_tokens.get(self._request.model), self._request.limit
        if context is None or limit is None or _most_tokens(self._request) + limit <= context:
            return
        try:
            prompt = (await self._ask(self._request.limited(1))).prompt_tokens
        except ContextOverflow:
            prompt = context
        except RequestRejected as error:
            raise await self._refusal(self._request.limited(1), error) from error
        except NoText:
            prompt = 0
        prompt = prompt or sum(len(message["content"]) for message in self._request.messages) // 4
        if prompt + limit <= context:
            return
        longer = "serve the model with a longer context (vLLM: --max-model-len)"
        room = int(_ADVISED_SHARE * (context - prompt))
        cure = f"Lower {self._limit_name} to {room} or less, or {longer}" if room > 0 else longer.capitalize()
        raise self._error(
            f"{self._url}: the context of {self._endpoint.name_of(self._request.model)!r} is {context} tokens, and "
            f"the run's requests need {prompt + limit} and more: {prompt} for a first prompt and {limit} for its "
            f"completion ({self._limit_name}). {cure}"
        )

    async def _after_thinking(self, probe: ChatRequest) -> Completion:
        """The completion with the run's own limit, since the model thinks first."""
        for turn in range(1, _TRIES):
            try:
                completion = await self._answer(replace(probe, seed=turn * _TRIES))
            except AttemptTimedOut:
                return Completion("", "", 0, 0)  # a slow one; the run's own deadlines will tell
            if not _is_thought(completion):
                return completion
        raise self._error(
            f"{self._url} reaches the limit of {self._limit_name} ({probe.limit or 'its own'}) while it thinks, even "
            "about the smallest request, and writes no text. Raise the limit, or have it think less: extra_body: "
            "{chat_template_kwargs: {enable_thinking: false}} or {thinking_token_budget: 500} with vLLM"
        )

    async def _answer(self, probe: ChatRequest) -> Completion:
        """The first completion of several attempts. Raises the reason where there is none."""
        for attempt in range(_TRIES):
            try:
                return await self._ask(replace(probe, seed=probe.seed + attempt))
            except RequestRejected as error:
                raise await self._refusal(probe, error) from error
            except EndpointUnavailable as error:
                if not may_last(error):
                    raise
                fault = error
            if attempt < _TRIES - 1:
                await asyncio.sleep(min(self._retries.longest_wait_s, self._retries.first_wait_s * 2**attempt))
        if fault.status == HTTPStatus.OK:
            raise self._error(f"{fault}. So it answers every request of this run's form. {cure_of(fault)}") from fault
        raise await self._cause(probe, fault) from fault

    async def _refusal(self, probe: ChatRequest, error: RequestRejected) -> EndpointError:
        if error.status in _KEY_REJECTED:
            return self._error(f"{error}. {key_advice(self._endpoint.settings)}", error.status)
        if rejects_every_request(error):
            return fatal_error(error)
        if isinstance(error, ContextOverflow):
            cure = f"Lower {self._limit_name} ({self._request.limit}), or serve the model with a longer context"
            return self._error(f"{error}. {cure}", error.status)
        said = f"{self._url} rejects requests in the form of this recipe ({_describe(self._request)}): {error}"
        if await self._serves(_plain(probe)):
            for part, without, cure in _parts(probe):
                if await self._serves(without):
                    advice = f"It serves them without {part}. {cure}, or leave this endpoint out"
                    return self._error(f"{said}. {advice}", error.status)
        return self._error(f"{said}. Change the recipe, or leave this endpoint out", error.status)

    async def _cause(self, probe: ChatRequest, fault: EndpointUnavailable) -> EndpointError:
        """The part of the form that the endpoint answers with 500, found by leaving out one after another."""
        said = f"{fault}. So it answers every request of this run's form ({_describe(probe)})"
        if not await self._serves(_plain(probe)):
            return AnswersNothing(f"{said}, and a plain request as well", endpoint=self._url, status=fault.status)
        for part, without, cure in _parts(probe):
            if await self._serves(without):
                return self._error(f"{said}, but not without {part}. {cure}, or leave this endpoint out", fault.status)
        return self._error(f"{said}, and serves a plain one. Change the recipe, or leave it out", fault.status)

    async def _serves(self, probe: ChatRequest) -> bool:
        try:
            await self._ask(probe)
        except (EndpointUnavailable, RequestRejected):
            return False
        return True

    async def _ask(self, probe: ChatRequest) -> Completion:
        served_model = self._endpoint.name_of(probe.model)
        try:
            completion = await self._endpoint.client.ask(probe, served_model=served_model, timeout_s=self._timeout_s)
        except AttemptTimedOut as error:
            self._endpoint.note_failure(error)
            raise AttemptTimedOut(
                f"{self._url} did not answer within {self._timeout_s:.4g} s, not even the first small request: it "
                "hangs, or is too slow for a run. It is tried again all the time, and joins when it answers; no "
                "setting waits longer",
                endpoint=self._url,
            ) from error
        except EndpointError as error:
            self._endpoint.note_failure(error)
            raise
        self._endpoint.is_heard = True
        return completion

    def _error(self, message: str, status: int | None = None) -> EndpointError:
        return EndpointError(message, endpoint=self._url, status=status)


def _is_thought(completion: Completion) -> bool:
    """True for a completion that reached its limit before there was a text. White space is none of a model that thinks:
    some small ones begin with much of it under a schema.
    """
    text = completion.text
    return completion.finish_reason == "length" and not text.isspace() and not without_reasoning(text).strip()


def _is_fence(completion: Completion) -> bool:
    """True for a code block that has only been opened. llama.cpp lets models open one before the object, and takes it
    away once that has begun.
    """
    opened = without_reasoning(completion.text).strip()
    return completion.finish_reason == "length" and opened in {"`", "``", "```", "```json"}


def _most_tokens(request: ChatRequest) -> int:
    return sum(len(message["content"].encode()) + _MOST_TEMPLATE_TOKENS for message in request.messages)


def _plain(probe: ChatRequest) -> ChatRequest:
    """A request with nothing but the model and a message."""
    return ChatRequest(probe.model, probe.messages[-1:], {}, 0, sends_seed=False)


def _parts(probe: ChatRequest) -> Iterator[tuple[str, ChatRequest, str]]:
    """Parts of the form with their name, the request without the part, and the setting that leaves it out."""
    if probe.answer_schema is not None:
        yield "the JSON schema", replace(probe, answer_schema=None), "Set answer_format: text"
    for name in probe.extra_body:
        body = {other: value for other, value in probe.extra_body.items() if other != name}
        yield f"{name!r} of extra_body", replace(probe, extra_body=body), "Leave it out"
    if len(probe.messages) > 1:
        roles = replace(probe, messages=probe.messages[-1:])
        yield "the system message", roles, "Set prompts to a folder with templates that have no [system] part"
    if probe.sends_seed:
        yield "the seed", replace(probe, sends_seed=False), "Set seed: null"
    for name in probe.sampling:
        left = {other: value for other, value in probe.sampling.items() if other != name}
        yield f"{name!r} of sampling", replace(probe, sampling=left), "Set it to null"


def _describe(probe: ChatRequest) -> str:
    parts = [f"roles {', '.join(message['role'] for message in probe.messages)}"]
    if probe.answer_schema is not None:
        parts.append("a JSON schema for the text")
    if probe.extra_body:
        parts.append(f"extra_body {', '.join(probe.extra_body)}")
    return "; ".join(parts)
