"""The stages between a tree and a trainer, against slow and obvious oracles and the scorer that the original used."""

from __future__ import annotations

from collections import deque
from pathlib import Path

import orjson
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from support.cli import in_process
from support.originals import original_folder

from explore_async.curation.collections.collection import below
from explore_async.curation.collections.originals import OriginalFolder
from explore_async.curation.collections.run_data import RunData
from explore_async.curation.pruning import find_repeated_tasks

SCORER = RougeScorer(["rougeL"])


def lines(path: Path) -> list[dict]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def done(*arguments: object) -> dict:
    result = in_process(*arguments, "--json")
    assert result.code == 0, result.stderr
    return orjson.loads(result.stdout.splitlines()[-1])


def overlap(one: str, other: str) -> float:
    return SCORER.score(one, other)["rougeL"].fmeasure


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.9])
def test_filter_keeps_what_the_original_keeps(tmp_path: Path, threshold: float):
    """On a folder of the original's, within each task: exactly what a loop over rouge_score keeps, in its order, with
    the evidence of what was dropped.
    """
    tasks = original_folder(tmp_path / "theirs", 1, tasks=5)
    done("filter", tmp_path / "theirs", "--out", tmp_path / "out", "--threshold", threshold, "--scope", "task")
    expected = []
    for task in tasks:
        kept: list[dict] = []
        for one in task["examples"]:
            if all(overlap(other["instruction"], one["instruction"]) <= threshold for other in kept):
                kept.append(one)
        expected += kept
    found = lines(tmp_path / "out" / "dataset.jsonl")
    assert [{k: row[k] for k in ("instruction", "input", "output")} for row in found] == expected
    texts = {row["id"]: row["instruction"] for row in found}
    dropped = [line for line in lines(tmp_path / "out" / "decisions.jsonl") if not line["kept"]]
    assert len(dropped) == 5 * 40 - len(found) > 0
    for line in dropped:
        assert overlap(texts[line["nearest"]], line["instruction"]) == line["score"] > threshold


@pytest.mark.parametrize("threshold", [0.4, 0.6, 0.8])
def test_prune_takes_out_what_the_original_takes_out(tmp_path: Path, threshold: float):
    """Level by level, a raw name above the threshold with one that was kept; none of their examples is handed on."""
    original_folder(tmp_path / "theirs", 2)
    done("import", tmp_path / "theirs", "--out", tmp_path / "data")
    data = RunData.read(tmp_path / "data")
    waiting, kept, expected = deque(data.trees()), [], []
    while waiting:
        node = waiting.popleft()
        waiting.extend(node["children"])
        if any(overlap(name, node["name"]) > threshold for name in kept):
            expected.append(node["id"])
        else:
            kept.append(node["name"])
    found = done("prune", tmp_path / "data", "--threshold", threshold)["pruned"]
    assert [one["id"] for one in found] == expected
    left = 12 * 40 - 40 * len(expected)
    assert done("export", tmp_path / "data", "--out", tmp_path / "all.jsonl")["examples"] == left
    taken = done("sample", tmp_path / "data", "--out", tmp_path / "some.jsonl", "-n", "50")
    assert taken["examples"] == min(50, left)
    assert not {row["task_id"] for row in lines(tmp_path / "some.jsonl")} & set(expected)


RAW_NAMES = st.sampled_from([
    "grammar", "Grammar", "grammar_0", "grammar 0", "grammar check", "check grammar", "check the grammar of an essay",
    "the grammar of an essay", "grammar check_0", "summarize news", "news", "...", "语法", "语法 0", "plan a trip_1",
])  # fmt: skip
TREES = st.recursive(
    st.tuples(RAW_NAMES, st.just([])), lambda inner: st.tuples(RAW_NAMES, st.lists(inner, max_size=4)), max_leaves=14
)


def named_apart(tree: tuple, taken: set[str]) -> dict:
    """The tree as their files have it: where a name is taken, a number keeps the next task of this name apart."""
    raw, children = tree
    name = next(name for number in range(-1, 99) if (name := raw if number < 0 else f"{raw}_{number}") not in taken)
    taken.add(name)
    fields = {"raw_task_name": raw, "task_name": name, "config_filename": f"{name}.json", "reason": ""}
    return {**fields, "children": [named_apart(child, taken) for child in children]}


