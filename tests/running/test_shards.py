"""Shards of a run from end to end: the real command line against simulated servers, and `merge` of what they made."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest
from support.cli import Finished, config, explore, in_process, launch
from support.stored_run import doctor, serving

from explore_async.curation.collections.collection import below
from explore_async.curation.collections.run_data import RunData
from explore_async.errors import StorageError
from explore_async.exploration.values import Completion, Failure
from explore_async.serving.simulated.server import Latency, SimulatedServer
from explore_async.storage.shared_outcomes import SharedOutcomes

pytestmark = [pytest.mark.timeout(180), pytest.mark.usefixtures("in_this_process")]

ONE_DOMAIN = """
name: garden
domains: [{name: Look after a garden, description: plants and tools}]
exploration: {depth: 2, breadth: [4, 2], step: 2}
generation: {per_request: 3, demonstrations: 1}
targets: {examples: 66}
window: 64
operation: {report: false}
"""
DOMAINS = ONE_DOMAIN.replace(
    "[{name: Look after a garden, description: plants and tools}]",
    "[{name: Look after a garden}, {name: Mend a roof}, {name: Keep bees}, {name: Bake bread}]",
)
MERGED = ("dataset.jsonl", "tree.json", "decisions.jsonl")


def shard(folder: Path, url: str, which: str, *more: str | Path) -> Finished:
    """Makes a shard in runs/ of the folder, by the config there."""
    out = folder / "runs"
    done = in_process(
        *("run", folder / "config.yaml", "--shard", which, "--out", out, "--endpoint", url, "--quiet", "--json", *more)
    )
    assert done.code == 0, done.stderr
    return done


def merged(out: Path, *sources: str | Path) -> dict[str, bytes]:
    done = in_process("merge", *sources, "--out", out)
    assert done.code == 0, done.stderr
    return {name: (out / name).read_bytes() for name in MERGED}


def refused(*arguments: str | Path) -> str:
    done = in_process("merge", *arguments)
    assert done.code == 2
    return done.stderr


def lines(path: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


@pytest.fixture(scope="module", params=[ONE_DOMAIN, DOMAINS], ids=["sub-trees", "domains"])
def made(request, tmp_path_factory) -> Path:
    """A folder with a config and the three shards of its run, made one after another."""
    folder = tmp_path_factory.mktemp("made")
    config(folder, request.param)
    with serving() as url:
        for which in ("1/3", "2/3", "3/3"):
            shard(folder, url, which)
    return folder


async def test_shards_in_any_order_at_any_concurrency_and_killed(made: Path, tmp_path: Path) -> None:
    """Three processes at once, with delays, one of them killed in the middle and started again: the merged files are
    those of shards that were made one after another, whatever the order of the arguments of merge.
    """
    shutil.copy(made / "config.yaml", tmp_path)
    expected = merged(tmp_path / "expected", made / "runs")

    async def run(which: str, concurrency: int, *, kill: bool = False) -> None:
        arguments = (
            *("run", tmp_path / "config.yaml", "--shard", which, "--out", tmp_path / "runs", "--quiet"),
            *("--endpoint", server.url, "--concurrency", str(concurrency)),
        )
        if kill:
            process, store = await launch(*arguments), tmp_path / "runs" / f"shard-{which[0]}-of-3/completions.sqlite"
            while process.returncode is None and stored(store) < 6:
                await asyncio.sleep(0.02)
            assert process.returncode is None, "it ended before it was killed"
            process.kill()
            await process.communicate()
        done = await explore(*arguments)
        assert done.code == 0, done.stderr

    async with SimulatedServer(64, Latency(0.05, 0.8, shuffle=3)) as server:
        await asyncio.gather(run("3/3", 7), run("1/3", 1, kill=True), run("2/3", 16))
    paths = [tmp_path / "runs" / f"shard-{index}-of-3" for index in (2, 3, 1)]
    assert merged(tmp_path / "all", *paths) == expected
    assert doctor(paths[2]).code == 0


def stored(store: Path) -> int:
    try:
        with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as connection:
            return int(connection.execute("SELECT count(*) FROM outcomes").fetchone()[0])
    except sqlite3.OperationalError:  # not made yet
        return 0


def test_the_merged_data_is_one_data_set(made: Path, tmp_path: Path) -> None:
    """The merged rows are rows of the shards as they are, no two with one id and none a duplicate; every row that is
    left out has its shard and the row that it duplicates; the trees are one, whose counts are those of the rows; what is
    missing is said. Analysis, export, show and tree take the result.
    """
    out = tmp_path / "all"
    merged(out, made / "runs")
    rows, decisions = lines(out / "dataset.jsonl"), lines(out / "decisions.jsonl")
    of_shards = {
        row["id"]: (index, row) for index in (1, 2, 3) for row in lines(made / f"runs/shard-{index}-of-3/dataset.jsonl")
    }
    assert len(of_shards) == 66 == len(decisions)
    assert all(of_shards[row["id"]][1] == row for row in rows)
    assert len({row["id"] for row in rows}) == len(rows)
    assert all(of_shards[line["id"]][0] == line["shard"] for line in decisions)
    dropped = [line for line in decisions if not line["kept"]]
    assert len(rows) + len(dropped) == 66
    kept = {row["id"] for row in rows}
    assert all(line["reason"] == "duplicate" and line["score"] > 0.7 and line["nearest"] in kept for line in dropped)
    assert all(of_shards[line["nearest"]][0] != line["shard"] for line in dropped)
    data = orjson.loads((out / "data.json").read_bytes())
    assert data["shards"] == {"of": 3, "joined": [1, 2, 3], "short": len(dropped)}
    assert "shard" not in data["recipe"]
    trees = RunData.read(out).trees()
    assert [root["id"] for root in trees] == [str(number) for number in range(len(data["recipe"]["domains"]))]
    of_task = Counter(row["task_id"] for row in rows)
    nodes = [node for root in trees for node in below(root)]
    assert {node["id"]: node["kept"] for node in nodes if node["kept"]} == of_task
    assert not any("shard" in node for node in nodes)
    shown = in_process("show", out, rows[0]["id"], "--json")
    assert shown.json["request"]["task_id"] == rows[0]["task_id"]
    for command in (("tree", out), ("analyze", out, "--json"), ("export", out, "--out", tmp_path / "rows.jsonl")):
        assert in_process(*command).code == 0
    assert in_process("stats", made / "runs" / "shard-1-of-3").code == 0


def test_one_shard_of_one_is_the_unsharded_data(tmp_path: Path) -> None:
    """merge of the only shard has the rows and the trees of the run without shards, byte for byte."""
    config(tmp_path, ONE_DOMAIN)
    with serving() as url:
        shard(tmp_path, url, "1/1")
        whole = in_process("run", tmp_path / "config.yaml", "--out", tmp_path / "run", "--endpoint", url, "--quiet")
    assert whole.code == 0
    only = merged(tmp_path / "all", tmp_path / "runs")
    assert only["dataset.jsonl"] == (tmp_path / "run" / "dataset.jsonl").read_bytes()
    trees = [orjson.loads((tmp_path / name / "tree.json").read_bytes())["trees"] for name in ("all", "run")]
    without = [[{**node, "dropped": 0, "children": []} for root in forest for node in below(root)] for forest in trees]
    assert without[0] == without[1]


def test_shards_agree_on_the_top_whatever_they_are_told(tmp_path: Path) -> None:
    """Two servers that answer the same requests differently: the first completion of a request about the top counts for
    all shards, so that their tops are the same, and a shard that comes later asks for nothing of it. What was made apart
    is not joined.
    """
    config(tmp_path, ONE_DOMAIN)
    (tmp_path / "apart").mkdir()
    config(tmp_path / "apart", ONE_DOMAIN)
    with serving(seed=1) as one, serving(seed=2) as two:
        shard(tmp_path, one, "2/2")
        before = {path.name: path.read_bytes() for path in (tmp_path / "runs" / "top-of-2").iterdir()}
        shard(tmp_path, two, "1/2")
        assert before == {path.name: path.read_bytes() for path in (tmp_path / "runs" / "top-of-2").iterdir()}
        assert before
        shard(tmp_path / "apart", two, "1/2")
    merged(tmp_path / "all", tmp_path / "runs")
    assert doctor(tmp_path / "runs" / "shard-1-of-2").code == 0
    said = refused(tmp_path / "apart/runs/shard-1-of-2", tmp_path / "runs/shard-2-of-2", "--out", tmp_path / "mixed")
    assert "another top of the tree" in said


def test_what_is_not_the_run_is_refused(made: Path, tmp_path: Path) -> None:
    """merge names what is missing, given twice, foreign or not ended, and writes nothing; with --partial it joins what
    is there, and says of how many.
    """
    one, two, three = (made / "runs" / f"shard-{index}-of-3" for index in (1, 2, 3))
    out = tmp_path / "out"
    assert "1 shard of 3 not given: 2" in refused(three, one, "--out", out)
    assert "the same shard, 1 of 3" in refused(one, two, one, three, "--out", out)
    assert "is no shard" in refused(one, tmp_path_file(tmp_path), "--out", out)
    assert "by the filters of their run" in refused(made / "runs", "--out", out, "--threshold", "0.5")
    other = shutil.copytree(two, tmp_path / "other")
    document = orjson.loads((other / "config.json").read_bytes())
    document["recipe"]["targets"]["examples"] = 67
    (other / "config.json").write_bytes(orjson.dumps(document))
    assert "targets.examples: 66 → 67" in refused(one, other, three, "--out", out)
    going_on = shutil.copytree(two, tmp_path / "going_on")
    stats = orjson.loads((going_on / "stats.json").read_bytes())
    (going_on / "stats.json").write_bytes(orjson.dumps({**stats, "ending": None}))
    assert "has not ended" in refused(one, going_on, three, "--out", out)
    assert "--partial" in refused(tmp_path_file(tmp_path), tmp_path_file(tmp_path), "--partial", "--out", out)
    assert not out.exists()
    done = in_process("merge", three, one, "--partial", "--out", out)
    assert done.code == 0, done.stderr
    assert "2 of 3 shards joined" in done.stderr
    assert {line["shard"] for line in lines(out / "decisions.jsonl")} == {1, 3}
    again = shutil.copytree(made / "runs", tmp_path / "again")
    shutil.copytree(again / "shard-1-of-3", again / "shard-1-of-3.1")  # set aside by --fresh
    assert merged(tmp_path / "all", again) == merged(tmp_path / "all", made / "runs")


def test_a_shard_that_was_killed_early_is_left_out(made: Path, tmp_path: Path) -> None:
    """A shard that was stopped in its first seconds, before it wrote its tree, its dataset, or all of the top: merge says
    that it has not ended, and --partial joins the others to what it makes of them alone, and names it. Where no other is
    there, it says so.
    """
    runs = shutil.copytree(made / "runs", tmp_path / "runs")
    early = runs / "shard-1-of-3"
    others = merged(tmp_path / "others", *(runs / f"shard-{index}-of-3" for index in (2, 3)), "--partial")
    tree = orjson.loads((early / "tree.json").read_bytes())
    (early / "stats.json").unlink()
    for root in tree["trees"]:
        root.update(children=[], shard=2)
    stopped = {
        "cut": lambda: (early / "tree.json").write_bytes(orjson.dumps(tree)),
        "no tree": (early / "tree.json").unlink,
        "no dataset": (early / "dataset.jsonl").unlink,
    }
    for number, (name, happen) in enumerate(stopped.items()):
        if name == "cut" and len(tree["trees"]) > 1:  # domains are dealt at once: their tree is never cut
            continue
        happen()
        assert "shard-1-of-3 has not ended" in refused(runs, "--out", tmp_path / "all")
        done = in_process("merge", runs, "--partial", "--out", tmp_path / f"all {number}")
        assert done.code == 0, done.stderr
        assert "2 of 3 shards joined" in done.stderr
        assert "shard-1-of-3 is left out" in done.stderr
        assert others == {name: (tmp_path / f"all {number}" / name).read_bytes() for name in MERGED}
    assert "has just begun" in refused(early, "--partial", "--out", tmp_path / "all")
    assert not (tmp_path / "all").exists()


def tmp_path_file(folder: Path) -> Path:
    path = folder / "rows.jsonl"
    path.write_text('{"instruction": "Plant a tree", "output": "Yes."}\n', encoding="utf-8")
    return path


def test_a_shard_is_a_run(made: Path, tmp_path: Path) -> None:
    """A finished shard replays offline to the same bytes and is whole for the doctor; --adopt takes a higher target
    over with the same top; --dry-run says its share; another shard in the same directory is another recipe.
    """
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "runs" / "shard-2-of-3"
    before = {name: (path / name).read_bytes() for name in MERGED}
    assert doctor(path).code == 0
    (path / "dataset.jsonl").unlink()
    (path / "decisions.jsonl").unlink()
    nowhere = "http://127.0.0.1:1/v1"
    shard(tmp_path, nowhere, "2/3", "--offline")
    assert before == {name: (path / name).read_bytes() for name in MERGED}
    with serving() as url:
        more = [shard(tmp_path, url, f"{index}/3", "--adopt", "--max-examples", "81").json for index in (1, 2, 3)]
    assert sum(stats["examples"]["kept"] for stats in more) == 81
    merged(tmp_path / "all", tmp_path / "runs")
    told = in_process("run", tmp_path / "config.yaml", "--shard", "2/3", "--dry-run", "--json").json
    assert (told["shard"]["index"], told["shard"]["of"]) == (2, 3)
    assert 15 <= told["shard"]["examples"] <= 34
    assert "shard 2 of 3 has" in in_process("run", tmp_path / "config.yaml", "--shard", "2/3", "--dry-run").stdout
    config_file = tmp_path / "config.yaml"
    other = in_process("run", config_file, "--set", "shard=1/3", "--out", path.parent, "--endpoint", nowhere, "--fresh")
    assert other.code == 6


def test_a_shard_without_tasks_is_no_failure(tmp_path: Path) -> None:
    """A tree that turns out smaller than planned leaves a shard without any task: it ends with code 0, with nothing
    kept, the others have all examples, and they are joined.
    """
    config(tmp_path, ONE_DOMAIN)
    with serving() as url:
        done = [
            in_process(
                *("run", tmp_path / "config.yaml", "--shard", f"{index}/4", "--out", tmp_path / "runs"),
                *("--endpoint", url, "--quiet", "--json", "--set", "exploration.breadth=[4]"),
                *("--set", "exploration.depth=1", "--set", "filters.task_threshold=0.2"),
            )
            for index in range(1, 5)
        ]
    kept = [one.json["examples"]["kept"] for one in done]
    assert [one.code for one in done] == [0] * 4
    assert 0 in kept
    assert sum(kept) == 66
    assert merged(tmp_path / "all", tmp_path / "runs")


def test_the_first_outcome_counts_for_all(tmp_path: Path) -> None:
    """Of many threads that settle an outcome for a key at once, one has its own, and all others get that; it stays what
    it is. A Failure is shared like a Completion. No unfinished file is left, and a damaged one is an error.
    """
    outcomes = [Completion(f"text {number}", "stop", 1, number) for number in range(24)]
    with ThreadPoolExecutor(12) as pool:
        settled = list(pool.map(lambda outcome: SharedOutcomes(tmp_path / "top").settle("a1", outcome), outcomes))
    assert {*settled} == {settled[0]} <= {*outcomes}
    shared = SharedOutcomes(tmp_path / "top")
    assert shared.read("a1") == settled[0]
    assert shared.read("b2") is None
    assert shared.settle("b2", Failure("rejected", "no", 1)) == shared.read("b2") == Failure("rejected", "no", 1)
    assert sorted(path.name for path in (tmp_path / "top").iterdir()) == ["a1.json", "b2.json"]
    (tmp_path / "top" / "b2.json").write_bytes(b'{"completion": ')
    with pytest.raises(StorageError, match="damaged"):
        shared.read("b2")
