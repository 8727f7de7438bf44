"""The client against a real HTTP server that misbehaves on script: every way to fail ends in the right error."""

from __future__ import annotations

import asyncio
import dataclasses
import resource
import socket
import time
import traceback
from email.utils import formatdate

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import misbehaving as bad

from explore_async.errors import (
    AttemptTimedOut,
    CacheFull,
    ConfigError,
    ConnectionFailed,
    ContextOverflow,
    EndpointError,
    EndpointUnavailable,
    NoText,
    RateLimited,
    RequestRejected,
)
from explore_async.exploration.values import AnswerSchema, ChatRequest
from explore_async.serving.endpoints import client as client_module
from explore_async.serving.endpoints.client import EndpointClient, open_session
from explore_async.serving.endpoints.values import normalise_url
from explore_async.serving.endpoints.wire import ServedModel, read_version, retry_after

KEY = "sk-secret-0123456789"
REQUEST = ChatRequest("logical", ({"role": "user", "content": "Hello"},), {"temperature": 0.5, "max_tokens": 64}, 7)


async def ask(url: str, request: ChatRequest = REQUEST, *, timeout_s=5.0, key: str | None = KEY, priority=None):
    async with open_session() as session:
        client = EndpointClient(url, session=session, api_key=key)
        return await client.ask(request, served_model="m", timeout_s=timeout_s, priority=priority)


async def ask_misbehaving(*script: bad.Behaviour, **options):
    async with bad.MisbehavingServer(script) as server:
        return await ask(server.url, **options)


async def test_a_good_answer_is_parsed_whole():
    """Text, finish reason, counts, who answered and how long it took all reach the completion."""
    completion = await ask_misbehaving(bad.OK)
    assert (completion.text, completion.finish_reason, completion.model) == ("fine", "stop", "m")
    assert (completion.prompt_tokens, completion.completion_tokens, completion.cached_tokens) == (5, 3, 2)
    assert completion.endpoint.startswith("http://127.0.0.1:")
    assert 0 < completion.latency_s < 300


async def test_the_body_is_what_the_openai_format_asks_for():
    """Sampling and extra_body lie at the top level, the schema is strict, the served name replaces the logical one."""
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    request = ChatRequest("logical", REQUEST.messages, {"top_p": 0.9}, 3, AnswerSchema("tasks", schema), {"min_p": 0.1})
    async with bad.MisbehavingServer() as server:
        await ask(server.url, request, priority=12)
        await ask(server.url, REQUEST)
    assert server.bodies[0] == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hello"}],
        "top_p": 0.9,
        "min_p": 0.1,
        "seed": 3,
        "stream": False,
        "priority": 12,
        "response_format": {"type": "json_schema", "json_schema": {"name": "tasks", "schema": schema, "strict": True}},
    }
    assert server.bodies[1].keys() == {"model", "messages", "temperature", "max_tokens", "seed", "stream"}
    assert f"Authorization: Bearer {KEY}" in server.heads[0]


@pytest.mark.parametrize(
    ("behaviour", "expected", "status"),
    [
        (bad.RATE_LIMITED, RateLimited, 429),
        (bad.INTERNAL, EndpointUnavailable, 500),
        (bad.UNAVAILABLE, EndpointUnavailable, 503),
        (bad.error(503, headers={"Retry-After": "1"}), RateLimited, 503),
        (bad.error(502), EndpointUnavailable, 502),
        (bad.error(408), EndpointUnavailable, 408),
        (bad.CLOSED_AT_ONCE, EndpointUnavailable, None),
        (bad.CLOSED_AFTER_HEADERS, EndpointUnavailable, None),
        (bad.HALF_BODY, EndpointUnavailable, None),
        (bad.NOT_HTTP, EndpointUnavailable, None),
        (bad.GZIP_GARBAGE, EndpointUnavailable, None),
        (bad.INVALID_JSON, EndpointUnavailable, 200),
        (bad.INVALID_UTF8, EndpointUnavailable, 200),
        (bad.EMPTY_CHOICES, EndpointUnavailable, 200),
        (bad.NO_CHOICES, EndpointUnavailable, 200),
        (bad.NULL_CONTENT, EndpointUnavailable, 200),
        (bad.Behaviour(body=b"[1]"), EndpointUnavailable, 200),
        (bad.Behaviour(body=b"null"), EndpointUnavailable, 200),
        (bad.gzip_bomb(client_module.MAX_BODY_BYTES + 1), EndpointUnavailable, 200),
        (bad.OVERFLOW, ContextOverflow, 400),
        (bad.OVERFLOW_OPENAI, ContextOverflow, 400),
        (bad.OVERFLOW_LLAMA, ContextOverflow, 400),
        (bad.BAD_REQUEST, RequestRejected, 400),
        (bad.KEY_REFUSED, RequestRejected, 401),
        (bad.UNKNOWN_MODEL, RequestRejected, 404),
        (bad.Behaviour(302, headers={"Location": "http://127.0.0.1:1/"}), RequestRejected, 302),
    ],
)
async def test_each_misbehaviour_becomes_its_error(behaviour, expected, status):
    """Exactly the promised class and status, a short message that names the endpoint, and never the key."""
    with pytest.raises(EndpointError) as caught:
        await ask_misbehaving(behaviour)
    error = caught.value
    assert type(error) is expected
    assert error.status == status
    assert error.endpoint in str(error)
    assert len(str(error)) < 450
    assert KEY not in "".join(traceback.format_exception(error)) + repr(error)


