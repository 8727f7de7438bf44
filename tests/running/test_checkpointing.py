"""A run that goes on from a checkpoint is the run that replays everything, but for the time it takes."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.cli import PRELOAD, ROOT, Finished, check_counts, config, derived, explore, finished, launch
from support.damage import altered, cases, in_json
from support.misbehaving import OVERFLOW, Behaviour, MisbehavingServer, answer, sensible

from explore_async.exploration.explorer import Explorer
from explore_async.running.checkpointing import StartingPoint, from_checkpoint
from explore_async.running.tally import Tally
from explore_async.serving.simulated.server import Latency, SimulatedServer
from explore_async.settings.recipe import Recipe
from explore_async.storage.completions import read_contents
from explore_async.storage.directory import RunDirectory

OFTEN = {"PYTHONPATH": os.pathsep.join(map(str, (PRELOAD, ROOT, ROOT / "kernels"))), "CHECKPOINT_EVERY": "40"}
"""The environment of a run that writes a checkpoint every 40 examples."""
TARGET = ("--window", "96", "--max-examples", "360", "--concurrency", "8", "--json")
NOBODY = "http://127.0.0.1:9/v1"


async def run(directory: Path, url: str, *more: str | Path) -> Finished:
    path = config(directory.parent)
    return await explore("run", path, "--endpoint", url, "--out", directory, *TARGET, *more, **OFTEN)


async def stopped_midway(directory: Path, url: str, number: signal.Signals) -> None:
    """A run is left as it is stopped some time after its first checkpoint."""
    process = await launch(
        *("run", config(directory.parent), "--endpoint", url, "--out", directory, *TARGET),
        **OFTEN,
    )
    while not (directory / "checkpoint.json").exists():
        assert process.returncode is None
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    process.send_signal(number)
    await finished(process)


def counts(result: Finished) -> dict[str, Any]:
    """What is counted of a run, however it came to its end."""
    return {name: result.json[name] for name in ("requests", "tokens", "tasks", "examples", "ending")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A finished run with a checkpoint on its way, and its counts."""

    async def made() -> tuple[Path, dict[str, Any]]:
        directory = tmp_path_factory.mktemp("whole") / "run"
        async with SimulatedServer(64, Latency(0.02)) as server:
            result = await run(directory, server.url)
        assert result.code == 0, result.stderr
        return directory, counts(result)

    return asyncio.run(made())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_stopped_run_goes_on_from_its_checkpoint(
    tmp_path: Path, whole: tuple[Path, dict[str, Any]], number: signal.Signals
) -> None:
    """It says so, reads fewer answers than are stored, asks nothing again, and ends in the same bytes and counts."""
    async with SimulatedServer(64, Latency(0.02)) as server:
        await stopped_midway(tmp_path / "run", server.url, number)
        before = server.statistics().requests
        result = await run(tmp_path / "run", server.url)
        assert result.code == 0, result.stderr
        asked = server.statistics().requests - before
    undisturbed, expected = whole
    assert "going on from a checkpoint" in result.stderr
    assert derived(tmp_path / "run") == derived(undisturbed)
    assert counts(result) == expected
    check_counts(result.json, tmp_path / "run")
    now = result.json["this_time"]
    assert now["replayed"] + now["asked"] < expected["requests"]["total"]
    assert asked <= now["asked"] + 3  # a few find out whether the endpoint can serve the recipe


async def test_a_finished_run_is_over_at_once(tmp_path: Path, whole: tuple[Path, dict[str, Any]]) -> None:
    """Run again it goes on from its checkpoint, contacts nobody and leaves every byte."""
    shutil.copytree(whole[0], tmp_path / "run")
    result = await run(tmp_path / "run", NOBODY)
    assert result.code == 0, result.stderr
    assert "going on from a checkpoint" in result.stderr
    assert counts(result) == whole[1]
    assert result.json["this_time"]["asked"] == 0
    assert result.json["this_time"]["replayed"] < whole[1]["requests"]["total"]
    assert derived(tmp_path / "run") == derived(whole[0])