@given(TREES)
@settings(max_examples=120, deadline=None)
def test_prune_judges_raw_names_as_the_original_does(tmp_path_factory, tree: tuple):
    """Made-up trees, with names that only a number keeps apart and names that end in one: of the tasks in level order,
    those are pruned whose raw name comes too close to that of a task before them that is not. The root never is. Only a
    name without any token, which the original never prunes, is pruned where it is the same as one before.
    """
    folder = tmp_path_factory.mktemp("theirs")
    root = named_apart(tree, set())
    (folder / "tree_meta_info.json").write_bytes(orjson.dumps(root))
    level, in_order = [root], []
    while level:
        in_order += level
        level = [child for task in level for child in task["children"]]
    pruned: list[str] = []
    for place, task in enumerate(in_order):
        raw = task["raw_task_name"]
        before = [other["raw_task_name"] for other in in_order[:place] if other["task_name"] not in pruned]
        is_same = raw in before and not SCORER._tokenizer.tokenize(raw)
        if is_same or any(overlap(other, raw) > 0.7 for other in before):
            pruned.append(task["task_name"])
    collection = OriginalFolder(folder)
    nodes = {node["id"]: node for tree in collection.trees() for node in below(tree)}
    found = find_repeated_tasks(collection.trees(), 0.7, "rouge")
    assert [nodes[task.id]["original"]["task_name"] for task in found] == pruned


def test_a_tree_that_has_grown_since_is_pruned_again(tmp_path: Path):
    """What was decided for another tree is not followed in silence."""
    original_folder(tmp_path / "theirs", 2)
    done("import", tmp_path / "theirs", "--out", tmp_path / "data")
    done("prune", tmp_path / "data")
    document = orjson.loads((tmp_path / "data" / "tree.json").read_bytes())
    document["trees"][0]["children"].pop()
    (tmp_path / "data" / "tree.json").write_bytes(orjson.dumps(document))
    result = in_process("export", tmp_path / "data", "--out", tmp_path / "x.jsonl")
    assert result.code == 5
    assert "prune again" in " ".join(result.stderr.split())


def test_a_round_trip_loses_nothing(tmp_path: Path):
    """Through import and export: the same tree and the same examples, with fields that we know nothing of, and names
    that are called like columns of ours. Only the examples of a pruned task stay behind, which is said; and the list of
    pruned tasks, which their later stages read, is there also where it is empty.
    """
    tasks = original_folder(tmp_path / "theirs", 3)
    odd = tasks[1]
    odd["examples"][0] |= {"id": 7, "task_id": None, "score": 0.5, "input": None}
    (tmp_path / "theirs" / odd["config_filename"]).write_bytes(orjson.dumps(odd))
    (tmp_path / "theirs" / "pruned_subtasks_name.json").write_bytes(orjson.dumps([tasks[4]["task_name"]]))
    done("import", tmp_path / "theirs", "--out", tmp_path / "data")
    done("export", tmp_path / "data", "--out", tmp_path / "back", "--format", "explore-instruct")
    there, back = ({p.name: orjson.loads(p.read_bytes()) for p in (tmp_path / d).iterdir()} for d in ("theirs", "back"))
    left_out = there[tasks[4]["config_filename"]].pop("examples")
    assert back[tasks[4]["config_filename"]].pop("examples") == []
    assert there == back
    again = in_process("export", tmp_path / "data", "--out", tmp_path / "back", "--format", "explore-instruct")
    assert f"{len(left_out)} left out: in pruned tasks" in " ".join(again.stderr.split())
    (tmp_path / "theirs" / "pruned_subtasks_name.json").unlink()
    done("export", tmp_path / "theirs", "--out", tmp_path / "whole", "--format", "explore-instruct")
    assert orjson.loads((tmp_path / "whole" / "pruned_subtasks_name.json").read_bytes()) == []


