"""A real run's directory judged anew, and an imported tree explored on: the real command line, real answers."""

from __future__ import annotations

import ast
from pathlib import Path

import orjson
import pytest
import yaml
from rouge_score.rouge_scorer import RougeScorer
from support.cli import config, derived, explore
from support.originals import original_folder

from explore_async.exploration.parsing import ExampleDraft, parse_examples
from explore_async.serving.simulated.server import Latency, SimulatedServer
from explore_async.storage.completions import CompletionStore

pytestmark = pytest.mark.timeout(180)
SCORER = RougeScorer(["rougeL"])


def lines(path: Path) -> list[dict]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


async def made(folder: Path, *more: str, duplicate_share: float = 0.3) -> Path:
    """A finished run before a server that is then gone."""
    async with SimulatedServer(64, Latency(0.005, 0.5), duplicate_share=duplicate_share) as server:
        result = await explore("run", config(folder), "--endpoint", server.url, "--out", folder / "run", *more)
    assert result.code == 0, result.stderr
    return folder / "run"


async def test_refiltering_asks_nobody_and_equals_the_obvious_loop(tmp_path: Path):
    """Without any server: from all that the stored answers hold, in the order of their commits, what a loop over
    rouge_score keeps; the run itself is untouched, and ids that it gave stay the same.
    """
    run = await made(tmp_path, "--max-examples", "60")
    before = derived(run)
    for threshold in (0.4, 0.8):
        out = tmp_path / f"at {threshold}"
        result = await explore(
            "filter", run, "--out", out, "--threshold", str(threshold), "--set", "copies=false", "--json"
        )
        assert result.code == 0, result.stderr
        async with CompletionStore(run / "completions.sqlite") as store:
            answers = {row.key: row for row in await store.all() if row.kind == "generate"}
        committed = dict.fromkeys(
            line["request"] for line in lines(run / "decisions.jsonl") if line["what"] == "example"
        )
        later = [
            row.key
            for row in sorted(answers.values(), key=lambda row: (row.ordinal, row.key))
            if row.key not in committed
        ]
        kept = ["Say when to prune roses"]
        for key in [*committed, *later]:
            for item in parse_examples(answers[key].outcome, "json"):
                if isinstance(item, ExampleDraft) and all(
                    SCORER.score(other, item.instruction)["rougeL"].fmeasure <= threshold for other in kept
                ):
                    kept.append(item.instruction)
        rows = lines(out / "dataset.jsonl")
        accepted = [row["instruction"] for row in rows]
        dropped = {line["reason"] for line in lines(out / "decisions.jsonl") if not line["kept"]}
        assert dropped <= {"duplicate", "unparsable", "truncated", "missing_field"}
        assert accepted == kept[1:]
        ours = {row["id"]: row["instruction"] for row in lines(run / "dataset.jsonl")}
        assert all(ours[row["id"]] == row["instruction"] for row in rows if row["id"] in ours)
        assert result.json["kept"] == len(rows)
        judged = sum(len(list(parse_examples(answers[key].outcome, "json"))) for key in [*committed, *later])
        assert f"{judged - len(ours):,} of the {judged:,} were not in the data" in result.stderr
    assert derived(run) == before
    shown = await explore("show", out, rows[0]["id"])
    assert "answer" in shown.stdout


async def test_reparsing_with_the_same_parser_finds_no_less(tmp_path: Path):
    """What the run kept is there again, and what it had no more room for; whatever the run dropped for its quality is
    dropped for the same reason.
    """
    run = await made(tmp_path, duplicate_share=0.6)
    result = await explore("reparse", run, "--out", tmp_path / "again", "--json")
    assert result.code == 0, result.stderr
    assert result.json["kept"] >= result.json["before"] == 100
    reasons = [
        {line["id"]: line["reason"] for line in lines(path / "decisions.jsonl") if line["what"] == "example"}
        for path in (run, tmp_path / "again")
    ]
    by_rouge = {"accepted", "duplicate"}
    of_run = {key: reason for key, reason in reasons[0].items() if key and reason not in by_rouge}
    assert "copied" in of_run.values()
    assert of_run == {
        key: reason for key, reason in reasons[1].items() if key in reasons[0] and key and reason not in by_rouge
    }
    assert (await explore("reparse", tmp_path / "again", "--out", tmp_path / "third")).code == 5


async def test_an_imported_tree_is_explored_on(tmp_path: Path):
    """Its tasks are there from the start, new ones come below and beside, no example repeats an imported one; the data
    may move but not change; and both are merged.
    """
    original_folder(tmp_path / "theirs", 11, tasks=6, per_task=6)
    assert (await explore("import", tmp_path / "theirs", "--out", tmp_path / "data")).code == 0
    document = yaml.safe_load((tmp_path / "data" / "explore.yaml").read_text())
    document |= {"targets": {"examples": 60}, "generation": {"per_request": 3}, "window": 32}
    document |= {"operation": {"report": False}}
    document["exploration"] |= {"breadth": [5, 2]}
    (tmp_path / "data" / "explore.yaml").write_text(yaml.safe_dump(document))
    async with SimulatedServer(64, Latency(0.005, 0.5)) as server:
        command = ("run", tmp_path / "data" / "explore.yaml", "--endpoint", server.url, "--out", tmp_path / "run")
        result = await explore(*command)
        assert result.code == 0, result.stderr
        (tmp_path / "data").rename(tmp_path / "moved")
        command = (command[0], tmp_path / "moved" / "explore.yaml", *command[2:])
        assert (await explore(*command)).code == 0
        lost = tmp_path / "moved" / "dataset.jsonl"
        there = lost.read_bytes()
        lost.write_bytes(there.splitlines(keepends=True)[0])
        changed = await explore(*command)
        assert changed.code == 2
        assert "against" in changed.stderr
        lost.unlink()
        assert (await explore(*command)).code == 5
        lost.write_bytes(there)
    (tree,) = orjson.loads((tmp_path / "run" / "tree.json").read_bytes())["trees"]
    (theirs,) = orjson.loads((tmp_path / "moved" / "tree.json").read_bytes())["trees"]

    def names(node: dict) -> list[str]:
        return [node["name"], *(name for child in node["children"] for name in names(child))]

    assert set(names(theirs)) < set(names(tree))
    known = [row["instruction"] for row in lines(tmp_path / "moved" / "dataset.jsonl")]
    new = [row["instruction"] for row in lines(tmp_path / "run" / "dataset.jsonl")]
    assert len(new) == 60
    assert all(SCORER.score(old, one)["rougeL"].fmeasure <= 0.7 for old in known for one in new)
    merged = await explore("merge", tmp_path / "moved", tmp_path / "run", "--out", tmp_path / "both", "--json")
    assert merged.json["kept"] > 60
    assert (await explore("tree", tmp_path / "both")).stdout.count("BRAINSTORMING") >= 2


async def test_a_folder_for_trl_has_its_script(tmp_path: Path):
    """Python that reads the folder it lies in; only with the shapes that TRL takes; with a split it evaluates."""
    run = await made(tmp_path)
    for shape, expected in (("messages", True), ("prompt-completion", True), ("alpaca", False)):
        out = tmp_path / shape
        command = ("export", run, "--out", out, "--format", shape, "--validation", "0.1")
        assert (await explore(*command)).code == 0
        assert (out / "train.py").exists() is expected
        if expected:
            script = (out / "train.py").read_text()
            ast.parse(script)
            assert 'eval_strategy: str = "epoch"' in script
