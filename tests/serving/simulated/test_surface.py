"""The simulated server over HTTP as a client of vLLM sees it: fields, streams, pages."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
import pytest

from explore_async.serving.endpoints.engine_metrics import read_metrics
from explore_async.serving.simulated.engine import Profile
from explore_async.serving.simulated.server import SimulatedServer

MESSAGES = [{"role": "user", "content": "Say something"}]
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": SCHEMA}}
PROFILE = Profile(slots=8, step_s=0.0005, request_s=0.0, prefill_s=0.00001, kv_tokens=1_000_000)


class Client:
    """Sends requests to a simulated server; a status other than `status` fails."""

    def __init__(self, server: SimulatedServer, session: aiohttp.ClientSession) -> None:
        self.server = server
        self.root = server.url.removesuffix("/v1")
        self._session = session

    async def get(self, path: str, *, status: int = 200, method: str = "GET", **how: Any) -> Any:
        async with self._session.request(method, self.root + path, **how) as response:
            raw = await response.read()
        assert response.status == status, raw
        return orjson.loads(raw) if response.content_type == "application/json" else raw.decode()

    async def post(self, path: str, body: dict[str, Any], *, status: int = 200, **how: Any) -> Any:
        return await self.get(path, method="POST", json=body, status=status, **how)

    async def chat(self, **fields: Any) -> Any:
        return await self.post("/v1/chat/completions", {"messages": MESSAGES, "seed": 1, **fields})

    async def complete(self, **fields: Any) -> Any:
        return await self.post("/v1/completions", {"prompt": "Once upon a time", "seed": 1, **fields})

    async def events(self, path: str, **fields: Any) -> list[dict[str, Any]]:
        """The chunks of a stream, which ends with [DONE]."""
        body = {"messages": MESSAGES, "prompt": "Once upon a time", "seed": 1, **fields, "stream": True}
        async with self._session.post(self.root + path, json=body) as response:
            assert response.content_type == "text/event-stream"
            *events, done, rest = (await response.read()).split(b"\n\n")
        assert (done, rest) == (b"data: [DONE]", b"")
        return [orjson.loads(event.removeprefix(b"data: ")) for event in events]


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with SimulatedServer(model="sim", context_tokens=4096) as server, aiohttp.ClientSession() as session:
        yield Client(server, session)


async def test_the_pages(client: Client) -> None:
    """Health, version, models and a model, and errors in vLLM's form for what is not there."""
    await client.get("/health")
    await client.get("/ping")
    await client.get("/ping", method="POST")
    assert re.fullmatch(r"\d+\.\d+\.\d+\+simulated", (await client.get("/version"))["version"])
    (card,) = (await client.get("/v1/models"))["data"]
    assert card == await client.get("/v1/models/sim")
    assert (card["id"], card["owned_by"], card["max_model_len"]) == ("sim", "vllm", 4096)
    for path, status in (("/v1/models/other", 404), ("/nothing", 404), ("/v1/chat/completions", 405)):
        error = (await client.get(path, status=status))["error"]
        assert error["code"] == status
        assert error["message"]
        assert {"type", "param"} <= error.keys()


async def test_another_model_is_not_there(client: Client) -> None:
    """404 with the served name; without a name the only model is meant."""
    for path in ("/v1/chat/completions", "/v1/completions", "/tokenize"):
        body = {"model": "other", "messages": MESSAGES, "prompt": "a"}
        error = (await client.post(path, body, status=404))["error"]
        assert (error["type"], error["param"]) == ("NotFoundError", "model")
        assert "other" in error["message"]
        assert "sim" in error["message"]
    assert (await client.chat(model="sim"))["model"] == (await client.chat())["model"] == "sim"


async def test_a_refusal_is_a_400(client: Client) -> None:
    """Also of a body that is no JSON, of another media type, and of a schema that nothing satisfies."""
    path = "/v1/chat/completions"
    await client.post(path, {"messages": MESSAGES, "max_tokens": -1}, status=400)
    await client.get(path, method="POST", data=b"{", headers={"Content-Type": "application/json"}, status=400)
    await client.get(path, method="POST", data=b"{}", status=400)
    for schema in ({"type": "string", "not": {}}, {"type": "nothing"}):
        form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
        document = await client.post(path, {"messages": MESSAGES, "response_format": form}, status=400)
        assert "form that is asked for" in document["error"]["message"]
    assert client.server.statistics().requests == 0


