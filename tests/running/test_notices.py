"""Progress and summary of a run say when a server does not do what the run counts on, though it goes on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from support.cli import Finished, config, explore
from support.misbehaving import Behaviour, MisbehavingServer, answer, sensible

pytestmark = pytest.mark.timeout(180)


async def run(folder: Path, server: MisbehavingServer, *more: str) -> Finished:
    """A run with its summary, at one request at a time."""
    return await explore("run", config(folder), "--endpoint", server.url, "--out", folder / "run", *more)


def stats_of(folder: Path) -> dict[str, Any]:
    return orjson.loads((folder / "run" / "stats.json").read_bytes())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "their tokens are not counted."),
        (["--token-budget", "100"], "the token budget counts nothing of them."),
        (["--set", "targets={token_budget: 2000}"], "the token budget counts one for four characters"),
    ],
)
async def test_a_server_that_counts_no_tokens(tmp_path: Path, options: list[str], said: str) -> None:
    """Progress says so once, the summary with the number of completions and what a token budget makes of it."""

    def script(body: dict[str, Any], _: int) -> Behaviour:
        return Behaviour(body=answer(sensible(body), usage=None))

    async with MisbehavingServer(script) as server:
        result = await run(tmp_path, server, *options)
    assert result.code == 0
    stats = stats_of(tmp_path)
    assert stats["without_usage"] == stats["requests"]["total"]
    (told,) = (line for line in result.stderr.splitlines() if "reports no usage" in line)
    assert server.url in told
    assert f"{stats['without_usage']} completions came without usage" in result.stderr
    assert said in result.stderr


async def test_a_server_that_counts_in_floats(tmp_path: Path) -> None:
    """Whole numbers are counts whatever their type, and end a token budget."""

    def script(body: dict[str, Any], _: int) -> Behaviour:
        return Behaviour(body=answer(sensible(body), usage={"prompt_tokens": 100.0, "completion_tokens": 50.0}))

    async with MisbehavingServer(script) as server:
        result = await run(tmp_path, server, "--token-budget", "1000")
    assert result.code == 0
    stats = stats_of(tmp_path)
    assert stats["ending"] == "token_budget"
    assert stats["tokens"]["prompt"] == 2 * stats["tokens"]["completion"] > 0
    assert "usage" not in result.stderr


def turning_bad(after: int, body: bytes) -> Any:
    """A script: good completions, from a number on this body."""

    def script(asked: dict[str, Any], ordinal: int) -> Behaviour:
        return Behaviour(body=answer(sensible(asked)) if ordinal < after else body)

    return script


EMPTY = answer(choices=[{"message": {"content": ""}, "finish_reason": "content_filter"}])


@pytest.mark.parametrize(
    ("body", "reason", "filtered"), [(answer("I am sorry."), "unparsable", False), (EMPTY, "truncated", True)]
)
async def test_a_server_that_turns_bad(tmp_path: Path, body: bytes, reason: str, *, filtered: bool) -> None:
    """The run ends where nothing more comes, with code 0: its summary says that it missed its target, by how much, why,
    and how to ask again; run.log says so, too. A finish reason that explains it is counted, and `show` has it.
    """
    async with MisbehavingServer(turning_bad(12, body)) as server:
        result = await run(tmp_path, server, "--concurrency", "1")
    assert result.code == 0
    stats = stats_of(tmp_path)
    kept, dropped = stats["examples"]["kept"], stats["examples"]["dropped"]
    assert (stats["ending"], 0 < kept < 100) == ("complete", True)
    assert f"The target is missed: {kept} of 100 examples are kept. Dropped as {reason}: " in result.stderr
    assert f" of {dropped['total']}; `explore-async show {tmp_path / 'run'} --dropped {reason}`" in result.stderr
    assert "--fresh asks for everything again" in result.stderr
    assert f"{kept} examples kept of 100" in (tmp_path / "run" / "run.log").read_text()
    assert ("content_filter" in stats) is filtered
    assert ("ended by the server's content filter" in result.stderr) is filtered
    lines = [orjson.loads(line) for line in (tmp_path / "run" / "decisions.jsonl").read_bytes().splitlines()]
    key = next(line["request"] for line in lines if line.get("reason") == reason)
    shown = await explore("show", tmp_path / "run", key)
    assert f"finish reason  {'content_filter' if filtered else 'stop'}" in shown.stdout
    assert ("(empty)" in shown.stdout) is filtered
    assert (await explore("doctor", tmp_path / "run")).code == 0


async def test_a_target_that_is_reached_is_not_missed(tmp_path: Path) -> None:
    """A run that ends as it should says nothing of the kind, whatever it dropped on the way."""
    async with MisbehavingServer(turning_bad(10**6, b"")) as server:
        result = await run(tmp_path, server, "--max-examples", "20")
    assert result.code == 0
    assert stats_of(tmp_path)["ending"] == "target"
    assert "missed" not in result.stderr


async def test_verdicts_of_checks_are_no_requests_to_a_server(tmp_path: Path) -> None:
    """The summary counts apart what a check on this machine judged: so the requests are those that were sent."""
    command = [sys.executable, "-c", "for _ in iter(input, None): print('{\"ok\": true}', flush=True)"]
    checks = orjson.dumps([{"name": "mine", "command": command}]).decode()
    async with MisbehavingServer(turning_bad(10**6, b"")) as server:
        result = await run(tmp_path, server, "--max-examples", "20", "--set", f"checks={checks}")
    assert result.code == 0, result.stderr
    stats = stats_of(tmp_path)
    verdicts = stats["requests"]["check"]
    sent = stats["requests"]["total"] - verdicts
    assert verdicts >= 20
    assert f"{sent} judged, and {verdicts} verdicts of checks on this machine" in result.stderr


async def test_a_template_that_does_not_name_its_task(tmp_path: Path) -> None:
    """A dry run warns of it, and a run says it before the first request, and goes on."""
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "generate.j2").write_text("[user]\nWrite {{ count }} examples.\n")
    own = ("--set", f"prompts={tmp_path / 'prompts'}")
    async with MisbehavingServer(turning_bad(10**6, b"")) as server:
        result = await run(tmp_path, server, "--max-examples", "20", *own)
    assert result.code == 0, result.stderr
    said = "generate.j2 does not show {{ task }}"
    assert [said in line for line in result.stderr.splitlines()].count(True) == 1
    dry = await explore("run", config(tmp_path), "--dry-run", *own)
    assert f"warning: prompts: {said}" in dry.stdout
