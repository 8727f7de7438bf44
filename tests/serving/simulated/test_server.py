"""The simulated server: a pure function of the question behind a real socket."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections import Counter
from typing import Any

import aiohttp
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.waiting import until

from explore_async.errors import ServerError
from explore_async.exploration.values import AnswerSchema, ChatRequest
from explore_async.serving.endpoints.client import EndpointClient, open_session
from explore_async.serving.simulated.engine import Profile
from explore_async.serving.simulated.model import SimulatedModel, TextRequest
from explore_async.serving.simulated.pacing import PrefixCache
from explore_async.serving.simulated.server import Latency, SimulatedServer, serve_simulated

EXAMPLES = {
    "type": "object",
    "properties": {
        "examples": {
            "type": "array",
            "items": {"$ref": "#/$defs/Example"},
            "minItems": 2,
            "maxItems": 5,
        },
        "level": {"enum": ["easy", "hard"]},
        "count": {"type": "integer", "minimum": 1, "maximum": 3},
        "share": {"type": "number"},
        "sure": {"type": "boolean"},
        "note": {"anyOf": [{"type": "string", "minLength": 30, "maxLength": 40}, {"type": "null"}]},
    },
    "required": ["examples", "level", "count"],
    "$defs": {
        "Example": {
            "type": "object",
            "properties": {name: {"type": "string"} for name in ("instruction", "input", "output")},
            "required": ["instruction", "input", "output"],
        }
    },
}


def question(number: int, *, schema: dict[str, Any] | None = None, prompt: str = "Go") -> ChatRequest:
    return ChatRequest(
        "simulated",
        ({"role": "user", "content": f"{prompt} {number}"},),
        {"max_tokens": 2048},
        number,
        None if schema is None else AnswerSchema("answer", schema),
    )


async def answers(server: SimulatedServer, requests: list[ChatRequest], *, concurrency: int):
    slots = asyncio.Semaphore(concurrency)
    async with open_session() as session:
        client = EndpointClient(server.url, session=session)

        async def ask(request: ChatRequest):
            async with slots:
                return await client.ask(request, served_model="simulated", timeout_s=30, priority=request.seed % 5)

        return await asyncio.gather(*map(ask, requests))


async def test_the_same_question_gets_the_same_answer():
    """At any concurrency, order, priority and delay, and from another server: the answer is the question's alone."""
    requests = [question(number, schema=EXAMPLES) for number in range(60)]
    async with SimulatedServer() as server:
        alone = [completion.text for completion in await answers(server, requests, concurrency=1)]
    shuffled = Latency(mean_s=0.01, sigma=1.0, shuffle=5)
    async with SimulatedServer(slots=16, latency=shuffled) as server:
        crowded = [completion.text for completion in await answers(server, requests[::-1], concurrency=60)]
    assert crowded[::-1] == alone
    assert len(set(alone)) == 60


async def test_a_stream_says_the_same():
    """Token by token over the time that the answer takes, the finish reason with the last and then the usage."""
    async with SimulatedServer(latency=Latency(mean_s=0.6)) as server, aiohttp.ClientSession() as session:
        whole = (await answers(server, [question(1)], concurrency=1))[0]
        body = {"model": "simulated", "messages": list(question(1).messages), "max_tokens": 2048, "seed": 1}
        moments, chunks = [], []
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        async with session.post(f"{server.url}/chat/completions", json=body) as response:
            async for line in response.content:
                if line.startswith(b"data: {"):
                    moments.append(time.perf_counter())
                    chunks.append(orjson.loads(line[6:]))
        assert line == b"\n"
    said = [chunk["choices"][0] for chunk in chunks[:-1]]
    assert "".join(choice["delta"].get("content", "") for choice in said) == whole.text
    assert [choice["finish_reason"] for choice in said] == [None] * (len(said) - 1) + [whole.finish_reason]
    assert chunks[-1]["usage"]["completion_tokens"] == whole.completion_tokens
    assert moments[-1] - moments[0] > 0.1


