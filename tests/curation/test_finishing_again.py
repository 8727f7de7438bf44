"""Runs with answers of their own and a judge, judged again by the commands on data: real command line, stored outcomes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from support.cli import RECIPE, config, derived, in_process
from support.stored_run import copied, doctor, serving

from explore_async.config.load import load

pytestmark = pytest.mark.usefixtures("in_this_process")

SEPARATE = f"""{RECIPE}
responses: separate
answers_per_instruction: 2
judge: {{threshold: 3}}
operation: {{report: false}}
""".replace("description: plants and tools", "description: plants and tools\n    system: Be brief.")
JUDGED = f"{RECIPE}judge: {{threshold: 3}}\nturns: 2\noperation: {{report: false}}\n"


def lines(path: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def by_id(folder: Path) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in lines(folder / "dataset.jsonl")}


def done(*arguments: str | Path) -> dict[str, Any]:
    result = in_process(*arguments, "--json")
    assert result.code == 0, result.stderr
    return result.json


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Finished runs whose server is gone: with two answers and a judge; and with examples of one request, a judge, and a
    second turn.
    """
    made = {}
    with serving() as url:
        for name, text in (("separate", SEPARATE), ("judged", JUDGED)):
            folder = tmp_path_factory.mktemp(name)
            path = config(folder, text)
            done("run", path, "--endpoint", url, "--out", folder / "run", "--max-examples", "24")
            made[name] = folder / "run"
    return made


@pytest.mark.parametrize("kind", ["separate", "judged"])
@pytest.mark.parametrize("command", ["filter", "reparse"])
def test_the_same_settings_keep_the_same_rows(runs: dict[str, Path], tmp_path: Path, kind: str, command: str) -> None:
    """All rows of the run are there with every column, found by their requests; beside them is only what the run had not
    decided. What the run dropped is dropped for the same reason, and what nobody answered is counted and said.
    """
    before = derived(runs[kind])
    result = done(command, runs[kind], "--out", tmp_path / "out")
    ours, theirs = by_id(tmp_path / "out"), by_id(runs[kind])
    assert {name: ours[name] for name in theirs} == theirs
    verdicts = [
        {line["id"]: line["reason"] for line in lines(path / "decisions.jsonl") if line["what"] == "example"}
        for path in (runs[kind], tmp_path / "out")
    ]
    decided = verdicts[0].keys() & verdicts[1].keys()
    decided -= {None}
    assert {name: verdicts[0][name] for name in decided} == {name: verdicts[1][name] for name in decided}
    assert len(decided) == len(verdicts[0].keys() - {None})
    assert {"accepted", "low_score", "duplicate"} <= {*verdicts[0].values()}
    lacking = [reason for reason in verdicts[1].values() if reason in {"not_answered", "not_scored"}]
    assert len(lacking) == sum(result["dropped"].get(reason, 0) for reason in ("not_answered", "not_scored")) > 0
    assert derived(runs[kind]) == before


@pytest.mark.parametrize("kind", ["separate", "judged"])
@pytest.mark.parametrize("threshold", ["2", "4", "null"])
def test_another_threshold_needs_no_request(runs: dict[str, Path], tmp_path: Path, kind: str, threshold: str) -> None:
    """By the scores that are stored: every kept row reaches it with the best of its answers that do, and from a looser
    filter's data the rows alone lead to the same.
    """
    done("filter", runs[kind], "--out", tmp_path / "out", "--set", f"judge.threshold={threshold}")
    rows = by_id(tmp_path / "out")
    least = 1 if threshold == "null" else int(threshold)
    for row in rows.values():
        answers = [answer for answer in row.get("answers", [row]) if min(answer["scores"].values()) >= least]
        assert max(answers, key=lambda answer: sum(answer["scores"].values()))["output"] == row["output"]
    dropped = [line for line in lines(tmp_path / "out" / "decisions.jsonl") if line["reason"] == "low_score"]
    assert all(min(line["scores"].values()) < least for line in dropped)
    assert rows
    assert (len(rows) > len(by_id(runs[kind]))) == (least < 3)
    if kind == "judged":
        lengths = {len(row["messages"]) for row in rows.values()}
        assert lengths == {2, 4} if least < 3 else lengths <= {2, 4}  # one that is kept only now has no follow-up
    if least > 1:
        done("filter", runs[kind], "--out", tmp_path / "all", "--set", "judge.threshold=null")
        done("filter", tmp_path / "all", "--out", tmp_path / "again", "--set", f"judge.threshold={threshold}")
        again = by_id(tmp_path / "again")
        assert again.keys() == rows.keys()
        assert all(again[name]["output"] == row["output"] for name, row in rows.items())


