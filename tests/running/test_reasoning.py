"""What a model thinks, from the server to the export: stored, counted, shown, and never part of an example."""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson
from support.cli import check_counts, config, derived, explore
from support.misbehaving import Behaviour, MisbehavingServer, answer, sensible

from explore_async.storage.completions import CompletionStore
from explore_async.web import reading

THOUGHT = "First the roses,\nthen the birds."
DRAFT = '{"examples": [{"instruction": "A draft that nobody wants", "input": "", "output": "x"}]}'


def thinking(body: dict, ordinal: int) -> Behaviour:
    """A server that tells thoughts apart for every other request, and leaves them in the text for the rest."""
    text = sensible(body)
    apart = body["seed"] % 2 == 0
    message = {"content": text if apart else f"<think>{THOUGHT} {DRAFT}</think>\n{text}"}
    if apart:
        message["reasoning_content"] = f"{THOUGHT} {DRAFT}"
    usage = {"prompt_tokens": 5, "completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 4}}
    return Behaviour(body=answer(choices=[{"message": message, "finish_reason": "stop"}], usage=usage))


def plain(body: dict, ordinal: int) -> Behaviour:
    return Behaviour(body=answer(sensible(body)))


async def made(folder: Path, script) -> Path:
    folder.mkdir()
    async with MisbehavingServer(script) as server:
        result = await explore(
            *("run", config(folder), "--endpoint", server.url, "--out", folder / "run"),
            *("--max-examples", "30", "--window", "16", "--json"),
        )
    assert result.code == 0, result.stderr
    return folder / "run"


async def test_thoughts_change_no_byte_and_are_kept(tmp_path: Path):
    """The data is that of a model that does not think; each completion has its thoughts, in the store, in the counts,
    in `show` and in the view.
    """
    run = await made(tmp_path / "thinking", thinking)
    assert derived(run) == derived(await made(tmp_path / "plain", plain))
    stats = orjson.loads((run / "stats.json").read_bytes())
    check_counts(stats, run)
    requests = stats["requests"]["total"]
    whole = f"{THOUGHT} {DRAFT}"
    assert stats["reasoning"] == {
        "completions": requests, "characters": requests * len(whole), "tokens": 4 * requests,
    }  # fmt: skip
    async with CompletionStore(run / "completions.sqlite") as store:
        stored = {row.key: row.outcome for row in await store.all()}
    apart = {key: outcome for key, outcome in stored.items() if outcome.reasoning}
    assert 0 < len(apart) < len(stored)
    assert {outcome.reasoning for outcome in apart.values()} == {whole}
    key = next(iter(apart))
    shown = await explore("show", run, key)
    assert "reasoning\n  First the roses,\n  then the birds." in shown.stdout
    evidence = await asyncio.to_thread(reading.exchange, run, key)
    assert evidence["answer"]["reasoning"] == whole
    assert "reasoning" not in orjson.loads((tmp_path / "plain" / "run" / "stats.json").read_bytes())