def test_raw_names_are_shown_and_judged(tmp_path: Path):
    """A number keeps apart two tasks that a model called alike. We show, prompt with and prune by the raw name, as their
    code does; their list of pruned tasks has the other one, also for tasks of ours with one name.
    """
    folder = tmp_path / "theirs"
    names = [("grammar", "grammar"), ("grammar", "grammar_0"), ("summarize news articles", "summarize news articles")]
    fields = [
        {"raw_task_name": raw, "task_name": name, "config_filename": f"{name}.json", "reason": ""}
        for raw, name in names
    ]
    folder.mkdir()
    root = {"raw_task_name": "rewriting", "task_name": "rewriting", "config_filename": "rewriting.json", "reason": ""}
    tree = {**root, "children": [{**one, "children": []} for one in fields]}
    (folder / "tree_meta_info.json").write_bytes(orjson.dumps(tree))
    example = {"instruction": "Mend it.", "input": "", "output": "Mended."}
    for one in (root, *fields):
        (folder / one["config_filename"]).write_bytes(orjson.dumps({**one, "examples": [example]}))
    done("import", folder, "--out", tmp_path / "data")
    assert [task["name"] for task in done("prune", tmp_path / "data")["pruned"]] == ["grammar"]
    assert "grammar_0" not in in_process("tree", tmp_path / "data").stdout
    config = yaml.safe_load((tmp_path / "data" / "explore.yaml").read_text(encoding="utf-8"))
    assert [task["name"] for task in config["domains"][0]["tasks"]] == [raw for raw, _ in names]
    done("export", tmp_path / "data", "--out", tmp_path / "back", "--format", "explore-instruct")
    assert orjson.loads((tmp_path / "back" / "pruned_subtasks_name.json").read_bytes()) == ["grammar_0"]
    document = orjson.loads((tmp_path / "data" / "tree.json").read_bytes())
    for node in document["trees"][0]["children"]:
        del node["original"]
    (tmp_path / "data" / "tree.json").write_bytes(orjson.dumps(document))
    done("export", tmp_path / "data", "--out", tmp_path / "own", "--format", "explore-instruct")
    own = orjson.loads((tmp_path / "own" / "tree_meta_info.json").read_bytes())["children"]
    assert [task["task_name"] for task in own] == ["grammar", "grammar_0", "summarize news articles"]
    assert orjson.loads((tmp_path / "own" / "pruned_subtasks_name.json").read_bytes()) == ["grammar_0"]


def test_tasks_of_one_name_survive(tmp_path: Path):
    """Where the original's second file overwrote the first, both tasks stay; what we write gives each its own file."""
    tasks = original_folder(tmp_path / "theirs", 4, tasks=6)
    tree = orjson.loads((tmp_path / "theirs" / "tree_meta_info.json").read_bytes())
    tree["children"].append({**tree["children"][0], "children": []})
    (tmp_path / "theirs" / "tree_meta_info.json").write_bytes(orjson.dumps(tree))
    done("import", tmp_path / "theirs", "--out", tmp_path / "data")
    nodes = [node for root in RunData.read(tmp_path / "data").trees() for node in below(root)]
    assert len(nodes) == 7
    done("export", tmp_path / "data", "--out", tmp_path / "back", "--format", "explore-instruct")
    done("import", tmp_path / "back", "--out", tmp_path / "again")
    again = lines(tmp_path / "again" / "dataset.jsonl")
    assert again == lines(tmp_path / "data" / "dataset.jsonl")
    assert len(again) == sum(len(task["examples"]) for task in tasks)
    assert len(list((tmp_path / "back").glob("*.json"))) == 7 + 2  # and the tree, and the list of pruned tasks