async def test_usage_adds_up(client: Client) -> None:
    """Prompt and completion make the total, in a whole response and at the end of a stream."""
    whole = await client.chat(n=3)
    (*_, last) = await client.events("/v1/chat/completions", n=3, stream_options={"include_usage": True})
    for usage in (whole["usage"], last["usage"]):
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert whole["usage"]["completion_tokens"] == last["usage"]["completion_tokens"]


async def test_several_texts(client: Client) -> None:
    """`n` gives different texts by their index, the first as without `n`; prompts of completions multiply them."""
    choices = (await client.chat(n=3))["choices"]
    texts = [choice["message"]["content"] for choice in choices]
    assert [choice["index"] for choice in choices] == [0, 1, 2]
    assert len(set(texts)) == 3
    assert texts[0] == (await client.chat())["choices"][0]["message"]["content"]
    assert [choice["index"] for choice in (await client.complete(prompt=["a", "b"], n=2))["choices"]] == [0, 1, 2, 3]


async def test_stop_ends_a_text(client: Client) -> None:
    """At the first stop string, which is left out unless it is wanted, and named as the reason."""
    text = (await client.chat())["choices"][0]["message"]["content"]
    stop = text.split()[5]
    for keep in (False, True):
        choice = (await client.chat(stop=["never to be found", stop], include_stop_str_in_output=keep))["choices"][0]
        before, _, _ = text.partition(stop)
        assert choice["message"]["content"] == before + stop * keep
        assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", stop)
    assert (await client.chat(stop="never to be found"))["choices"][0]["stop_reason"] is None


async def test_lengths(client: Client) -> None:
    """`max_tokens` cuts, `min_tokens` lengthens, and with `ignore_eos` a text has exactly what is allowed."""
    for fields, finish in (({"max_tokens": 5}, "length"), ({"max_tokens": 300, "ignore_eos": True}, "length")):
        document = await client.chat(**fields)
        assert document["usage"]["completion_tokens"] == fields["max_tokens"]
        assert document["choices"][0]["finish_reason"] == finish
    document = await client.chat(min_tokens=500)
    assert document["usage"]["completion_tokens"] >= 500
    assert document["choices"][0]["finish_reason"] == "stop"
    document = await client.complete(ignore_eos=True, max_tokens=None)
    assert document["usage"]["completion_tokens"] == 16


async def test_forms(client: Client) -> None:
    """Objects, schemas, patterns and choices, by `response_format` or `structured_outputs`."""

    async def text(**fields: Any) -> str:
        return (await client.chat(**fields))["choices"][0]["message"]["content"]

    assert isinstance(orjson.loads(await text(response_format={"type": "json_object"})), dict)
    assert isinstance(orjson.loads(await text(structured_outputs={"json_object": True})), dict)
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}
    assert orjson.loads(await text(response_format=form)).keys() == {"a"}
    assert orjson.loads(await text(structured_outputs={"json": SCHEMA})).keys() == {"a"}
    assert re.fullmatch(r"\d{3}-[a-c]+", await text(structured_outputs={"regex": r"\d{3}-[a-c]+"}))
    assert await text(structured_outputs={"choice": ["yes", "no"]}) in {"yes", "no"}
    assert (await client.complete(structured_outputs={"choice": ["yes"]}))["choices"][0]["text"] == "yes"


async def test_a_tool_that_must_be_called(client: Client) -> None:
    """Named or required, a function is called with arguments that fit its parameters, whole or streamed."""
    for choice, reason in ((TOOL, "stop"), ("required", "tool_calls")):
        document = (await client.chat(tools=[TOOL], tool_choice=choice))["choices"][0]
        (call,) = document["message"]["tool_calls"]
        assert call["function"]["name"] == "look_up"
        assert orjson.loads(call["function"]["arguments"]).keys() == {"a"}
        assert document["finish_reason"] == reason
        chunks = await client.events("/v1/chat/completions", tools=[TOOL], tool_choice=choice)
        deltas = [chunk["choices"][0]["delta"].get("tool_calls", [{}])[0] for chunk in chunks]
        arguments = "".join(delta.get("function", {}).get("arguments", "") for delta in deltas)
        assert arguments == call["function"]["arguments"]
    assert "tool_calls" not in (await client.chat(tools=[TOOL]))["choices"][0]["message"]