async def test_a_servers_seed_changes_the_answers():
    """Two simulated models disagree."""
    texts = []
    for seed in (0, 1):
        async with SimulatedServer(seed=seed) as server:
            texts.append((await answers(server, [question(1)], concurrency=1))[0].text)
    assert texts[0] != texts[1]


def fits(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    """Validates by hand what the test's schema uses; an oracle as plain as the standard reads."""
    if "$ref" in schema:
        return fits(value, root["$defs"][schema["$ref"].rsplit("/", 1)[1]], root)
    if "enum" in schema:
        return value in schema["enum"]
    if "anyOf" in schema:
        return any(fits(value, option, root) for option in schema["anyOf"])
    match schema["type"]:
        case "object":
            parts = schema["properties"]
            return set(schema.get("required", ())) <= value.keys() <= parts.keys() and all(
                fits(part, parts[name], root) for name, part in value.items()
            )
        case "array":
            return schema["minItems"] <= len(value) <= schema["maxItems"] and all(
                fits(item, schema["items"], root) for item in value
            )
        case "string":
            return isinstance(value, str) and schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", 10**6)
        case "integer":
            return type(value) is int and schema["minimum"] <= value <= schema["maximum"]
        case "number":
            return isinstance(value, float)
        case "boolean":
            return isinstance(value, bool)
    return schema["type"] == "null" and value is None


async def test_answers_fit_the_schema_unless_cut_off():
    """What is finished validates, a few percent break off with finish_reason length, some inputs are empty."""
    async with SimulatedServer() as server:
        completions = await answers(server, [question(n, schema=EXAMPLES) for n in range(300)], concurrency=32)
    finished = [orjson.loads(c.text) for c in completions if c.finish_reason == "stop"]
    assert all(fits(value, EXAMPLES, EXAMPLES) for value in finished)
    assert 1 <= len(completions) - len(finished) <= 30
    assert {c.finish_reason for c in completions} == {"stop", "length"}
    inputs = [example["input"] for value in finished for example in value["examples"]]
    assert 0.2 < inputs.count("") / len(inputs) < 0.6
    assert all(c.prompt_tokens > 0 and c.completion_tokens > 0 for c in completions)


def test_duplicates_are_as_frequent_as_asked():
    """Filters get work: with a duplicate share strings recur, without it hardly ever."""
    schema = {"type": "array", "items": {"type": "string"}, "minItems": 500, "maxItems": 500}
    body = {"messages": [{}], "response_format": {"type": "json_schema", "json_schema": {"schema": schema}}}
    repeats = []
    for share in (0.0, 0.5):
        seed = next(
            n for n in range(9) if SimulatedModel(seed=0, duplicate_share=share).complete(body, bytes([n]))[1] == "stop"
        )
        strings = orjson.loads(SimulatedModel(seed=0, duplicate_share=share).complete(body, bytes([seed]))[0])
        repeats.append(500 - len(set(strings)))
    assert repeats[0] < 25
    assert 150 < repeats[1] < 350


async def test_markers_are_answered_in_kind():
    """Without a schema the markers of the last message come back one to four times, then the end marker."""
    prompt = "Answer like this:\n### Instruction: what\n### Output: that\n### End\nNow"
    async with SimulatedServer(duplicate_share=0) as server:
        completions = await answers(server, [question(n, prompt=prompt) for n in range(40)], concurrency=8)
        plain = (await answers(server, [question(1)], concurrency=1))[0].text
    finished = [c.text for c in completions if c.finish_reason == "stop"]
    counts = {text.count("### Instruction: ") for text in finished}
    assert counts == {1, 2, 3, 4}
    assert all(text.count("### Output: ") == text.count("### Instruction: ") for text in finished)
    assert all(text.endswith("### End") for text in finished)
    assert "###" not in plain


async def test_slots_bound_what_runs_and_latency_delays_it():
    """No more run at once than there are slots; 24 requests of 0.05 s on 8 slots take three rounds."""
    async with SimulatedServer(slots=8, latency=Latency(mean_s=0.05)) as server:
        started = time.perf_counter()
        await answers(server, [question(n) for n in range(24)], concurrency=24)
        statistics = server.statistics()
    assert time.perf_counter() - started >= 0.15
    assert (statistics.peak_in_flight, statistics.in_flight, statistics.waiting) == (8, 0, 0)
    assert statistics.requests == 24


async def test_how_often_each_question_came_is_counted():
    """Tests that claim nothing is asked twice rest on this: priority does not make another question."""
    async with SimulatedServer() as server:
        await answers(server, [question(1), question(1), question(2)], concurrency=3)
        assert sorted(server.statistics().counts_by_digest.values()) == [1, 2]


def test_delays_follow_the_digest_and_the_shuffle():
    """The same question waits the same; another shuffle draws anew; the mean is roughly what was set."""
    calm, other = Latency(1.0, 0.5, shuffle=0), Latency(1.0, 0.5, shuffle=1)
    digests = [number.to_bytes(16) for number in range(2000)]
    delays = [calm.draw_s(digest, 10) for digest in digests]
    assert delays == [calm.draw_s(digest, 10) for digest in digests]
    assert delays != [other.draw_s(digest, 10) for digest in digests]
    assert 0.9 < sum(delays) / 2000 < 1.1
    assert Latency(tokens_per_s=5).draw_s(b"", 10) == 2.0


async def test_a_client_that_leaves_frees_its_slot():
    """As in vLLM: a cancelled request does not hold up the ones behind it."""
    async with SimulatedServer(slots=1, latency=Latency(mean_s=3600)) as server, open_session() as session:
        client = EndpointClient(server.url, session=session)
        asking = asyncio.create_task(client.ask(question(1), served_model="simulated", timeout_s=3600))
        while not server.statistics().in_flight:
            await asyncio.sleep(0.01)
        asking.cancel()
        await until(lambda: not server.statistics().in_flight)


async def test_the_other_pages():
    """Health, the model list, and metrics by vLLM's names; test_surface has more of them."""
    async with SimulatedServer(model="sim") as server, aiohttp.ClientSession() as session:
        root = server.url.removesuffix("/v1")
        async with session.get(f"{root}/health") as response:
            assert response.status == 200
        assert await EndpointClient(server.url, session=session).models() == ["sim"]
        async with session.get(f"{root}/metrics") as response:
            assert 'vllm:num_requests_running{engine="0",model_name="sim"} 0' in await response.text()


async def test_a_port_in_use_is_said_plainly():
    """The second server on a port ends in ServerError, not in a bare OSError."""
    async with SimulatedServer() as server:
        with pytest.raises(ServerError, match="cannot listen"):
            async with SimulatedServer(port=int(server.url.split(":")[2].split("/")[0])):
                pass


async def test_serving_until_cancelled():
    """serve_simulated tells its URL, serves, and closes when cancelled."""
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve_simulated(port=0, on_ready=ready.set_result))
    url = await ready
    async with open_session() as session:
        assert await EndpointClient(url, session=session).models() == ["simulated"]
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving


async def test_a_profile_paces_it():
    """Behind a profile a full batch takes as long as its steps, the prefix cache is hit, and the metrics say so."""
    profile = Profile(slots=4, step_s=0.004, request_s=0.0005, prefill_s=0.00001, kv_tokens=100_000)
    requests = [question(number, prompt="word " * 200) for number in range(12)]
    async with SimulatedServer(profile=profile) as server, open_session() as session:
        began = asyncio.get_running_loop().time()
        completions = await answers(server, requests, concurrency=12)
        seconds = asyncio.get_running_loop().time() - began
        metrics = await EndpointClient(server.url, session=session).metrics()
    tokens = sum(completion.completion_tokens for completion in completions)
    assert seconds > tokens / 4 * (0.004 + 4 * 0.0005) * 0.95
    assert server.statistics().peak_in_flight == 4
    assert metrics is not None
    assert metrics.generation_tokens == tokens
    assert sum(completion.cached_tokens for completion in completions) == metrics.prefix_hits >= 11 * 192
    assert (metrics.running, metrics.waiting, metrics.kv_usage) == (0, 0, 0)


async def test_a_client_that_is_gone_leaves_the_modelled_engine():
    """A connection that is closed frees its place in the batch, as vLLM does."""
    profile = Profile(slots=2, step_s=300.0, request_s=0.0, prefill_s=0.0, kv_tokens=100_000)
    async with SimulatedServer(profile=profile) as server:
        asking = asyncio.create_task(answers(server, [question(1)], concurrency=1))
        while server.statistics().in_flight == 0:
            await asyncio.sleep(0.01)
        asking.cancel()
        await until(lambda: not server.statistics().in_flight)