def test_filter_of_any_scope_and_quality(tmp_path: Path):
    """Over the whole it drops no less than within tasks; a quality filter is off unless it is asked for."""
    original_folder(tmp_path / "theirs", 5)
    within = done("filter", tmp_path / "theirs", "--out", tmp_path / "a", "--scope", "task")
    whole = done("filter", tmp_path / "theirs", "--out", tmp_path / "b", "--scope", "run")
    assert whole["kept"] < within["kept"]
    assert set(whole["dropped"]) == {"duplicate"}
    strict = in_process(
        "filter", tmp_path / "theirs", "--out", tmp_path / "c", "--set", "filters.min_output_words=5", "--json"
    )
    assert strict.code == 7
    assert orjson.loads(strict.stdout)["dropped"] == {"too_short": 480}
    assert in_process("filter", tmp_path / "theirs", "--out", tmp_path / "d", "--set", "tresholt=1").code == 2


def test_merged_data_says_where_it_came_from(tmp_path: Path):
    """Two data sets with much in common: nothing twice, every example with its source and its id there, the trees side
    by side, and equal names kept apart.
    """
    original_folder(tmp_path / "one", 6)
    original_folder(tmp_path / "two", 7)
    found = done("merge", tmp_path / "one", tmp_path / "two", "--out", tmp_path / "out")
    rows = lines(tmp_path / "out" / "dataset.jsonl")
    assert len(rows) == found["kept"] < found["candidates"] == 960
    assert {row["source"] for row in rows} == {"brainstorming", "brainstorming 2"}
    assert len({row["id"] for row in rows}) == len(rows)
    trees = RunData.read(tmp_path / "out").trees()
    assert [root["id"] for root in trees] == ["0", "1"]
    tasks = {node["id"]: node["kept"] for root in trees for node in below(root)}
    assert sum(tasks.values()) == len(rows)
    second = next(row for row in rows if row["source"] == "brainstorming 2")
    assert second["task_id"].startswith("1")
    assert second["source_id"].startswith("0")
    texts = [row["instruction"] for row in rows[:60]]
    assert all(overlap(a, b) <= 0.7 for i, a in enumerate(texts) for b in texts[:i])


def ngrams(text: str, n: int) -> set[tuple[str, ...]]:
    words = text.lower().replace(".", " ").split()
    return set(zip(*(words[i:] for i in range(n)), strict=False))


def test_contaminated_examples_are_dropped_with_evidence(tmp_path: Path):
    """By ROUGE-L or by a run of tokens, as a loop over all pairs finds them; the report counts by benchmark."""
    original_folder(tmp_path / "theirs", 8, tasks=4)
    benchmarks = {
        "near.jsonl": [
            {"question": "Write a story for a child number 3"},
            {"question": "Describe the moons of Jupiter"},
        ],
        "inside.jsonl": [
            {"question": "A preface of many other words and then Explain the water cycle in one line and so on"}
        ],
    }
    for name, rows in benchmarks.items():
        (tmp_path / name).write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    command = ["decontaminate", tmp_path / "theirs", "--out", tmp_path / "out", "--ngram", "6"]
    found = done(*command, "--against", tmp_path / "near.jsonl", "--against", tmp_path / "inside.jsonl")
    texts = [row["question"] for rows in benchmarks.values() for row in rows]
    done("import", tmp_path / "theirs", "--out", tmp_path / "data")
    clean = []
    for row in lines(tmp_path / "data" / "dataset.jsonl"):
        asked = f"{row['instruction']}\n{row['input']}" if row["input"] else row["instruction"]
        near = any(overlap(text, asked) > 0.7 for text in texts)
        if not near and not any(ngrams(asked, 6) & ngrams(text, 6) for text in texts):
            clean.append(row["id"])
    assert [row["id"] for row in lines(tmp_path / "out" / "dataset.jsonl")] == clean
    assert 0 < found["dropped"] == 160 - len(clean)
    report = orjson.loads((tmp_path / "out" / "contamination.json").read_bytes())
    assert report["dropped"]["rouge_l"] > 0
    assert report["dropped"]["ngram"] > 0
    counted = {name: one["examples_close_to_it"] for name, one in report["by_benchmark"].items()}
    assert counted == found["by_benchmark"]
    evidence = [line for line in lines(tmp_path / "out" / "decisions.jsonl") if not line["kept"]]
    for line in evidence:
        assert line["text"] == benchmarks[line["benchmark"]][line["row"] - 1]["question"]
        assert ("score" in line) != (
            " ".join(line.get("ngram", "").split()) in line["text"].lower() and "ngram" in line
        )