async def test_probabilities(client: Client) -> None:
    """Each token has one, and as many alternatives as asked for, best first; the tokens make the text."""
    document = await client.chat(logprobs=True, top_logprobs=3, return_token_ids=True)
    choice, tokens = document["choices"][0], document["usage"]["completion_tokens"]
    content = choice["logprobs"]["content"]
    assert len(content) == len(choice["token_ids"]) == tokens
    assert "".join(one["token"] for one in content) == choice["message"]["content"]
    for one in content:
        ranked = [other["logprob"] for other in one["top_logprobs"]]
        assert len(ranked) == 3
        assert ranked == sorted(ranked, reverse=True)
        assert one["logprob"] == ranked[0] <= 0
        assert bytes(one["bytes"]).decode() == one["token"]
    assert (await client.chat())["choices"][0]["logprobs"] is None

    choice = (await client.complete(logprobs=2, echo=True))["choices"][0]
    logprobs = choice["logprobs"]
    for offset, token in zip(logprobs["text_offset"], logprobs["tokens"], strict=True):
        assert choice["text"][offset:].startswith(token)
    assert choice["text"].startswith("Once upon a time")
    assert all(len(top) == 2 for top in logprobs["top_logprobs"])


async def test_a_prompt_alone_can_be_echoed(client: Client) -> None:
    """With `echo` and no tokens the text is the prompt."""
    choice = (await client.complete(echo=True, max_tokens=0))["choices"][0]
    assert (choice["text"], choice["finish_reason"]) == ("Once upon a time", "length")
    chunks = await client.events("/v1/completions", echo=True, max_tokens=0)
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "Once upon a time"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_a_stream_is_the_text_token_by_token(client: Client, path: str) -> None:
    """Chunks share an id, name the role first and the reason last, keep every blank, and have usage only if asked."""
    prompt = {"prompt": "### Input:\n### Output:", "messages": [{"role": "user", "content": "### Input:\n### Output:"}]}
    whole = await client.post(path, {**prompt, "seed": 3, "max_tokens": 200, "n": 2})
    chunks = await client.events(path, **prompt, seed=3, max_tokens=200, n=2)
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert {chunk["object"] for chunk in chunks} == {
        "chat.completion.chunk" if path.startswith("/v1/chat") else "text_completion"
    }
    assert not any("usage" in chunk for chunk in chunks)
    for index, expected in enumerate(whole["choices"]):
        own = [chunk["choices"][0] for chunk in chunks if chunk["choices"][0]["index"] == index]
        if path.startswith("/v1/chat"):
            assert own[0]["delta"] == {"role": "assistant", "content": ""}
            text = "".join(piece["delta"].get("content", "") for piece in own)
            assert text == expected["message"]["content"]
        else:
            assert "".join(piece["text"] for piece in own) == expected["text"]
        assert [piece["finish_reason"] for piece in own] == [None] * (len(own) - 1) + [expected["finish_reason"]]
        assert len(own) > 20


async def test_usage_of_streams_on_request(client: Client) -> None:
    """`include_usage` adds a last chunk without choices, `continuous_usage_stats` a count to each chunk."""
    options = {"include_usage": True, "continuous_usage_stats": True}
    *chunks, last = await client.events("/v1/chat/completions", stream_options=options)
    assert last["choices"] == []
    counts = [chunk["usage"]["completion_tokens"] for chunk in chunks]
    assert counts == list(range(last["usage"]["completion_tokens"] + 1))
    (*chunks, last) = await client.events("/v1/chat/completions", stream_options={"include_usage": True})
    assert not any("usage" in chunk for chunk in chunks)