@pytest.mark.parametrize("behaviour", [bad.WRONG_CONTENT_TYPE, bad.NO_USAGE, bad.Behaviour(body=bad.answer(""))])
async def test_oddities_that_are_answers(behaviour):
    """A wrong content type, missing usage and an empty text are no reason to ask again."""
    completion = await ask_misbehaving(behaviour)
    assert completion.text in {"fine", ""}


async def test_impossible_counts_become_zero():
    """Negative, missing or non-numeric usage never reaches the token budget."""
    completion = await ask_misbehaving(
        bad.Behaviour(body=bad.answer(usage={"prompt_tokens": -5, "completion_tokens": "many"}))
    )
    assert (completion.prompt_tokens, completion.completion_tokens, completion.cached_tokens) == (0, 0, 0)


@pytest.mark.parametrize(
    ("message", "text", "finish_reason"),
    [
        (
            {"content": [{"type": "text", "text": "a"}, {"type": "thinking", "text": "x"}, {"text": "b"}, 3]},
            "ab",
            "stop",
        ),
        ({"content": None, "refusal": "I will not."}, "I will not.", "stop"),
        ({"content": None, "reasoning_content": "Let me think"}, "", "length"),
        ({"reasoning": "Let me think"}, "", "length"),
        ({"content": "yes", "reasoning_content": "no"}, "yes", "stop"),
    ],
)
async def test_what_was_thought_is_not_what_was_said(message, text, finish_reason):
    """Parts are joined, a refusal is an answer, and thinking until the limit is an empty one that was cut: asked again,
    with the same seed, it would cost the same.
    """
    choice = {"message": message, "finish_reason": finish_reason}
    completion = await ask_misbehaving(bad.Behaviour(body=bad.answer(choices=[choice])))
    assert (completion.text, completion.finish_reason) == (text, finish_reason)


@pytest.mark.parametrize(
    ("message", "reasoning"),
    [
        ({"content": "yes", "reasoning_content": "Let me\nthink"}, "Let me\nthink"),
        ({"content": "yes", "reasoning": "think", "reasoning_content": "think"}, "think"),
        ({"content": "yes", "reasoning": None, "thinking": "think"}, "think"),
        ({"content": [{"type": "thinking", "thinking": "a"}, {"type": "text", "text": "yes"}]}, "a"),
        (
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
                    {"type": "reasoning", "text": "c"},
                    {"type": "text", "text": "yes"},
                ]
            },
            "ab\nc",
        ),
        ({"content": "yes", "reasoning": {"effort": "high"}}, ""),
        ({"content": "yes"}, ""),
    ],
)
async def test_thoughts_are_kept_beside_the_text(message, reasoning):
    """Under each name that servers give them, and in parts; what is no text is none."""
    choice = {"message": message, "finish_reason": "stop"}
    completion = await ask_misbehaving(bad.Behaviour(body=bad.answer(choices=[choice])))
    assert (completion.text, completion.reasoning) == ("yes", reasoning)


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 7}}, 7),
        ({"completion_tokens": 9, "reasoning_tokens": 5}, 5),
        ({"completion_tokens": 9, "completion_tokens_details": None}, 0),
        ({"completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": -7}}, 0),
    ],
)
async def test_tokens_of_thoughts(usage, tokens):
    """As OpenAI, vLLM and SGLang count them; a count that makes no sense is 0."""
    assert (await ask_misbehaving(bad.Behaviour(body=bad.answer(usage=usage)))).reasoning_tokens == tokens