@given(st.lists(st.sampled_from(["a b " * 20, "c " * 16, "d"]), max_size=8), st.integers(1, 10_000))
def test_the_prefix_cache_knows_whole_blocks_of_what_it_saw(parts: list[str], tokens: int):
    """What is known never exceeds the longest beginning shared with an earlier prompt, and a repeated prompt is known
    up to its last whole block where there is room for it."""
    cache, seen = PrefixCache(tokens), []
    for end in range(len(parts) + 1):
        prompt = "".join(parts[:end])
        words = prompt.split()
        shared = max((len(os.path.commonprefix([words, other])) for other in seen), default=0)
        assert cache.look_up(prompt) <= shared
        seen.append(words)
        again = cache.look_up(prompt)
        assert again % 16 == 0
        if len(words) <= tokens - 16:
            assert again == len(words) // 16 * 16


def test_completions_stay_as_version_0_1_0_made_them() -> None:
    """Benchmarks and earlier results rest on them: schemas of a run, markers and plain texts, cut off or not."""
    examples = {"type": "json_schema", "json_schema": {"name": "examples", "schema": EXAMPLES}}
    markers = "### Instruction: what\n### Input: with\n### Output: that\n### End"
    digest = hashlib.sha256()
    for full_share in (0.0, 1.0):
        model = SimulatedModel(seed=3, duplicate_share=0.2, full_share=full_share)
        for number in range(60):
            for prompt, form, most in (("Go", None, 2048), (markers, None, 60), ("Go", examples, 900)):
                body = {"messages": [{"content": prompt}], "max_tokens": most, "response_format": form}
                digest.update(orjson.dumps(model.complete(body, number.to_bytes(16))))
    assert digest.hexdigest() == "f6dea67a2ac929ab3cceedc3b1e7c962a8f93eec76df6288ee90fda4ed51046c"


@pytest.mark.parametrize("form", ["json", "text"])
def test_most_completions_hold_what_is_asked_for(form: str) -> None:
    """With a share of full texts about so many have all items that the schema or the prompt asks for, the others fewer;
    a list that is too long to be drawn in full gets a shorter one.
    """
    model = SimulatedModel(seed=0, duplicate_share=0.2, full_share=0.9)
    markers = "### Instruction: what\n### End\nWrite 3 poems\n\nWrite 7 new exercises"
    schema = {"type": "array", "items": {"type": "integer"}, "maxItems": 7}
    request = TextRequest(schema=schema) if form == "json" else TextRequest(prompt=markers)
    counts = Counter[int]()
    for number in range(300):
        text = model.write(request, number.to_bytes(2))
        if text.finish_reason == "stop":
            counts[len(orjson.loads(text.text)) if form == "json" else text.text.count("### Instruction:")] += 1
    assert max(counts) == 7
    assert 0.85 < counts[7] / counts.total() < 0.97
    long = TextRequest(schema={"type": "array", "items": {"type": "integer"}, "maxItems": 20_500})
    assert model.write(long, b"long").tokens > 0