async def test_ids(client: Client) -> None:
    """Equal requests get equal texts under different ids; a client may name the id."""
    first, second = await client.chat(), await client.chat()
    assert first["choices"] == second["choices"]
    assert first["id"] != second["id"]
    assert (await client.chat(request_id="mine"))["id"] == "chatcmpl-mine"
    named = await client.post("/v1/completions", {"prompt": "a"}, headers={"X-Request-Id": "yours"})
    assert named["id"] == "cmpl-yours"


async def test_tokens_of_a_text(client: Client) -> None:
    """/tokenize counts as the usage does, of a prompt or of messages; /detokenize gives the text of its tokens."""
    document = await client.post("/tokenize", {"messages": MESSAGES, "return_token_strs": True})
    assert document["count"] == len(document["tokens"]) == (await client.chat())["usage"]["prompt_tokens"]
    assert "".join(document["token_strs"]) == MESSAGES[0]["content"]
    assert document["max_model_len"] == 4096
    text = "汉字" * 300 + "a long word: " + "b" * 99
    tokens = (await client.post("/tokenize", {"prompt": text}))["tokens"]
    assert len(tokens) > 300
    assert (await client.post("/detokenize", {"tokens": tokens}))["prompt"] == text
    await client.post("/detokenize", {"tokens": [5]}, status=400)
    await client.post("/tokenize", {}, status=400)


def samples_of(page: str) -> dict[str, dict[str, float]]:
    """The samples of a page by metric, each by its labels. Every sample belongs to a metric with a type and help."""
    kinds: dict[str, str] = {}
    helped: set[str] = set()
    samples: dict[str, dict[str, float]] = {}
    for line in page.splitlines():
        if line.startswith("# HELP "):
            helped.add(line.split()[2])
        elif line.startswith("# TYPE "):
            kinds[line.split()[2]] = line.split()[3]
        else:
            match = re.fullmatch(r"(?P<name>[a-z0-9_:]+)\{(?P<labels>.*)\} (?P<value>\S+)", line)
            assert match is not None, line
            name = match["name"]
            family = name if name in kinds else re.sub(r"_(bucket|sum|count)$", "", name)
            assert kinds[family] == "histogram" or family == name
            assert name.endswith("_total") == (kinds[family] == "counter")
            samples.setdefault(name, {})[match["labels"]] = float(match["value"])
    assert helped == kinds.keys()
    return samples


async def test_metrics_tell_what_happened() -> None:
    """Types, labels and histograms as vLLM has them; counts and sums are those of the responses."""
    async with (
        SimulatedServer(model='a"b', profile=PROFILE, context_tokens=1000) as server,
        aiohttp.ClientSession() as session,
    ):
        client = Client(server, session)
        documents = await asyncio.gather(*(client.chat(max_tokens=10 + number) for number in range(20)))
        page = await client.get("/metrics")
    samples = samples_of(page)
    own = 'engine="0",model_name="a\\"b"'
    tokens = sum(document["usage"]["completion_tokens"] for document in documents)
    assert samples["vllm:num_requests_running"] == {own: 0}
    assert samples["vllm:generation_tokens_total"] == {own: tokens}
    finished = Counter(document["choices"][0]["finish_reason"] for document in documents)
    assert {
        reason: samples["vllm:request_success_total"][f'engine="0",finished_reason="{reason}",model_name="a\\"b"']
        for reason in finished
    } == finished
    for name in {re.sub("_bucket$", "", name) for name in samples if name.endswith("_bucket")}:
        counts = list(samples[f"{name}_bucket"].values())
        assert counts == sorted(counts)
        assert counts[-1] == samples[f"{name}_count"][own]
    assert samples["vllm:e2e_request_latency_seconds_count"][own] == 20
    assert samples["vllm:request_generation_tokens_sum"][own] == tokens
    assert samples["vllm:request_params_max_tokens_sum"][own] == sum(range(10, 30))
    assert samples["vllm:inter_token_latency_seconds_count"][own] == tokens - 20
    e2e, first = (
        samples[f"vllm:{name}_sum"][own] for name in ("e2e_request_latency_seconds", "time_to_first_token_seconds")
    )
    assert 0 < first < e2e
    assert max(float(label) for label in re.findall(r'request_prompt_tokens_bucket.*le="([\d.]+)"', page)) == 1000
    reading = read_metrics(page)
    assert reading is not None
    assert reading.generation_tokens == tokens