@pytest.mark.parametrize(
    ("body", "instead"),
    [
        (
            bad.answer(None, choices=[{"message": {"content": None, "reasoning": "Hm"}, "finish_reason": "stop"}]),
            "thoughts",
        ),
        (bad.answer("", choices=[{"message": {"content": "", "reasoning_content": "Hm"}}]), "thoughts"),
        (bad.answer([{"type": "thinking", "thinking": "Hm"}]), "thoughts"),
        (bad.answer("", choices=[{"message": {"content": "", "tool_calls": [{"id": "1"}]}}]), "tool calls"),
        (bad.answer(None, choices=[{"message": {"content": None, "tool_calls": [{"id": "1"}]}}]), "tool calls"),
        (b'data: {"choices": [{"delta": {"content": "fi"}}]}\n\ndata: [DONE]\n\n', "event stream"),
        (b": keep alive\n\ndata: [DONE]\n\n", "event stream"),
    ],
)
async def test_what_is_there_instead_of_a_text_is_known(body, instead):
    """It may happen now and then, so it is a fault that is retried; where it lasts, it tells what to change."""
    with pytest.raises(NoText) as caught:
        await ask_misbehaving(bad.Behaviour(body=body))
    assert caught.value.instead == instead


OVERFLOWS = {
    "vLLM": (
        400,
        {"error": {"message": "This model's maximum context length is 9 tokens, but you asked for 12", "code": 400}},
    ),
    "vLLM, earlier": (
        400,
        {"object": "error", "message": "'max_tokens' is too large. This model's maximum context length is"},
    ),
    "vLLM, max_tokens alone": (400, {"error": {"message": "max_tokens=12 cannot be greater than max_model_len=9"}}),
    "vLLM, V1 engine": (400, {"error": {"message": "The prompt (12) is longer than the maximum model length of 9"}}),
    "SGLang": (
        400,
        {"message": "Requested token count exceeds the model's maximum context length of 9 tokens", "code": 400},
    ),
    "SGLang, prompt": (400, {"message": "The input (12 tokens) is longer than the model's context length (9 tokens)."}),
    "SGLang, no truncation": (400, {"error": "Input length (12 tokens) exceeds the maximum allowed length (9 tokens)"}),
    "TGI": (
        422,
        {
            "error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 9",
            "error_type": "validation",
        },
    ),
    "TGI, prompt": (422, {"error": "Input validation error: `inputs` must have less than 9 tokens. Given: 12"}),
    "TGI, in a 200": (200, {"error": "Input validation error: inputs tokens + max_new_tokens must be <= 9"}),
    "Together": (
        400,
        {
            "error": {
                "message": "`inputs` tokens + `max_new_tokens` must be <= 9. Given: 12",
                "type": "invalid_request_error",
            }
        },
    ),
    "LiteLLM": (
        400,
        {
            "error": {
                "message": "litellm.ContextWindowExceededError: OpenAIException - too long",
                "type": None,
                "code": "400",
            }
        },
    ),
    "LiteLLM, Anthropic": (
        400,
        {
            "error": {
                "message": 'litellm.BadRequestError: b\'{"message": "prompt is too long: 12 tokens > 9 maximum"}\''
            }
        },
    ),
    "Groq": (
        400,
        {
            "error": {
                "message": "Please reduce the length of the messages or completion.",
                "code": "context_length_exceeded",
            }
        },
    ),
    "Groq, a minute's tokens": (
        413,
        {"error": {"message": "Request too large for model `m` on tokens per minute: Limit 9", "type": "tokens"}},
    ),
    "OpenAI, a minute's tokens": (429, {"error": {"message": "Request too large for m on tokens per min: Limit 9"}}),
    "Cerebras": (400, {"message": "Please reduce the length of the messages or completion. Current length is 12"}),
    "llama.cpp": (
        400,
        {
            "error": {
                "code": 400,
                "message": "request (12 tokens) exceeds",
                "type": "exceed_context_size_error",
                "n_ctx": 9,
            }
        },
    ),
    "llama.cpp, earlier": (
        500,
        {"error": {"code": 500, "message": "the request exceeds the available context size", "type": "server_error"}},
    ),
    "llama-cpp-python": (500, {"error": {"message": "Requested tokens (12) exceed context window of 9"}}),
    "LM Studio": (
        400,
        {"error": "Trying to keep the first 12 tokens. However, the model is loaded with context length of only 9"},
    ),
    "LM Studio, later": (400, {"error": "Cannot truncate prompt with n_keep (12) >= n_ctx (9)"}),
    "Ollama": (
        400,
        {"error": {"message": "the input length exceeds the context length", "type": "invalid_request_error"}},
    ),
    "Gemini": (
        400,
        [{"error": {"message": "The input token count (12) exceeds the maximum number of tokens allowed (9)"}}],
    ),
    "FastAPI": (400, {"detail": "This model's maximum context length is 9 tokens"}),
    "plain text": (400, "maximum context length is 9"),
}
NO_OVERFLOWS = {
    "a value": (400, {"error": {"message": "max_tokens must be at least 1, got -1"}}),
    "a field": (422, {"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]}),
    "a schema": (400, {"error": {"message": "The schema is too large for the grammar compiler"}}),
    "a rate": (413, {"error": {"message": "Body exceeds 1 MiB"}}),
}


@pytest.mark.parametrize("bodies", [OVERFLOWS, NO_OVERFLOWS])
async def test_overflow_is_known_in_the_words_and_codes_of_many_servers(bodies):
    """Whatever the status, the place and the words, it is final for the request; other rejections are not taken for it."""
    script = [
        bad.Behaviour(status, body.encode() if isinstance(body, str) else orjson.dumps(body))
        for status, body in bodies.values()
    ]
    raised = {}
    async with bad.MisbehavingServer(script) as server, open_session() as session:
        client = EndpointClient(server.url, session=session)
        for name in bodies:
            with pytest.raises(EndpointError) as caught:
                await client.ask(REQUEST, served_model="m", timeout_s=5)
            raised[name] = type(caught.value)
    assert set(raised.values()) == {ContextOverflow if bodies is OVERFLOWS else RequestRejected}, raised


async def test_a_cache_that_others_filled_is_no_fault_of_the_request_alone():
    """llama.cpp breaks off a completion when all its slots have filled the cache together: retried, and known."""
    with pytest.raises(CacheFull):
        await ask_misbehaving(bad.error(500, "Context size has been exceeded.", type="server_error"))


@pytest.mark.parametrize(
    ("sampling", "sends_seed"),
    [({"max_completion_tokens": 9, "top_p": 0.5}, True), ({"max_tokens": 9}, False), ({}, False)],
)
async def test_what_is_null_is_not_sent(sampling, sends_seed):
    """Neither a value of sampling nor the seed; the seed tells requests apart all the same."""
    request = dataclasses.replace(REQUEST, sampling=sampling, sends_seed=sends_seed)
    async with bad.MisbehavingServer() as server:
        await ask(server.url, request)
        await ask(server.url, request.limited(1))
    fields = {"model", "messages", "stream", *sampling, *(["seed"] if sends_seed else [])}
    assert [body.keys() for body in server.bodies] == [fields, fields]
    assert request.key != dataclasses.replace(request, seed=8).key
    assert request.key == dataclasses.replace(request, sends_seed=True).key
    for name in ("max_tokens", "max_completion_tokens"):
        assert server.bodies[1].get(name) == (1 if name in sampling else None)


async def test_half_characters_are_replaced():
    """A surrogate alone becomes U+FFFD, a pair stays a character, an escaped backslash before one stays what it was."""
    body = bad.answer("?").replace(b'"?"', rb'"\ud83d \ud83d\ude00 \\ud83d \udc00\ud83d\ude00"')
    assert (await ask_misbehaving(bad.Behaviour(body=body))).text == "\ufffd \U0001f600 \\ud83d \ufffd\U0001f600"


async def test_absurd_counts_become_zero():
    """Nobody reads or writes a billion tokens in an answer; counted, they would end a token budget at once."""
    usage = {"prompt_tokens": 2**63, "completion_tokens": 10**9, "prompt_tokens_details": {"cached_tokens": 1e300}}
    completion = await ask_misbehaving(bad.Behaviour(body=bad.answer(usage=usage)))
    assert (completion.prompt_tokens, completion.completion_tokens, completion.cached_tokens) == (0, 0, 0)


@given(
    st.lists(
        st.sampled_from(
            [*["Mon,", "01", "Jan", "2024", "00:00:00", "GMT"], "+0100", "-9" * 20, "9" * 30, ":", ",", "PM", "\x00"]
        )
    )
)
def test_no_retry_after_breaks_the_client(words):
    """Seconds that are finite and not negative, or None."""
    seconds = retry_after(" ".join(words))
    assert seconds is None or 0 <= seconds < float("inf")


async def test_a_port_that_speaks_tls_says_so():
    """Asked in plain text it answers with an alert, which nobody can read."""
    with pytest.raises(EndpointUnavailable, match="is its URL https://"):
        await ask_misbehaving(bad.Behaviour(status=0, body=b"\x15\x03\x03\x00\x02\x02\x46"))


async def test_a_redirect_says_where_to():
    """It is not followed, since the key would go elsewhere, but told."""
    with pytest.raises(RequestRejected, match="points to https://elsewhere/v1"):
        await ask_misbehaving(bad.Behaviour(302, headers={"Location": "https://elsewhere/v1"}))


async def test_ipv6():
    """An address in brackets is a URL like any other."""
    async with bad.MisbehavingServer(host="::1") as server:
        assert (await ask(server.url)).endpoint == f"http://[::1]:{server.port}/v1"


async def test_cookies_are_not_sent_back():
    """The cookie of a load balancer would pin all requests to one replica."""
    cookie = bad.Behaviour(body=bad.answer(), headers={"Set-Cookie": "replica=3; Path=/"})
    async with bad.MisbehavingServer([cookie] * 2, host="localhost") as server, open_session() as session:
        client = EndpointClient(server.url, session=session)
        for _ in range(2):
            await client.ask(REQUEST, served_model="m", timeout_s=5)
    assert "replica" not in "".join(server.heads)


async def test_an_oversized_body_is_cut_off(monkeypatch):
    """Reading stops at the bound, whatever Content-Length promises."""
    monkeypatch.setattr(client_module, "MAX_BODY_BYTES", 10_000)
    with pytest.raises(EndpointUnavailable, match="more than"):
        await ask_misbehaving(bad.Behaviour(body=bad.answer("x" * 5_000_000)))


async def test_timeouts_and_refused_connections_are_told_apart():
    """A slow answer may be the request's fault; a refused connection never is."""
    with pytest.raises(AttemptTimedOut, match=r"within 0\.2 s"):
        await ask_misbehaving(bad.slow(3600), timeout_s=0.2)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        with pytest.raises(ConnectionFailed, match="cannot be reached"):
            await ask(f"http://127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        ("7", 7, 7),
        ("0.5", 0.5, 0.5),
        ("-3", 0, 0),
        (300, 200, 300),
        (-300, 0, 0),
        ("soon", None, None),
        ("inf", None, None),
    ],
)
async def test_retry_after_in_both_forms(header, least, most):
    """Seconds and HTTP dates are understood; nonsense counts as not said."""
    if isinstance(header, int):
        header = formatdate(time.time() + header, usegmt=True)
    with pytest.raises(RateLimited) as caught:
        await ask_misbehaving(bad.error(429, headers={"Retry-After": header}))
    if least is None:
        assert caught.value.retry_after is None
    else:
        assert least <= caught.value.retry_after <= most


async def test_an_echoed_key_is_masked():
    """Some servers repeat the key they refuse; it is masked before it reaches a message, also where it would be cut."""
    for padding in ("", "x" * 280):
        with pytest.raises(RequestRejected, match="the key was rejected") as caught:
            await ask_misbehaving(bad.error(401, f"{padding} Incorrect API key: {KEY}"))
        assert KEY[:8] not in str(caught.value)


async def test_models_are_listed_with_what_the_engine_tells():
    """Names, the engine, and the context where it is told, under the name that OpenRouter and others give it, too. That
    of llama.cpp is none: it cuts a completion there, and refuses nothing.
    """
    listing = (
        b'{"data": [{"id": "a", "owned_by": "vllm", "max_model_len": 4096}, {"id": "b"}, {"id": "c", "context_length": 9},'
        b'{"id": "d", "meta": {"n_ctx": 512}}, {"id": "e", "context_window": "many"}]}'
    )
    async with (
        bad.MisbehavingServer(catalogue=lambda *_: bad.Behaviour(body=listing)) as server,
        open_session() as session,
    ):
        client = EndpointClient(server.url, session=session)
        assert await client.models() == ["a", "b", "c", "d", "e"]
        assert await client.catalogue() == [
            *(ServedModel("a", "vllm", 4096), ServedModel("b"), ServedModel("c", context_tokens=9)),
            *(ServedModel("d"), ServedModel("e")),
        ]
        assert "Authorization" not in "".join(server.heads)


@pytest.mark.parametrize(
    "behaviour", [bad.Behaviour(body=b"{}"), bad.Behaviour(body=b'{"data": [3]}'), bad.INVALID_JSON]
)
async def test_a_model_list_that_is_none(behaviour):
    """Nonsense from /models is trouble of the endpoint, not an empty list."""
    async with bad.MisbehavingServer(catalogue=[behaviour]) as server, open_session() as session:
        with pytest.raises(EndpointUnavailable):
            await EndpointClient(server.url, session=session).models()


@pytest.mark.parametrize(
    ("given", "base"),
    [
        ("http://h:8000", "http://h:8000/v1"),
        ("http://h:8000/v1/", "http://h:8000/v1"),
        (" https://h/llm/ ", "https://h/llm/v1"),
        ("https://h/v1beta/openai", "https://h/v1beta/openai"),
        ("http://h/v1/chat/completions", "http://h/v1"),
    ],
)
def test_urls_are_normalised(given, base):
    """With or without /v1, slash or path: one base URL, and normalising again changes nothing."""
    assert normalise_url(given) == base == normalise_url(base)


@pytest.mark.parametrize("url", ["h:8000", "ftp://h", "http://", "http://user:hunter2@h/v1", "http://h?key=hunter2"])
def test_urls_that_are_refused(url):
    """What is no http URL is refused, and so are credentials in one, without repeating them."""
    with pytest.raises(ConfigError) as caught:
        normalise_url(url)
    assert "hunter2" not in str(caught.value)


async def test_cancellation_passes_through():
    """A cancelled attempt ends in CancelledError at once, not in one of our errors."""
    async with bad.MisbehavingServer([bad.slow(30)]) as server:
        asking = asyncio.create_task(ask(server.url, timeout_s=60))
        while not server.in_flight:
            await asyncio.sleep(0.01)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking


async def test_proxies_of_the_environment_are_ignored(monkeypatch):
    """Loopback never goes through a proxy."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert (await ask_misbehaving(bad.OK)).text == "fine"


async def test_the_key_is_not_in_the_repr():
    """What a debugger or a log would show of a client is its URL."""
    async with open_session() as session:
        assert KEY not in repr(EndpointClient("http://h", session=session, api_key=KEY))


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_two_thousand_connections_at_once():
    """A server that accepts nothing for twelve seconds, and then all: every request arrives, also those for which the
    backlog had no place. With ten seconds for a connection these, about half, fail.
    """
    backlog = 1024
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    with socket.create_server(("127.0.0.1", 0), backlog=backlog) as listening:
        listening.setblocking(False)
        async with bad.MisbehavingServer() as server, open_session() as session:
            client = EndpointClient(f"http://127.0.0.1:{listening.getsockname()[1]}", session=session)
            asking = [asyncio.create_task(client.ask(REQUEST, served_model="m", timeout_s=None)) for _ in range(2000)]
            await asyncio.sleep(12)
            accepting = await asyncio.start_server(server._serve, sock=listening, backlog=backlog)
            outcomes = await asyncio.gather(*asking, return_exceptions=True)
            accepting.close()
    assert [outcome for outcome in outcomes if isinstance(outcome, BaseException)] == []


@pytest.mark.parametrize(
    ("page", "version"),
    [
        (b'{"version": "0.32.0"}', "0.32.0"),  # vLLM
        (b'{"build_info": "b6123-abc", "chat_template": "x"}', "b6123-abc"),  # llama.cpp
        (b'{"version": 7}', ""),
        (b"[]", ""),
        (b"not found", ""),
    ],
)
def test_versions_of_engines(page: bytes, version: str) -> None:
    """The version on the pages of engines; none on others."""
    assert read_version(page) == version