def said_otherwise(**said: Any) -> Callable[[Path], None]:
    """What another program, or a hand, could have left there, with a checksum that fits."""

    def changed(directory: Path) -> None:
        path = directory / "checkpoint.json"
        head, body = path.read_bytes().split(b"\n", 1)
        body = orjson.dumps({**orjson.loads(body), **{name: one for name, one in said.items() if name != "code"}})
        told = {**orjson.loads(head), "crc": zlib.crc32(body)}
        told |= {"code": said["code"]} if "code" in said else {}
        path.write_bytes(orjson.dumps(told) + b"\n" + body)

    return changed


def flipped(name: str) -> Callable[[Path], None]:
    def changed(directory: Path) -> None:
        body = bytearray((directory / name).read_bytes())
        body[len(body) // 20] ^= 1  # of a place that the first checkpoint has
        (directory / name).write_bytes(body)

    return changed


def cut(name: str) -> Callable[[Path], None]:
    def changed(directory: Path) -> None:
        body = (directory / name).read_bytes()
        (directory / name).write_bytes(body[: len(body) // 20])

    return changed


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (flipped("checkpoint.json"), "not what was written"),
        (cut("checkpoint.json"), "not what was written"),
        (lambda directory: (directory / "checkpoint.json").write_bytes(b""), "not what was written"),
        (lambda directory: (directory / "checkpoint.json").write_bytes(b"[]\n[]"), "not what was written"),
        (said_otherwise(code="0"), "another version"),
        (said_otherwise(digest="0"), "another recipe"),
        (said_otherwise(answers=10**9), "are gone"),
        (said_otherwise(tally={}, explorer={}), "all is replayed"),
        (said_otherwise(explorer=[1]), "all is replayed"),
        (cut("dataset.jsonl"), "dataset.jsonl has changed since"),
        (cut("decisions.jsonl"), "decisions.jsonl has changed since"),
        (lambda directory: (directory / "dataset.jsonl").unlink(), "dataset.jsonl has changed since"),
    ],
)
def test_one_that_does_not_fit_is_not_used(
    tmp_path: Path, whole: tuple[Path, dict[str, Any]], change: Callable[[Path], None], why: str
) -> None:
    """Whatever has become of it or of the files it speaks of: a run begins at nothing, says why, and it is gone."""
    shutil.copytree(whole[0], tmp_path / "run")
    change(tmp_path / "run")
    directory, told = RunDirectory(tmp_path / "run"), []
    recipe = directory.recipe(Recipe)
    answers, begin = read_contents(directory.completions).last_row, partial(StartingPoint.new, recipe, ())
    new = from_checkpoint(begin(), begin, directory, answers=answers, report=told.append)
    assert new.marks is None
    assert new.explorer.state() == Explorer(recipe).state()
    assert new.tally.state() == Tally().state()
    assert why in told[-1]
    assert "all is replayed" in told[-1]
    assert not directory.checkpoint.exists()


@cases(60)
@given(st.data())
def test_whatever_it_says_nothing_falls_over(
    tmp_path: Path, whole: tuple[Path, dict[str, Any]], data: st.DataObject
) -> None:
    """Any value in any place of one with a checksum that fits: a run begins somewhere, or at nothing and says why."""
    shutil.copytree(whole[0], tmp_path / "run", dirs_exist_ok=True)
    path = tmp_path / "run" / "checkpoint.json"
    head, body = path.read_bytes().split(b"\n", 1)
    body = in_json(data.draw(altered(orjson.loads(body))))
    path.write_bytes(orjson.dumps({**orjson.loads(head), "crc": zlib.crc32(body)}) + b"\n" + body)
    directory, told = RunDirectory(tmp_path / "run"), []
    begin = partial(StartingPoint.new, directory.recipe(Recipe), ())
    standing = from_checkpoint(begin(), begin, directory, answers=10**6, report=told.append)
    assert standing.marks is not None or "all is replayed" in told[-1]


async def test_without_it_all_is_replayed(tmp_path: Path, whole: tuple[Path, dict[str, Any]]) -> None:
    """A run whose dataset was cut since says so, replays everything and completes it to the same bytes."""
    shutil.copytree(whole[0], tmp_path / "run")
    cut("dataset.jsonl")(tmp_path / "run")
    result = await run(tmp_path / "run", NOBODY)
    assert result.code == 0, result.stderr
    assert "dataset.jsonl has changed since the checkpoint was written; all is replayed" in result.stderr
    assert result.json["this_time"]["replayed"] >= whole[1]["requests"]["total"]
    assert counts(result) == whole[1]
    assert derived(tmp_path / "run") == derived(whole[0])


@pytest.mark.parametrize("name", ["dataset.jsonl", "decisions.jsonl"])
async def test_an_edited_file_is_named_all_the_same(
    tmp_path: Path, whole: tuple[Path, dict[str, Any]], name: str
) -> None:
    """A changed letter in a file that the checkpoint goes by is found and named with its line, as without one."""
    shutil.copytree(whole[0], tmp_path / "run")
    lines = (tmp_path / "run" / name).read_bytes().splitlines(keepends=True)
    lines[7] = lines[7].replace(b":", b": ", 1)
    (tmp_path / "run" / name).write_bytes(b"".join(lines))
    result = await run(tmp_path / "run", NOBODY)
    assert result.code == 4
    assert f"{name}, line 8" in result.json["error"]


async def test_another_recipe_begins_at_nothing(tmp_path: Path, whole: tuple[Path, dict[str, Any]]) -> None:
    """--adopt of another filter derives everything anew, whatever the checkpoint of the old recipe says."""
    shutil.copytree(whole[0], tmp_path / "run")
    offline = ("--offline", "--set", "filters.threshold=0.3")
    result = await run(tmp_path / "run", NOBODY, *offline)
    assert result.code == 0, result.stderr
    assert "checkpoint" not in result.stderr
    check_counts(result.json, tmp_path / "run")
    shutil.copytree(whole[0], tmp_path / "other")
    (tmp_path / "other" / "checkpoint.json").unlink()
    await run(tmp_path / "other", NOBODY, *offline)
    assert derived(tmp_path / "run") == derived(tmp_path / "other")


def _well(body: dict[str, Any]) -> Behaviour:
    return Behaviour(body=answer(sensible(body)))


async def test_failures_asked_again_begin_at_nothing(tmp_path: Path) -> None:
    """A run with final failures, run again, asks nothing; with `operation.retry_failed` it derives all anew, and its
    files are those of a run in which nothing failed.
    """
    async with MisbehavingServer(lambda body, ordinal: OVERFLOW if ordinal % 9 == 8 else _well(body)) as ill:
        first = await run(tmp_path / "run", ill.url, "--model", "m")
        assert first.code == 0, first.stderr
        assert first.json["requests"]["failed"]["total"] > 0
        asked = len(ill.bodies)
        again = await run(tmp_path / "run", ill.url, "--model", "m")
        assert again.code == 0
        assert len(ill.bodies) == asked
        assert again.json["this_time"]["asked"] == 0
        assert counts(again) == counts(first)
    async with MisbehavingServer(lambda body, _: _well(body)) as well:
        mended = await run(tmp_path / "run", well.url, "--model", "m", "--set", "operation.retry_failed=true")
        assert mended.code == 0, mended.stderr
        assert mended.json["requests"]["failed"]["total"] == 0
        await run(tmp_path / "other", well.url, "--model", "m")
    assert derived(tmp_path / "run") == derived(tmp_path / "other")


async def test_the_doctor_tells_whether_it_fits(tmp_path: Path, whole: tuple[Path, dict[str, Any]]) -> None:
    """It says how far it goes, or why it is not used, and that is no fault; a repair removes one that is not."""

    async def examined(*more: str) -> tuple[int, dict[str, Any]]:
        result = await explore("doctor", tmp_path / "run", "--json", *more)
        checks = {check["check"]: check for check in result.json["checks"]}
        return result.code, checks.get("checkpoint.json", {})

    shutil.copytree(whole[0], tmp_path / "run")
    code, check = await examined()
    assert (code, check["state"]) == (0, "ok")
    flipped("checkpoint.json")(tmp_path / "run")
    code, check = await examined()
    assert (code, check["state"]) == (0, "note")
    assert "replay everything" in check["says"]
    flipped("checkpoint.json")(tmp_path / "run")
    flipped("dataset.jsonl")(tmp_path / "run")
    assert (await examined())[0] == 4
    code, check = await examined("--repair")
    assert (code, check["says"]) == (0, "removed: the next start replays everything")
    assert not (tmp_path / "run" / "checkpoint.json").exists()
    assert derived(tmp_path / "run") == derived(whole[0])