@pytest.mark.parametrize("by", ["example", "task"])
def test_no_near_duplicates_across_a_split(tmp_path: Path, by: str):
    """Whatever is held out, nothing in training comes near it, and what was left out for that is counted; by task, no
    task is on both sides.
    """
    original_folder(tmp_path / "theirs", 9, tasks=6)
    command = ["export", tmp_path / "theirs", "--out", tmp_path / "out.jsonl", "--validation", "0.2", "--split-by", by]
    found = done(*command)
    train, held = lines(tmp_path / "out.jsonl"), lines(tmp_path / "out.validation.jsonl")
    assert (len(train), len(held)) == (found["examples"], found["validation"])
    assert len(train) + len(held) + found["left_out"]["near_validation"] == 240
    assert found["left_out"]["near_validation"] > 0
    assert 0.1 <= len(held) / 240 <= 0.3
    asked = [
        [f"{r['instruction']}\n{r['input']}" if r["input"] else r["instruction"] for r in part]
        for part in (train, held)
    ]
    assert all(overlap(a, b) <= 0.7 for a in asked[0] for b in asked[1])
    if by == "task":
        assert not {r["task_id"] for r in train} & {r["task_id"] for r in held}


def test_equal_texts_without_tokens_are_on_one_side_of_a_split(tmp_path: Path):
    """A text of signs alone has no ROUGE-L with any: an equal one is left out of training, and no other."""
    texts = ["\u2211 = ?"] * 20 + [f"{sign} = ?" for sign in "\u2200\u2202\u2203\u2205\u2207\u2208\u220b\u220f"] * 2
    rows = [{"instruction": text, "output": str(number)} for number, text in enumerate(texts)]
    (tmp_path / "rows.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    found = done("export", tmp_path / "rows.jsonl", "--out", tmp_path / "out.jsonl", "--validation", "0.2")
    train, held = ({row["instruction"] for row in lines(tmp_path / f"out{end}.jsonl")} for end in ("", ".validation"))
    assert "\u2211 = ?" in held
    assert not train & held
    assert train | held == set(texts)
    assert found["left_out"]["near_validation"] > 0


def test_texts_without_tokens_are_as_close_to_a_benchmark_as_they_are_equal(tmp_path: Path):
    """A benchmark's row of signs alone drops the examples that are equal to it, with evidence, and no other."""
    for name, column, texts in (
        ("rows", "instruction", ["\u2211 = ?", "\u2207 = ?", "Name a fern."]),
        ("known", "question", ["Name a moss of the woods.", "", "\u2207 = ?"]),
    ):
        rows = [{column: text, "output": "x"} for text in texts]
        (tmp_path / f"{name}.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    done("decontaminate", tmp_path / "rows.jsonl", "--out", tmp_path / "out", "--against", tmp_path / "known.jsonl")
    assert [row["instruction"] for row in lines(tmp_path / "out" / "dataset.jsonl")] == ["\u2211 = ?", "Name a fern."]
    (line,) = (line for line in lines(tmp_path / "out" / "decisions.jsonl") if not line["kept"])
    assert (line["score"], line["row"], line["text"]) == (1.0, 3, "\u2207 = ?")


def test_a_diverse_sample_is_farther_apart(tmp_path: Path):
    """Of equal quotas, the greatest overlap of any two texts of a task is lower than in a sample by lot."""
    original_folder(tmp_path / "theirs", 10, tasks=3)
    nearest = {}
    for method in ("diverse", "proportional"):
        done("sample", tmp_path / "theirs", "--out", tmp_path / "x.jsonl", "-n", "24", "--method", method)
        rows = lines(tmp_path / "x.jsonl")
        assert len(rows) == 24
        nearest[method] = sum(
            max(
                overlap(a["instruction"], b["instruction"])
                for b in rows
                if a["id"] != b["id"] and a["task_id"] == b["task_id"]
            )
            for a in rows
        )
    assert nearest["diverse"] < 0.8 * nearest["proportional"]
