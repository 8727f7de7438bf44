"""What a model thinks, from the server to the export: stored, counted, shown, and never part of an example."""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson
import pyarrow.parquet
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
    assert evidence["completion"]["reasoning"] == whole
    assert "reasoning" not in orjson.loads((tmp_path / "plain" / "run" / "stats.json").read_bytes())


async def test_thoughts_are_exported_on_request(tmp_path: Path):
    """Each example has those of its own completion, in each format that has a place for them, also after a filter; else
    there are none, and the other formats say so.
    """

    def by_seed(body: dict, ordinal: int) -> Behaviour:
        message = {"content": sensible(body), "reasoning": f"thought {body['seed']}"}
        return Behaviour(body=answer(choices=[{"message": message, "finish_reason": "stop"}]))

    run = await made(tmp_path / "runs", by_seed)
    async with CompletionStore(run / "completions.sqlite") as store:
        thoughts = {row.key: row.outcome.reasoning for row in await store.all()}
    await explore("filter", run, "--out", tmp_path / "filtered", "--threshold", "0.9")
    for source in (run, tmp_path / "filtered"):
        examples = {row["output"]: row for row in lines(source / "dataset.jsonl")}
        wanted = {output: thoughts[row["request"]] for output, row in examples.items()}
        for shape, of in (("messages", "messages"), ("prompt-completion", "completion"), ("rows", None)):
            for out in (tmp_path / "out.jsonl", tmp_path / "out.parquet"):
                result = await explore("export", source, "--format", shape, "--out", out, "--reasoning", "--json")
                assert result.json["reasoning"] == len(examples), result.stderr
                rows = lines(out) if out.suffix == ".jsonl" else pyarrow.parquet.read_table(out).to_pylist()
                answers = [row[of][-1] if of else row for row in rows]
                assert {one["content" if of else "output"]: one["reasoning_content"] for one in answers} == wanted
    await explore("export", run, "--format", "messages", "--out", tmp_path / "plain.jsonl")
    assert b"reasoning" not in (tmp_path / "plain.jsonl").read_bytes()
    refused = await explore("export", run, "--format", "alpaca", "--out", tmp_path / "no.jsonl", "--reasoning")
    assert refused.code == 2
    assert "--format alpaca has no place for it; rows, messages, prompt-completion have one" in refused.stderr
    (run / "completions.sqlite").unlink()
    gone = await explore("export", run, "--format", "messages", "--out", tmp_path / "no.jsonl", "--reasoning")
    assert gone.code == 5
    assert "there are no stored completions" in gone.stderr


def lines(path: Path) -> list[dict]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]
