"""The commands on data as functions: silent, with typed results, and with the decisions of the command line."""

from __future__ import annotations

import doctest
from dataclasses import FrozenInstanceError
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explore_async.curation import dedup as dedup_module
from explore_async.curation.collections.data_set import DataSet, Example, Task, Verdict
from explore_async.curation.collections.open import open_data
from explore_async.curation.decontamination import decontaminate_data
from explore_async.curation.dedup import dedup
from explore_async.curation.dedup_files import dedup_files
from explore_async.curation.exporting import export_data, sample_data
from explore_async.curation.filtering import filter_data, merge_data
from explore_async.curation.importing import import_data
from explore_async.curation.pruning import prune_data
from explore_async.errors import ConfigError, DataError

WORDS = st.lists(st.sampled_from(["Tree", "grow", "the", "red", "42"]), max_size=6).map(" ".join)
ROWS = st.lists(st.fixed_dictionaries({"instruction": WORDS, "group": st.sampled_from("xy")}), max_size=30)


def written(path: Path, rows: list[dict]) -> Path:
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return path


def lines(path: Path) -> list[dict]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file of rows with a task each, two of them near-duplicates."""
    said = [("plant a red tree", "farm"), ("plant a red tree now", "farm"), ("sing a song", "music"), ("read", "")]
    rows = [{"instruction": text, "input": "", "output": f"{n} done", "topic": task} for n, (text, task) in enumerate(said)]  # fmt: skip
    return written(tmp_path / "rows.jsonl", rows)


@settings(deadline=None, max_examples=40)
@given(rows=ROWS, threshold=st.sampled_from([0.5, 0.7, None]), group_by=st.sampled_from([None, "group"]))
def test_dedup_in_memory_decides_as_the_command_does(tmp_path_factory, rows, threshold, group_by):
    """The kept rows, and for each dropped row the score and the text of the nearest, are those of dedup_files."""
    folder = tmp_path_factory.mktemp("dedup")
    source = written(folder / "in.jsonl", rows)
    out, evidence = folder / "out.jsonl", folder / "evidence.jsonl"
    counts = dedup_files([source], out, threshold=threshold, group_by=group_by, evidence=evidence)
    result = dedup(rows, threshold, group_by=group_by)
    assert [*result.kept] == lines(out) == [rows[index] for index in result.kept_indices]
    assert (counts.kept, counts.dropped) == (len(result.kept), len(result.dropped))
    assert [
        (found.index + 1, found.score, found.nearest + 1, found.nearest_text) for found in result.dropped
    ] == [
        (line["line"], line["score"], line["duplicate_of"]["line"], line["duplicate_of"]["text"])
        for line in lines(evidence)
    ]  # fmt: skip
    if group_by is None:
        texts = dedup([row["instruction"] for row in rows], threshold)
        assert texts.kept_indices == result.kept_indices


@settings(deadline=None, max_examples=20)
@given(rows=ROWS, known=st.lists(WORDS, max_size=5))
def test_known_texts_count_as_kept(tmp_path_factory, rows, known):
    """Texts of `against` drop what is near them, as files of --against do; the evidence has their text, no position."""
    folder = tmp_path_factory.mktemp("dedup")
    against = written(folder / "known.jsonl", [{"instruction": text} for text in known])
    files = ([written(folder / "in.jsonl", rows)], folder / "out.jsonl")
    if not any(text.split() for text in known):
        with pytest.raises(DataError, match=r"known\.jsonl"):
            dedup_files(*files, against=[against])
        return
    dedup_files(*files, against=[against])
    result = dedup(rows, against=known)
    assert [*result.kept] == lines(folder / "out.jsonl")
    assert all(found.nearest_text in known for found in result.dropped if found.nearest is None)


def test_batches_do_not_change_a_decision(monkeypatch):
    """A list longer than one batch is decided as one sequence."""
    texts = [f"plant {word} tree {number % 7}" for number in range(60) for word in ("a", "one")]
    whole = dedup(texts, against=["plant one tree 3"])
    monkeypatch.setattr(dedup_module, "BATCH", 7)
    assert dedup(texts, against=["plant one tree 3"]) == whole


def test_what_dedup_cannot_do_is_an_error():
    """A row without the field is named by its position; thresholds and tokenizers are checked."""
    with pytest.raises(DataError, match="item 1: no field instruction"):
        dedup([{"instruction": "a"}, {"text": "b"}])
    for wrong in ({"threshold": 0}, {"tokenizer": "none"}, {"against": ["a"], "group_by": "g"}):
        with pytest.raises(ConfigError):
            dedup([{"instruction": "a", "g": 1}], **wrong)


def test_the_example_in_the_docstring_runs():
    """The documented result of dedup is what it gives."""
    assert doctest.testmod(dedup_module).failed == 0


def test_a_file_is_read_as_typed_examples_and_tasks(source: Path):
    """Every reading of a data set begins again, and its values cannot be changed."""
    data = open_data(source, {"task": "topic"})
    examples = list(data)
    assert [example.instruction for example in examples] == [row["instruction"] for row in lines(source)]
    assert list(data.examples()) == examples
    assert examples[0] == Example("0.0-0", "0.0", ("rows", "farm"), "plant a red tree", "", "0 done", None, {"topic": "farm"})  # fmt: skip
    assert [(task.id, task.path, task.kept, task.children) for task in data.tasks()] == [
        ("0", ("rows",), 1, ("0.0", "0.1")), ("0.0", ("rows", "farm"), 2, ()), ("0.1", ("rows", "music"), 1, ()),
    ]  # fmt: skip
    assert list(data.verdicts()) == []
    assert data.evidence("0.0").task.name == "farm"
    assert data.evidence("0.0-1").example == examples[1]
    with pytest.raises(FrozenInstanceError):
        examples[0].output = ""
    with pytest.raises(DataError, match=r"no task and no example has the id '7'"):
        data.evidence("7")


def test_the_stages_follow_one_another(source: Path, tmp_path: Path, capfd):
    """import, filter, prune, merge, decontaminate, sample and export pass a data set on; each counts what it did, and
    none of them prints anything.
    """
    seen: list[int] = []
    imported = import_data(source, tmp_path / "data", columns={"task": "topic"}, on_progress=seen.append)
    assert (imported.examples, imported.tasks, imported.bad_rows, seen) == (4, 3, 0, [4])
    filtered = filter_data(imported.out, tmp_path / "filtered", threshold=0.6)
    assert (filtered.before, filtered.candidates, filtered.kept, dict(filtered.dropped)) == (4, 4, 3, {"duplicate": 1})
    data = open_data(filtered.out)
    dropped = [verdict for verdict in data.verdicts() if not verdict.kept]
    assert dropped == [
        Verdict("example", "0.0-1", "0.0", kept=False, reason="duplicate", text="plant a red tree now",
                score=pytest.approx(8 / 9), nearest="0.0-0", request=None)
    ]  # fmt: skip
    evidence = data.evidence("0.0-1")
    assert (evidence.verdict, evidence.example, evidence.nearest.instruction) == (*dropped, None, "plant a red tree")
    assert prune_data(filtered.out).pruned == ()
    merged = merge_data([data, imported.out], tmp_path / "merged")
    assert (merged.candidates, merged.kept) == (7, 3)
    benchmark = written(tmp_path / "benchmark.jsonl", [{"question": "sing a song"}])
    clean = decontaminate_data(data, tmp_path / "clean", [benchmark])
    assert (clean.kept, clean.dropped, clean.by_rouge, dict(clean.by_benchmark)) == (2, 1, 1, {"benchmark.jsonl": 1})
    (contaminated,) = (verdict for verdict in open_data(clean.out).verdicts() if not verdict.kept)
    assert (contaminated.nearest, contaminated.score) == ("benchmark.jsonl, row 1", 1.0)
    sample = sample_data(data, tmp_path / "sample.jsonl", 2, seed=3)
    assert (sample.train, sample.available, sample.files) == (2, 3, (tmp_path / "sample.jsonl",))
    exported = export_data(data, tmp_path / "all.jsonl", shape="messages")
    assert (exported.train, len(lines(tmp_path / "all.jsonl"))) == (3, 3)
    assert capfd.readouterr() == ("", "")


def test_benchmarks_of_the_same_file_name_are_told_apart(tmp_path: Path):
    """Counts and evidence of each have as much of its path as tells it from the others, and no more."""
    asked = {"a/gsm8k/test.jsonl": "sing a song", "a/math/test.jsonl": "bake a cake", "b/math/test.jsonl": "fly a kite",
             "only.jsonl": "read a book"}  # fmt: skip
    for name, text in asked.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        written(tmp_path / name, [{"question": text}])
    source = written(tmp_path / "rows.jsonl", [{"instruction": text, "output": "x"} for text in asked.values()])
    clean = decontaminate_data(source, tmp_path / "clean", [tmp_path / name for name in asked])
    names = ["gsm8k/test.jsonl", "a/math/test.jsonl", "b/math/test.jsonl", "only.jsonl"]
    assert dict(clean.by_benchmark) == dict.fromkeys(names, 1)
    assert [verdict.nearest for verdict in open_data(clean.out).verdicts()] == [f"{name}, row 1" for name in names]
    report = orjson.loads(clean.report.read_bytes())
    assert report["benchmarks"] == list(report["by_benchmark"]) == names


def test_columns_belong_to_a_path(source: Path, tmp_path: Path):
    """A data set that is open has its columns already."""
    with pytest.raises(ConfigError, match="is open already"):
        export_data(open_data(source), tmp_path / "out.jsonl", columns={"task": "topic"})


def test_a_pruned_task_is_marked(tmp_path: Path):
    """A task whose name repeats another is found, and the tasks of the data set say so."""
    rows = [{"instruction": f"do {n}", "output": "done", "topic": topic} for n, topic in enumerate(["grow red roses", "grow red roses well"])]  # fmt: skip
    out = import_data(written(tmp_path / "in.jsonl", rows), tmp_path / "data", columns={"task": "topic"}).out
    result = prune_data(out)
    assert [(task.id, task.nearest) for task in result.pruned] == [("0.1", "0.0")]
    tasks: list[Task] = list(open_data(out).tasks())
    assert [task.id for task in tasks if task.is_pruned] == ["0.1"]
    assert export_data(out, tmp_path / "out.jsonl").in_pruned_tasks == 1


@pytest.mark.parametrize(("package", "method"), [("pandas", DataSet.to_pandas), ("datasets", DataSet.to_dataset)])
def test_a_package_that_is_missing_is_named(source: Path, monkeypatch, package: str, method):
    """Without the package there is a ConfigError that says what to install."""
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(ConfigError, match=f"pip install {package}"):
        method(open_data(source))


@pytest.mark.parametrize(("package", "method"), [("pandas", DataSet.to_pandas), ("datasets", DataSet.to_dataset)])
def test_examples_become_a_table(tmp_path: Path, package: str, method):
    """A table has all columns of all rows, where the package is installed."""
    pytest.importorskip(package)
    rows = [{"instruction": "a", "output": "b"}, {"instruction": "c", "output": "d", "more": "e"}]
    table = method(open_data(written(tmp_path / "in.jsonl", rows)))
    assert list(table["instruction"]) == ["a", "c"]
    assert list(table["more"])[1] == "e"
