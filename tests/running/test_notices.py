"""Progress and summary of a run say when a server does not do what the run counts on, though it goes on."""

from __future__ import annotations

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
