"""The embedded server with a real, small model: it answers, and it is never left behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from pathlib import Path

import aiohttp
import pytest
from support.waiting import until

import explore_async
from explore_async.errors import ConfigError, EndpointUnavailable, ServerError
from explore_async.serving.servers import embedded
from explore_async.serving.servers.embedded import EmbeddedServer, choose_threads
from explore_async.serving.servers.models import fetch

ROOT = Path(explore_async.__file__).parents[1]
SCHEMA = {
    "type": "object",
    "properties": {"instruction": {"type": "string", "maxLength": 60}, "output": {"type": "string", "maxLength": 60}},
    "required": ["instruction", "output"],
    "additionalProperties": False,
}
SHARED = "You write short examples of instructions and their outputs for many tasks. " * 20


async def ask(url, text, *, seed=7, max_tokens=96, system="Be brief."):
    body = {
        "model": "smollm2-135m",
        "messages": [{"role": "system", "content": system}, {"role": "user", "content": text}],
        "seed": seed,
        "temperature": 0.8,
        "max_tokens": max_tokens,
        "response_format": {"type": "json_schema", "json_schema": {"name": "example", "schema": SCHEMA}},
    }
    async with aiohttp.ClientSession() as session, session.post(f"{url}/chat/completions", json=body) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


def text_of(answer):
    return answer["choices"][0]["message"]["content"]


def gone(pid):
    """Ended, be it that nobody has asked for its exit code yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False


def connects(url):
    host, _, port = url.removeprefix("http://").removesuffix("/v1").partition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.mark.model
async def test_an_answer_under_a_schema_parses(small_server):
    """json_schema reaches llama.cpp: even a model that writes nonsense writes it in the schema's form."""
    example = json.loads(text_of(await ask(small_server.url, "Write an example about gardens.")))
    assert set(example) == {"instruction", "output"}
    assert all(isinstance(value, str) for value in example.values())


@pytest.mark.model
async def test_the_same_seed_gives_the_same_answer(small_server):
    """Asked one after the other from the same state of the cache, the seed alone decides."""
    question = "Write an example about rivers."
    await ask(small_server.url, question, max_tokens=24)
    same = [text_of(await ask(small_server.url, question, max_tokens=24)) for _ in range(2)]
    other = [text_of(await ask(small_server.url, question, max_tokens=24, seed=seed)) for seed in (8, 9)]
    assert same[0] == same[1]
    assert set(other) != {same[0]}


@pytest.mark.model
async def test_a_shared_prefix_is_computed_once_a_slot(small_server):
    """After one request on each slot, a prompt with the same beginning costs its own end only, on both slots."""
    for numbers in ((1, 2), (3, 4)):
        answers = await asyncio.gather(
            *(ask(small_server.url, f"Number {n}.", max_tokens=8, system=SHARED) for n in numbers)
        )
    for answer in answers:
        usage = answer["usage"]
        assert usage["prompt_tokens"] > 200
        assert usage["prompt_tokens_details"]["cached_tokens"] > 0.8 * usage["prompt_tokens"]


@pytest.mark.model
async def test_what_the_server_says_of_itself(small_server):
    """It serves the name it was given and its metrics, and neither pages of any origin nor other requests' prompts."""
    base = small_server.url.removesuffix("/v1")
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{base}/v1/models", headers={"Origin": "http://evil.example"}) as answer:
            assert [model["id"] for model in (await answer.json())["data"]] == ["smollm2-135m"]
            assert answer.headers["Access-Control-Allow-Origin"] not in {"*", "http://evil.example"}
        async with session.get(f"{base}/metrics") as answer:
            assert "llamacpp:" in await answer.text()
        async with session.get(f"{base}/slots") as answer:
            assert not answer.ok
    assert 0 < small_server.started_in_s < 180


@pytest.mark.model
async def test_leaving_closes_the_port_and_ends_the_process(tmp_path):
    """Nothing is left after `async with`, and the log lies where it was asked for."""
    log = tmp_path / "server.log"
    path = await asyncio.to_thread(fetch, "smollm2-135m")
    async with EmbeddedServer(path, model_name="m", context_tokens=256, log_path=log) as server:
        pid, url = server.pid, server.url
        assert connects(url)
    assert gone(pid)
    assert not connects(url)
    assert log.exists()


@pytest.mark.model
async def test_a_server_that_died_explains_the_lost_endpoint():
    """The caller sees an unreachable endpoint; leaving the server turns that into the reason."""
    path = await asyncio.to_thread(fetch, "smollm2-135m")
    with pytest.raises(ServerError, match=r"died \(signal 9\)") as caught:  # noqa: PT012
        async with EmbeddedServer(path, model_name="m", context_tokens=256) as server:
            os.kill(server.pid, signal.SIGKILL)
            await until(lambda: not connects(server.url))
            await asyncio.sleep(0.2)
            raise EndpointUnavailable("connection refused")
    assert isinstance(caught.value.__cause__, EndpointUnavailable)


@pytest.mark.model
async def test_kill_9_of_the_parent_leaves_no_server_behind():
    """The parent has no chance to clean up; the kernel and the pipe do it."""
    path = await asyncio.to_thread(fetch, "smollm2-135m")
    program = f"""
import asyncio
from pathlib import Path
from explore_async.serving.servers.embedded import EmbeddedServer
async def main():
    async with EmbeddedServer(Path({str(path)!r}), model_name="m", context_tokens=256) as server:
        print(server.pid, server.url, flush=True)
        await asyncio.sleep(600)
asyncio.run(main())
"""
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    pid, url = (await parent.stdout.readline()).decode().split()
    assert connects(url)
    parent.kill()
    await parent.wait()
    await until(lambda: gone(int(pid)) and not connects(url))


async def test_a_broken_model_gives_the_tail_of_the_log(tmp_path):
    """The server refuses the file; its own words are in the error."""
    pytest.importorskip("xllamacpp")
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + b"x" * 100)
    with pytest.raises(ServerError, match="failed to load model") as caught:
        async with EmbeddedServer(broken, model_name="m"):
            pass
    assert "broken.gguf did not start (code 1)" in str(caught.value)


async def test_a_missing_model_file_is_named_before_anything_starts(tmp_path):
    pytest.importorskip("xllamacpp")
    with pytest.raises(ConfigError, match=r"nowhere\.gguf"):
        async with EmbeddedServer(tmp_path / "nowhere.gguf", model_name="m"):
            pass


async def test_a_server_that_never_comes_up_is_given_up_and_ended(tmp_path, monkeypatch):
    """The deadline of the start holds, and the process does not stay."""
    pytest.importorskip("xllamacpp")
    model = tmp_path / "model.gguf"
    model.write_bytes(b"GGUF")
    monkeypatch.setattr(embedded, "_START_DEADLINE_S", 0.0)
    server = EmbeddedServer(model, model_name="m")
    with pytest.raises(ServerError, match="did not start within"):
        await server.__aenter__()
    assert gone(server.pid)


async def test_without_xllamacpp_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ServerError, match=r"pip install 'explore-async\[embedded\]'"):
        async with EmbeddedServer(tmp_path / "model.gguf", model_name="m"):
            pass


def test_there_is_at_least_one_thread_and_no_more_than_cpus():
    assert 1 <= choose_threads() <= os.cpu_count()
