"""Run directories made by version 0.1.0 (tests/earlier_runs) keep their meaning: same bytes from the same completions."""

from __future__ import annotations

import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest
from blockbuster import BlockBuster
from earlier_runs.make import COMMANDS, digests
from support.cli import in_process

from explore_async.storage.rows import checksum

ARCHIVES = sorted((Path(__file__).parent / "earlier_runs").glob("*.tar.xz"))


@pytest.fixture(params=ARCHIVES, ids=lambda path: path.name.removesuffix(".tar.xz"))
def earlier(request, tmp_path) -> Path:
    """The folder of an unpacked archive: `run`, the config beside it, and what is expected of both."""
    with tarfile.open(request.param) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / request.param.name.removesuffix(".tar.xz")


@pytest.fixture(autouse=True)
def commands_may_block(blockbuster: BlockBuster) -> None:
    """A command opens and closes files on its loop, and nothing else runs there."""
    blockbuster.deactivate()


def expected_of(folder: Path) -> dict[str, Any]:
    return orjson.loads((folder / "expected.json").read_bytes())


def run(folder: Path, *more: str) -> int:
    config, *options = expected_of(folder)["arguments"]
    config = folder / config if config.endswith(".yaml") else config
    result = in_process(
        "run", config, *options, "--out", folder / "run", "--set", "operation.report=false", "--quiet", *more
    )
    assert not result.code, result.stderr
    return result.code


def test_stored_completions_lead_to_the_same_bytes(earlier):
    """With everything derived removed, --offline makes the same dataset, tree and decisions from the stored completions,
    and the recipe keeps its digest.
    """
    config = orjson.loads((earlier / "run" / "config.json").read_bytes())
    for path in (earlier / "run").iterdir():
        if path.name not in {"config.json", "completions.sqlite"}:
            path.unlink()
    run(earlier, "--offline")
    assert digests(earlier / "run") == expected_of(earlier)["files"]["run"]
    assert orjson.loads((earlier / "run" / "config.json").read_bytes())["digest"] == config["digest"]


def test_a_finished_run_replays_without_an_endpoint(earlier):
    """The same command again finds every completion stored: nothing is asked of an endpoint that does not exist, the
    files stay as they are, and the doctor finds nothing wrong.
    """
    run(earlier, "--endpoint", "http://127.0.0.1:1/v1")
    assert digests(earlier / "run") == expected_of(earlier)["files"]["run"]
    if earlier.name != "two-domains":  # whose data of `against` lies elsewhere now, which the doctor rightly says
        assert in_process("doctor", earlier / "run").code == 0


def test_a_run_without_its_recipe_goes_on_by_the_rules_that_it_began_with(earlier):
    """Where config.json is lost, --adopt with the same config uses every stored completion, and asks no endpoint."""
    before = orjson.loads((earlier / "run" / "config.json").read_bytes())["digest"]
    (earlier / "run" / "config.json").unlink()
    run(earlier, "--adopt", "--endpoint", "http://127.0.0.1:1/v1")
    assert digests(earlier / "run") == expected_of(earlier)["files"]["run"]
    assert orjson.loads((earlier / "run" / "config.json").read_bytes())["digest"] == before


def test_a_run_keeps_the_reader_that_it_began_with(tmp_path):
    """LaTeX with one backslash stays what the earlier reader made of it when the run goes on, so that no byte changes;
    `reparse` reads the same completions as they were meant.
    """
    with tarfile.open(Path(__file__).parent / "earlier_runs" / "mathematics.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    folder = tmp_path / "mathematics"
    with closing(sqlite3.connect(folder / "run" / "completions.sqlite")) as store, store:
        for *fields, _ in store.execute("SELECT * FROM outcomes WHERE kind = 'generate'").fetchall():
            outcome = orjson.loads(fields[6])
            outcome["text"] = outcome["text"].replace('"output":"', r'"output":"\frac{1}{2} \times 2. ')
            fields[6] = orjson.dumps(outcome)
            store.execute(
                "UPDATE outcomes SET outcome = ?, checksum = ? WHERE key = ?", (fields[6], checksum(*fields), fields[0])
            )
    for name in ("dataset.jsonl", "decisions.jsonl", "tree.json", "stats.json"):
        (folder / "run" / name).unlink()
    run(folder, "--offline")
    outputs = _outputs(folder / "run")
    assert outputs
    assert all(output.startswith("rac{1}{2} \times 2.") for output in outputs)
    assert orjson.loads((folder / "run" / "config.json").read_bytes())["recipe"]["meaning"] == 2
    assert in_process("doctor", folder / "run").code == 0
    assert in_process("reparse", folder / "run", "--out", tmp_path / "again").code == 0
    again = _outputs(tmp_path / "again")
    assert len(again) >= len(outputs)
    assert all(output.startswith(r"\frac{1}{2} \times 2.") for output in again)


def _outputs(folder: Path) -> list[str]:
    return [orjson.loads(line)["output"] for line in (folder / "dataset.jsonl").read_bytes().splitlines()]


@pytest.mark.parametrize("output", COMMANDS)
def test_commands_make_the_same_files_of_it(earlier, tmp_path, output):
    """Exports, samples and filters of an earlier run have the bytes that version 0.1.0 wrote."""
    target = tmp_path / output
    places = {"RUN": earlier / "run", "OUT": target}
    assert in_process(*(places.get(part, part) for part in COMMANDS[output])).code == 0
    assert digests(target) == expected_of(earlier)["files"][output]