def test_columns_survive_every_chain(runs: dict[str, Path], tmp_path: Path) -> None:
    """filter, decontaminate, import, merge and sample leave scores, answers, the system prompt and all keys in the rows."""
    run, there = copied(runs["separate"], tmp_path / "there"), tmp_path
    (there / "bench.jsonl").write_text('{"question": "Quite another thing entirely, is it not?"}\n')
    done("prune", run, "--threshold", "1")
    done("filter", run, "--out", there / "1")
    done("decontaminate", there / "1", "--out", there / "2", "--against", there / "bench.jsonl")
    done("import", there / "2", "--out", there / "3")
    done("merge", there / "3", runs["judged"], "--out", there / "4")
    columns = ("scores", "answers", "system", "request", "instruction_request", "judge_request")
    keep = [word for name in columns for word in ("--keep", name)]
    done("sample", there / "4", "--size", "60", "--out", there / "5.jsonl", *keep)
    kept = {row["instruction"]: row for row in lines(there / "5.jsonl")}
    of_run = [row for row in lines(run / "dataset.jsonl") if row["instruction"] in kept]
    assert len(of_run) > 10
    for row in of_run:
        own = {name: value for name, value in row.items() if name not in {"id", "task_id", "task_path"}}
        assert {name: kept[row["instruction"]].get(name) for name in own} == own
    assert {*columns} <= {*of_run[0]}


def test_an_import_explores_on_in_the_same_way(runs: dict[str, Path], tmp_path: Path) -> None:
    """Its config asks for answers of their own, with the same system prompt and judge, and is one that runs take."""
    done("import", runs["separate"], "--out", tmp_path / "data")
    settings = load(tmp_path / "data" / "explore.yaml")
    assert (settings.responses, settings.answers_per_instruction) == ("separate", 2)
    assert settings.judge is not None
    assert settings.judge.threshold == 3
    assert settings.domains[0].system == "Be brief."


@pytest.mark.parametrize("kind", ["separate", "judged"])
def test_the_doctor_derives_their_files_again(runs: dict[str, Path], tmp_path: Path, kind: str) -> None:
    """A byte in the middle of the dataset or of the evidence is found by its line, and a repair brings all bytes back."""
    run = copied(runs[kind], tmp_path / "there")
    before = derived(run)
    for name in ("dataset.jsonl", "decisions.jsonl"):
        body = bytearray(before[name])
        body[len(body) // 2] ^= 1
        (run / name).write_bytes(body)
    found = doctor(run)
    assert found.code != 0
    assert {check["check"] for check in found.json["checks"] if check["state"] == "wrong"} == {
        "dataset.jsonl",
        "decisions.jsonl",
    }
    assert doctor(run, "--repair").code == 0
    assert derived(run) == before


def test_what_cannot_be_filtered_so_is_said(runs: dict[str, Path], tmp_path: Path) -> None:
    """Another judge needs requests, a run without a judge has no scores, and rows without scores are dropped as such."""
    other = in_process("filter", runs["separate"], "--out", tmp_path / "x", "--set", "judge.aspects={short: is short}")
    assert other.code == 2
    assert "judge.threshold" in other.stderr
    bad = in_process("filter", runs["separate"], "--out", tmp_path / "x", "--set", "judge.threshold=7")
    assert bad.code == 2
    assert "judge.threshold" in bad.stderr
    rows = [
        {"instruction": "Say one thing", "output": "One."},
        {"instruction": "Do tell", "output": "So.", "scores": 3},
    ]
    (tmp_path / "rows.jsonl").write_bytes(b"\n".join(map(orjson.dumps, rows)))
    none = in_process(
        "filter", tmp_path / "rows.jsonl", "--out", tmp_path / "x", "--set", "judge.threshold=3", "--json"
    )
    assert none.code == 7
    assert none.json["dropped"] == {"not_scored": 2}


def test_examples_are_counted_where_the_tree_lags_behind(runs: dict[str, Path], tmp_path: Path) -> None:
    """A killed run leaves the tree of some seconds before: the examples that were there are those of its dataset."""
    run = copied(runs["judged"], tmp_path)
    tree = orjson.loads((run / "tree.json").read_bytes())
    waiting = list(tree["trees"])
    while waiting:
        node = waiting.pop()
        node["kept"] = 0
        waiting += node["children"]
    (run / "tree.json").write_bytes(orjson.dumps(tree))
    assert done("filter", run, "--out", tmp_path / "out")["before"] == 24
