"""Runs from end to end against servers that do everything wrong: the same data, or an exact error; never a hang.

The tables are in `server_faults`. tests/torture/test_servers.py goes through them one by one, and in pairs.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest
from blockbuster import BlockBuster
from support.cli import check_counts, config, derived, explore, in_process
from support.misbehaving import Behaviour, MisbehavingServer, answer, error, sensible
from support.ordeals import SLACK_S, STOP_S, command, fails, interrupted, run_to_end, undisturbed
from support.server_faults import FAULTS, ODDITIES, Disturbed, is_probe

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return asyncio.run(undisturbed(tmp_path_factory.mktemp("whole")))


async def test_each_fault_once_makes_the_same_bytes(tmp_path: Path) -> None:
    """Whatever a server does wrong with a request the first time, and whatever form the answer then has: the files are
    those of an undisturbed run, the counts add up, nothing was given up, nothing piled up in memory or on stderr.
    """
    target = ("--max-examples", "200")
    async with Disturbed(lambda *_: []) as server:
        assert (await run_to_end(tmp_path, server.url, *target, out="whole")).code == 0
    faults, oddities = list(FAULTS.values()), list(ODDITIES.values())

    def plan(number: int, text: str) -> list[Behaviour]:
        return [faults[number % len(faults)], oddities[number % len(oddities)](text)]

    async with Disturbed(plan) as server:
        result = await run_to_end(tmp_path, server.url, *target)
    assert result.code == 0, result.stderr
    assert server.requests >= max(len(faults), len(oddities))
    assert server.attempts <= 2 * server.requests  # an oddity is no reason to ask again
    assert derived(tmp_path / "run") == derived(tmp_path / "whole")
    check_counts(result.json, tmp_path / "run")
    assert result.json["requests"]["failed"]["total"] == 0
    assert result.json["tokens"]["completion"] < 100 * server.requests


MEBIBYTES = 2**20
CONTENTS = [
    '{"examples": [{"instruction": "Say \\ud83d what\x00 this is", "input": "", "output": "A half\\u0000 emoji."}]}',
    '{"examples": [{"instruction": "Say what this is", "output": ' + "[" * 900 + "]" * 900 + "}]}",
    '{"examples": [{"instruction": "Write a lot", "output": "' + "word " * (2 * MEBIBYTES) + '"}]}',
    '{"examples": [{"instruction": "' + "x" * (10 * MEBIBYTES),
    "[" + "{}," * (3 * MEBIBYTES) + "{}]",
    "<think>" * MEBIBYTES,
    "",
    " ",
    "I am sorry, as a language model I cannot.",
    "### Instruction: \n" * (MEBIBYTES // 2),
]


async def test_contents_of_all_kinds(tmp_path: Path) -> None:
    """Half characters, NUL, ten megabytes of text, of brackets or of nothing, nested beyond reason: what can be read is
    taken, the rest is told, the run ends well, and neither memory nor evidence grows with what was sent.
    """

    def plan(number: int, _text: str) -> list[Behaviour]:
        return [Behaviour(body=answer(CONTENTS[number % len(CONTENTS)]))] if 5 < number < 16 else []

    async with Disturbed(plan) as server:
        result = await run_to_end(tmp_path, server.url)
    assert result.code == 0, result.stderr
    assert result.json["examples"]["kept"] == 100
    check_counts(result.json, tmp_path / "run")
    assert (tmp_path / "run" / "decisions.jsonl").stat().st_size < 10 * MEBIBYTES


@pytest.mark.parametrize(
    ("name", "good"), [("says nothing", 0), ("says nothing", 20), ("429 retry in ten years", 20), ("401", 20)]
)
async def test_a_fault_for_ever_ends_the_run(tmp_path: Path, whole: dict[str, bytes], name: str, good: int) -> None:
    """From the first answer on or from the twentieth: the run ends with code 6, names the endpoint and what it said
    last, leaves files that agree, and the same command before a mended server makes the files of an undisturbed run.
    """
    await fails(tmp_path, name, good)
    async with Disturbed(lambda *_: []) as server:
        assert (await run_to_end(tmp_path, server.url)).code == 0
    assert derived(tmp_path / "run") == whole


CONTEXT = [{"id": "m", "owned_by": "vllm", "max_model_len": 4096}]


async def test_a_run_that_cannot_fit_ends_before_it_costs_anything(tmp_path: Path) -> None:
    """The server tells its context: the run is refused with both numbers, and leaves no directory that another config would
    have to take over. It tells nothing: the first refusals end the run, with the same cure, and what it advises helps.
    """
    tells = Behaviour(body=orjson.dumps({"data": CONTEXT}))
    usage = {"prompt_tokens": 300, "completion_tokens": 1}

    def refuses(body: dict[str, Any], _: int) -> Behaviour:
        if body.get("max_tokens", 4096) > 3500:
            return error(400, "prompt and max_tokens are beyond the maximum context length")
        return Behaviour(body=answer("{}" if is_probe(body) else sensible(body), usage=usage))

    async with MisbehavingServer(refuses, catalogue=lambda *_: tells) as server:
        refused = await explore(*command(tmp_path, server.url))
    assert refused.code == 6, refused.stderr
    for word in ("4096 tokens", "need 4396", "sampling.generation.max_tokens", server.url):
        assert word in refused.json["error"]
    assert not (tmp_path / "run" / "config.json").exists()
    async with MisbehavingServer(refuses) as server:
        ended = await explore(*command(tmp_path, server.url))
        assert ended.code == 6, ended.stderr
        assert "lower sampling.generation.max_tokens (now 4096)" in ended.json["error"]
        assert sum("examples" in str(body) for body in server.bodies) < 100  # refusals cost nothing
        lower = ("--adopt", "--set", "sampling.generation.max_tokens=2000")
        assert (await explore(*command(tmp_path, server.url, *lower))).code == 0


@pytest.mark.parametrize("state", ["connecting", "asked after", "hanging", "429 for ten years"])
async def test_ctrl_c_does_not_wait_for_a_server_that_hangs(tmp_path: Path, state: str) -> None:
    """Whatever keeps the answers away, one Ctrl-C ends the run within seconds, with code 130 and nothing leaked."""
    assert await interrupted(tmp_path, state) < STOP_S + SLACK_S


@pytest.mark.parametrize(
    ("more", "named"),
    [((), "max_tokens"), (("--set", "sampling.generation.max_completion_tokens=3000"), "max_completion_tokens")],
)
def test_a_context_that_is_too_small_is_told_before_a_model_is_loaded(
    tmp_path: Path, blockbuster: BlockBuster, more: tuple[str, ...], named: str
) -> None:
    """vLLM would refuse every request for examples: the run ends with both numbers, and starts no server."""
    blockbuster.deactivate()  # a run opens and closes its files on the loop
    server = ("--set", "operation.server={engine: vllm, model: a/b, context_tokens: 1024}")
    result = in_process("run", config(tmp_path), *server, *more, "--out", tmp_path / "run", "--json")
    assert result.code == 2, result.stderr
    for word in ("operation.server.context_tokens is 1,024", f"Lower sampling.generation.{named}"):
        assert word in result.json["error"]
    assert not (tmp_path / "run" / "server.log").exists()
