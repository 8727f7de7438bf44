"""Exports hold every example once, in the shape that was asked for; cards are inert; samples follow their rule."""

from __future__ import annotations

import asyncio
import csv
import re
from pathlib import Path

import orjson
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from support.cli import in_process

from explore_async.curation.card_text import escape
from explore_async.curation.collections.marks import write_mark
from explore_async.curation.files.source import Source
from explore_async.curation.sampling import METHODS, draw_sample, quotas
from explore_async.curation.trainer_formats import PAIRS, SHAPES
from explore_async.exploration.values import AnswerSchema, ChatRequest, Completion, Prompt, Request
from explore_async.storage.completions import CompletionStore

OF_ONE_ANSWER = [shape for shape in SHAPES if shape not in {*PAIRS, "kto"}]
HOSTILE = "<script>alert(1)</script> | [x](javascript:alert(1)) `a` ![i](http://h/i.png)"


def example(number: int, task: str, **changes: str) -> dict[str, object]:
    row = {"instruction": f"Do thing {number}", "input": "", "output": f"Done {number}."}
    whole = {"id": f"{task}-{number}", "task_id": task, "task_path": ["root", task], **row, "request": "ab" * 16}
    return {**whole, **changes}


EXAMPLES = [example(n, f"0.{n % 3}", input="given" if n % 4 == 0 else "") for n in range(30)]


@pytest.fixture
def run_path(tmp_path: Path) -> Path:
    """A run directory as a run leaves it, of 30 examples in three tasks, one with a hostile name."""
    path = tmp_path / "run"
    path.mkdir()
    recipe = {"name": "test", "description": HOSTILE, "model": "m", "language": "English", "seed": 3, "filters": {}}
    node = {"reason": "", "origin": "lookahead", "depth": 1, "dropped": 2, "answers": 3, "exhausted": False}
    children = [{**node, "id": f"0.{n}", "name": HOSTILE, "kept": 10, "children": []} for n in range(3)]
    root = {**node, "id": "0", "name": "root", "depth": 0, "origin": "seed", "kept": 0, "children": children}
    dropped = {"what": "example", "id": "0.0-31", "task_id": "0.0", "instruction": "Do thing 0 again", "kept": False}
    decisions = [
        {"what": "task", "id": "0.0", "parent": "0", "name": HOSTILE, "kept": True, "reason": "accepted"},
        *({"what": "example", "id": one["id"], "task_id": one["task_id"], "kept": True, "reason": "accepted"} for one in EXAMPLES),
        {**dropped, "reason": "duplicate", "score": 0.8, "nearest": "0.0-0", "request": "cd" * 16},
    ]  # fmt: skip
    documents = {"config.json": {"recipe": recipe, "digest": "d"}, "stats.json": {}, "tree.json": {"trees": [root]}}
    for name, document in documents.items():
        (path / name).write_bytes(orjson.dumps(document))
    for name, lines in (("dataset.jsonl", EXAMPLES), ("decisions.jsonl", decisions)):
        (path / name).write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    return path


def exported(run_path: Path, out: Path, *more: str) -> list[dict[str, object]]:
    result = in_process("export", run_path, "--out", out, *more)
    assert result.code == 0, result.stderr
    if out.suffix == ".parquet":
        return pq.read_table(out).to_pylist()
    if out.suffix == ".json":
        return orjson.loads(out.read_bytes())
    return [orjson.loads(line) for line in out.read_bytes().splitlines()]


def mark(run_path: Path, number: int, name: str, note: str = "") -> None:
    write_mark(run_path, EXAMPLES[number], name, note)  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize("shape", OF_ONE_ANSWER)
def test_ids_and_tasks_on_request(run_path: Path, tmp_path: Path, shape: str, suffix: str):
    """--keep puts columns of the source beside those of the format, in every format."""
    kept = ("id", "task_path", "mark")
    found = exported(run_path, tmp_path / f"out{suffix}", "--format", shape, *(f"--keep={name}" for name in kept))
    assert found == [{**{name: one.get(name) for name in kept}, **SHAPES[shape](one)} for one in EXAMPLES]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_other_columns_are_kept_too(tmp_path: Path, suffix: str):
    """Columns of data from elsewhere, with their types; a column that no example has is an error that names those."""
    rows = [{"instruction": f"Do {n}", "output": "x", "year": 2000 + n, "tags": ["a"]} for n in range(5)]
    source = tmp_path / "rows.jsonl"
    source.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    kept = ("--format", "messages", "--keep", "year", "--keep", "tags")
    found = exported(source, tmp_path / f"out{suffix}", *kept)
    assert [(one["year"], one["tags"]) for one in found] == [(row["year"], ["a"]) for row in rows]
    result = in_process("export", source, "--out", tmp_path / "no.jsonl", "--keep", "odd")
    assert result.code == 2
    assert "year, tags" in " ".join(result.stderr.split())
    assert not (tmp_path / "no.jsonl").exists()


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_marks_are_exported(run_path: Path, tmp_path: Path, suffix: str):
    """What is marked bad is left out and counted, unless any is wanted; rows have the mark and its note. A mark that was
    given to another text counts for nothing.
    """
    mark(run_path, 1, "bad", "too easy")
    mark(run_path, 2, "good", "a fine one")
    mark(run_path, 3, "bad")
    mark(run_path, 3, "good")
    write_mark(run_path, {**EXAMPLES[4], "instruction": "Another text of an earlier recipe"}, "bad")
    marks = {1: ("bad", "too easy"), 2: ("good", "a fine one"), 3: ("good", "")}
    expected = [
        {**one, "mark": marks.get(n, (None, None))[0], "mark_note": marks.get(n, (None, None))[1]}
        for n, one in enumerate(EXAMPLES)
    ]
    assert exported(run_path, tmp_path / f"any{suffix}", "--marked", "any") == expected
    assert exported(run_path, tmp_path / f"out{suffix}") == [row for row in expected if row["mark"] != "bad"]
    assert exported(run_path, tmp_path / f"good{suffix}", "--marked", "good") == expected[2:4]
    exported_card = in_process("export", run_path, "--out", tmp_path / f"card{suffix[1:]}")
    assert exported_card.code == 0, exported_card.stderr
    card = (tmp_path / f"card{suffix[1:]}" / "README.md").read_text()
    assert "29 examples, those that were kept; 1 left out by the marks of readers" in card
    write_mark(run_path, {"id": "0-9.9", "task_id": "0", "instruction": "It was dropped"}, "good")
    told = in_process("export", run_path, "--out", tmp_path / f"told{suffix}", "--marked", "good").stderr
    assert "as dropped or with another text by now: 1 example." in " ".join(told.split())
    result = in_process("export", run_path, "--out", tmp_path / f"m{suffix}", "--format", "messages", "--json")
    assert (result.json["examples"], result.json["left_out"]["marked"]) == (29, 1)
    assert "1 left out: marked bad" in result.stderr
    assert in_process("sample", run_path, "--out", tmp_path / f"s{suffix}", "-n", "30", "--json").json["examples"] == 29
    folder = in_process(
        "export", run_path, "--out", tmp_path / f"tree{suffix[1:]}", "--format", "explore-instruct", "--json"
    )
    assert (folder.json["examples"], folder.json["left_out"]["marked"]) == (29, 1)
    shown = in_process("show", run_path, EXAMPLES[1]["id"]).stdout
    assert "marked  bad: too easy" in shown


def test_marks_stay_with_their_examples(run_path: Path, tmp_path: Path):
    """Through the commands that write data directories, with new ids too; and when such a directory is written again,
    also those that were given there.
    """
    mark(run_path, 1, "bad", "too easy")
    mark(run_path, 2, "good")
    (tmp_path / "rows.jsonl").write_bytes(b'{"instruction": "Something else entirely", "output": "x"}\n')
    for command in (["import", run_path], ["filter", run_path, "--threshold", "1"], ["merge", tmp_path / "rows.jsonl", run_path, "--threshold", "1"]):  # fmt: skip
        out = tmp_path / str(command[0])
        assert in_process(*command, "--out", out).code == 0
        rows = {row["instruction"]: row for row in exported(out, tmp_path / "out.jsonl", "--marked", "any")}
        assert [rows[f"Do thing {n}"]["mark"] for n in (0, 1, 2)] == [None, "bad", "good"]
        assert rows["Do thing 1"]["mark_note"] == "too easy"
    write_mark(tmp_path / "import", EXAMPLES[5], "bad")
    assert in_process("import", run_path, "--out", tmp_path / "import").code == 0
    again = exported(tmp_path / "import", tmp_path / "out.jsonl", "--marked", "any")
    assert [row["mark"] for row in again[:6]] == [None, "bad", "good", None, None, "bad"]


@pytest.mark.parametrize("line", [b"{nonsense", b'{"id": "0.1-1", "mark": "odd", "note": "", "task_id": "0", "instruction": "x"}'])  # fmt: skip
def test_a_line_that_is_no_mark_is_named(run_path: Path, tmp_path: Path, line: bytes):
    """An edited file of marks is never passed over: they decide what is exported."""
    mark(run_path, 1, "bad")
    with (run_path / "marks.jsonl").open("ab") as file:
        file.write(line + b"\n")
    result = in_process("export", run_path, "--out", tmp_path / "x.jsonl")
    assert result.code == 5
    assert "marks.jsonl, line 2" in " ".join(result.stderr.split())


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet"])
@pytest.mark.parametrize("shape", OF_ONE_ANSWER)
def test_every_format_holds_every_example(run_path: Path, tmp_path: Path, shape: str, suffix: str):
    """In each shape and each kind of file: all examples, in their order, and nothing else."""
    found = exported(run_path, tmp_path / f"out{suffix}", "--format", shape)
    assert found == [SHAPES[shape](one) for one in EXAMPLES]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".csv.gz", ".tsv.zst"])
def test_tables_hold_flat_rows(run_path: Path, tmp_path: Path, suffix: str):
    """They come back as they went out; a list in a row is an error that counts the rows, before anything is written."""
    rows = exported(run_path, tmp_path / "data.jsonl", "--format", "alpaca", "--keep", "id")
    out = tmp_path / f"data{suffix}"
    assert in_process("export", run_path, "--out", out, "--format", "alpaca", "--keep", "id").code == 0
    assert [row.value for row in Source(out)] == rows
    refused = in_process("export", run_path, "--out", tmp_path / f"rows{suffix}")
    assert refused.code == 5
    assert f"task_path ({len(rows):,} rows)" in " ".join(refused.stderr.split())
    assert "write .jsonl, or take a flat format (--format alpaca)" in " ".join(refused.stderr.split())
    assert not (tmp_path / f"rows{suffix}").exists()
    added = in_process("export", run_path, "--out", out, "--format", "alpaca", "--keep", "task_path", "--keep", "id")
    assert added.code == 5
    assert "write .jsonl, or leave out --keep task_path" in " ".join(added.stderr.split())
    parts = in_process(
        "export", run_path, "--out", tmp_path / f"s{suffix}", "--format", "alpaca", "--validation", "0.2"
    )
    assert parts.code == 0, parts.stderr
    assert (tmp_path / f"s.validation{suffix}").is_file()


@pytest.mark.parametrize("name", ["data.md", "data.txt", "data.parquet.gz"])
def test_a_name_that_no_export_has(run_path: Path, tmp_path: Path, name: str):
    """Code 2, and the names that an export can have: text is not among them."""
    result = in_process("export", run_path, "--out", tmp_path / name)
    assert result.code == 2
    assert ".jsonl, .ndjson, .json, .csv or .tsv, each also with .gz or .zst, or in .parquet" in result.stderr
    assert ".txt," not in result.stderr


def test_the_card_tells_what_the_rows_lack(tmp_path: Path):
    """Conversations that are cut and answers that are missing; and it names the trainers that it has configs of."""
    rows = [
        {"instruction": "Name a sea.", "output": "", "system": "Be brief."},
        {"instruction": "And a lake?", "output": "Garda.", "history": [["Name a sea.", "The Baltic."]]},
    ]
    source = tmp_path / "rows.jsonl"
    source.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    assert in_process("export", source, "--out", tmp_path / "out", "--format", "alpaca").code == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert "2 examples, all that were kept; 1 cut to a part of their conversation; 1 without an answer" in card
    assert "`dataset_info.json`, `llamafactory.yaml`: configs of LLaMA-Factory, in which" in card
    assert in_process("export", source, "--out", tmp_path / "whole", "--format", "messages").code == 0
    assert "configs of Axolotl and LLaMA-Factory, in which" in (tmp_path / "whole" / "README.md").read_text()


def test_a_delimiter_that_the_name_does_not_promise_is_said(tmp_path: Path):
    """Once by each command on the table, and in rows as in a format of trainers; of a table with commas nothing is."""
    texts = [("instruction", "output"), ("Name a river, please", "Elbe"), ("Say when; now?", "1,5 s")]
    for name, delimiter in (("odd.csv", ";"), ("even.csv", ",")):
        with (tmp_path / name).open("w", newline="") as file:
            csv.writer(file, delimiter=delimiter).writerows(texts)
    (tmp_path / "known.jsonl").write_bytes(orjson.dumps({"question": "Add them"}))
    odd, even = tmp_path / "odd.csv", tmp_path / "even.csv"
    commands = (
        ("export", odd, "--out", tmp_path / "rows.jsonl"),
        ("export", odd, "--out", tmp_path / "alpaca.jsonl", "--format", "alpaca"),
        ("filter", odd, "--out", tmp_path / "filtered"),
        ("merge", odd, even, "--out", tmp_path / "merged"),
        ("decontaminate", odd, "--against", tmp_path / "known.jsonl", "--out", tmp_path / "clean"),
        ("export", even, "--out", tmp_path / "even.jsonl"),
    )
    said = ["".join(in_process(*command).stderr.split()) for command in commands]
    assert [text.count("odd.csv:readwithsemicolonsbetweenitsvalues") for text in said] == [1, 1, 1, 1, 1, 0], said


def test_the_shapes_say_what_the_example_says():
    """The input stands below the instruction; where there is none, or null, nothing does."""
    row = example(1, "0.0", input="given")
    asked = "Do thing 1\n\ngiven"
    assert SHAPES["messages"](row)["messages"][0] == {"role": "user", "content": asked}
    assert SHAPES["sharegpt"](row)["conversations"][1] == {"from": "gpt", "value": "Done 1."}
    assert SHAPES["prompt-completion"](row)["prompt"] == [{"role": "user", "content": asked}]
    assert SHAPES["alpaca"]({**row, "input": None}) == {"instruction": "Do thing 1", "input": "", "output": "Done 1."}


def without_fences(body: str) -> str:
    return re.sub(r"^(`{3,})\w*\n.*?^\1$", "", body, flags=re.MULTILINE | re.DOTALL)


def test_a_folder_has_a_card_in_which_nothing_acts(run_path: Path, tmp_path: Path):
    """The header is YAML that names the rows and the license; hostile names are text, in table cells of their own."""
    assert in_process("export", run_path, "--out", tmp_path / "data set", "--license", "cc-by-4.0").code == 0
    card = (tmp_path / "data set" / "README.md").read_text()
    _, header, body = card.split("---\n", 2)
    header = yaml.safe_load(header)
    assert header["license"] == "cc-by-4.0"
    (files,) = header["configs"][0]["data_files"]
    assert pq.read_table(tmp_path / "data set" / files["path"]).num_rows == 30
    prose = without_fences(body)
    assert "<script" not in prose
    rows = [line for line in prose.splitlines() if "javascript" in line and line.startswith("|")]
    assert len(rows) == 3
    assert all(row.replace(r"\|", "").count("|") == 5 for row in rows)
    assert r"\[x\](javascript" in rows[0]


def card_of(out: Path) -> tuple[dict, str]:
    _, header, body = (out / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(header), body


def test_a_card_knows_what_was_found_of_the_language(run_path: Path, tmp_path: Path):
    """A filter that checked it is named, and so is an analysis that found another one; then no header claims a language."""
    out, checked = tmp_path / "card", tmp_path / "checked"
    assert in_process("filter", run_path, "--set", "language=true", "--out", checked).code == 0
    assert in_process("export", checked, "--out", out).code == 0
    header, body = card_of(out)
    assert header["language"] == ["en"]
    assert "Examples that are clearly in another language were dropped." in body
    found = "the recipe asks for English, and most texts are in German"
    figures = {"unique": 1, "mean_occurrences": 1, "std_occurrences": 0, "chao1": None, "unseen_mass": None}
    kept = len((run_path / "dataset.jsonl").read_bytes().splitlines())
    others = {"examples": kept, "overlap_nearest": 0.1, "near_duplicates": 0, "other_language": found}
    (run_path / "coverage.json").write_bytes(orjson.dumps(figures | others))
    assert in_process("export", run_path, "--out", out).code == 0
    header, body = card_of(out)
    assert "language" not in header
    assert f"| language | {found} |" in body
    assert "written in English" not in body


def test_a_card_can_be_published_as_it_is(run_path: Path, tmp_path: Path):
    """It shows rows of the data, every column, how to load it, its limits, a citation, the dates, the model with its
    revision and the engines with their versions; and nothing of the folders of this machine.
    """
    config = orjson.loads((run_path / "config.json").read_bytes())
    config["recipe"] |= {
        "language": "German",
        "against": [{"path": "/home/someone/secret/known.jsonl", "digest": "ab"}],
    }
    endpoints = [{"url": "http://gpu1:8000/v1", "engines": ["vllm 0.11.0"]}, {"url": "http://gpu2/v1", "engines": ["vllm 0.12.1"]}]  # fmt: skip
    starts = {"starts": 2, "begin": "2026-11-24T22:10:00Z", "end": "2026-11-26T01:00:00Z", "seconds": 90.5, "endpoints": endpoints}  # fmt: skip
    (run_path / "config.json").write_bytes(orjson.dumps(config))
    (run_path / "stats.json").write_bytes(orjson.dumps({"all_starts": starts}))
    out = tmp_path / "rivers"
    assert in_process("export", run_path, "--out", out, "--format", "messages", "--keep", "id", "--model-revision", "abc123").code == 0  # fmt: skip
    header, body = card_of(out)
    assert header["language"] == ["de"]
    rows = pq.read_table(out / "data/train.parquet").to_pylist()
    shown = [orjson.loads(block) for block in re.findall(r"^```json\n(.*?)^```$", body, re.MULTILINE | re.DOTALL)]
    assert len(shown) == 3
    assert all(row in rows for row in shown)
    assert "| id | text | id of the example |" in body
    assert "| messages | list of object (role, content) |" in body
    assert "load_dataset('rivers', split='train')" in body
    assert "`train.py`" in body
    assert "vllm 0.11.0, vllm 0.12.1" in body
    assert "2026-11-24 to 2026-11-26" in body
    assert "abc123" in body
    assert "The texts are to be in German: the prompts say so. It was not checked." in body
    assert "in German by m (2026-11-24 to 2026-11-26)" in body
    assert re.search(r"@misc\{test,\n  title  = \{test\},\n  year   = \{2026\}", body)
    assert "@inproceedings{wan2023exploreinstruct" in body
    assert "Nobody has checked these examples" in body
    assert "not compared with any benchmark" in body
    assert "someone" not in body
    assert "known.jsonl" in body
    assert str(tmp_path) not in body

    mark(run_path, 1, "bad", "too easy")
    mark(run_path, 2, "good")
    assert in_process("filter", run_path, "--threshold", "1", "--out", tmp_path / "stricter").code == 0
    assert in_process("export", tmp_path / "stricter", "--out", out).code == 0
    header, body = card_of(out)
    assert "Readers have marked 1 of the 29 examples (1 as good)" in body
    assert "1 left out by the marks of readers" in body
    assert "vllm 0.12.1" in body  # data that a command made knows the run that it came from
    assert "| mark | text |" in body or "| mark | null or a text |" in body


def test_made_up_texts_are_called_so(run_path: Path, tmp_path: Path):
    """An export of a simulated server's texts says so in a line, whatever its format, and so does one that replaces a
    file; the card names the language that
    was asked for, and takes the texts neither for it nor for a model's.
    """
    for name, more in (("config.json", {"recipe": {"name": "test", "language": "German"}}), ("stats.json", {})):
        (run_path / name).write_bytes(orjson.dumps({**more, "simulated": True}))
    for out in ("rows.jsonl", "folder"):
        exported = in_process("export", run_path, "--out", tmp_path / out, "--format", "messages", "--json")
        assert "made up by a simulated server" in exported.stderr
        assert exported.json["simulated"] is True
        assert "replaced" not in exported.stderr
    again = in_process("export", run_path, "--out", tmp_path / "rows.jsonl")
    assert f"replaced {tmp_path / 'rows.jsonl'}" in again.stderr
    header, body = card_of(tmp_path / "folder")
    assert "language" not in header
    assert "The recipe asks for texts in German" in body
    assert "model wrote" not in body
    assert "written in German" not in body


def test_rows_of_a_card_are_spread_and_short(tmp_path: Path):
    """Of many rows it shows some from the beginning, the middle and the end; of a long text the beginning. What a row
    holds stays within its fence.
    """
    rows = [{"instruction": f"Name river {n}", "output": f"``` {HOSTILE} " * 200} for n in range(1000)]
    (tmp_path / "rows.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    assert in_process("export", tmp_path / "rows.jsonl", "--out", tmp_path / "out", "--format", "alpaca").code == 0
    _, body = card_of(tmp_path / "out")
    blocks = re.findall(r"^(````+)json\n(.*?)^\1$", body, re.MULTILINE | re.DOTALL)
    numbers = [int(orjson.loads(block)["instruction"].split()[-1]) for _, block in blocks]
    assert numbers[0] == 0
    assert numbers[1] > 200
    assert numbers[2] > 500
    assert len(body) < 20_000
    assert "<script" not in without_fences(body)
    assert "A language model wrote" not in body  # nothing is claimed of data from elsewhere


@given(st.text())
def test_text_of_a_card_is_one_line_without_html(value: str):
    """Whatever a model calls a task: no line break, no tag, no unescaped mark of Markdown."""
    line = escape(value)
    assert "\n" not in line
    assert "<" not in line
    assert not any(mark in line.replace(rf"\{mark}", "") for mark in "`[]|")


def test_a_sample_is_written_and_repeats(run_path: Path, tmp_path: Path):
    """So many, of the run's examples, the same for the same seed and others for another."""
    taken = []
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        out = tmp_path / f"{name}.jsonl"
        assert in_process("sample", run_path, "--out", out, "-n", "9", "--seed", seed).code == 0
        taken.append(out.read_bytes())
    assert taken[0] == taken[1] != taken[2]
    rows = [orjson.loads(line) for line in taken[0].splitlines()]
    assert all(row in EXAMPLES for row in rows)
    assert sorted(row["task_id"] for row in rows) == ["0.0"] * 3 + ["0.1"] * 3 + ["0.2"] * 3


@given(
    counts=st.dictionaries(st.text(max_size=3), st.integers(0, 2000), max_size=12),
    size=st.integers(0, 5000),
    method=st.sampled_from(METHODS),
    cap=st.integers(1, 600),
)
def test_quotas_add_up_and_follow_the_weights(counts, size, method, cap):
    """The sum is the size, or all there is; no task gives more than it has; of two tasks that could give more, the
    heavier gives no less, and none is further than one from its exact share of what such tasks give.
    """
    found = quotas(counts, size, method, cap)
    assert sum(found.values()) == min(size, sum(counts.values()))
    assert all(0 <= found[task] <= count for task, count in counts.items())
    weight = {task: 1 if method == "uniform" else min(count, cap) for task, count in counts.items()}
    able = [task for task, count in counts.items() if found[task] < count]
    together, weights = sum(found[task] for task in able), sum(weight[task] for task in able)
    for task in able:
        assert abs(found[task] - together * weight[task] / weights) <= len(able)
        assert all(found[task] >= found[other] - 1 for other in able if weight[task] >= weight[other])


def test_the_published_proportions():
    """Explore-Instruct weighs a task by min(examples, 500): 600, 500 and 100 give 10 of 22 each, and 2."""
    assert quotas({"a": 600, "b": 500, "c": 100}, 22, "proportional") == {"a": 10, "b": 10, "c": 2}
    ids = [(f"{task}{n}", task) for task, count in (("a", 600), ("c", 100)) for n in range(count)]
    chosen = draw_sample(ids, 60, "uniform", 0)
    assert sum(one.startswith("a") for one in chosen) == 30


@pytest.mark.parametrize("size", [3, 5, 8, 12, 20])
def test_a_diverse_sample_has_its_size_however_few_are_compared(run_path: Path, tmp_path: Path, monkeypatch, size: int):
    """A sample has as many examples as were asked for, also where a task gives more than are compared with each other."""
    monkeypatch.setattr("explore_async.curation.sampling.MOST_CANDIDATES", 2)
    out = tmp_path / "sample.jsonl"
    result = in_process("sample", run_path, "--out", out, "-n", size, "--method", "diverse")
    assert result.code == 0, result.stderr
    assert len(out.read_bytes().splitlines()) == size


@pytest.mark.parametrize(
    "refused",
    [
        (["export", "RUN", "--out", "x.txt"], 2, "let the name end in .jsonl"),
        (["export", "RUN", "--out", "x.jsonl", "--format", "odd"], 2, "one of 'rows', 'alpaca'"),
        (["export", "RUN/dataset.jsonl", "--out", "RUN/dataset.jsonl"], 2, "it is a source"),
        (["export", "missing", "--out", "x.jsonl"], 5, "no such run directory or file"),
        (["sample", "RUN", "--out", "x.jsonl", "-n", "3", "--method", "odd"], 2, "'proportional', 'uniform'"),
        (["tree", "missing"], 5, "no such directory"),
        (["show", "RUN", "9.9"], 5, "no task and no example has the id '9.9'"),
    ],
)
def test_what_cannot_be_done_is_told(run_path: Path, tmp_path: Path, monkeypatch, refused):
    """The documented exit code, a message that says what to do, and nothing written."""
    arguments, code, message = refused
    monkeypatch.chdir(tmp_path)
    before = (run_path / "dataset.jsonl").read_bytes()
    result = in_process(*(one.replace("RUN", str(run_path)) for one in arguments))
    assert result.code == code
    assert message in " ".join(result.stderr.split())
    assert (run_path / "dataset.jsonl").read_bytes() == before
    assert not list(tmp_path.glob("x.*"))


@pytest.mark.parametrize("line", [b'{"id": "1", "instruction": 5, "output": "x"}', b"{nonsense", b'"text"'])
def test_a_damaged_line_is_named(run_path: Path, tmp_path: Path, line: bytes):
    """File and line are told, exit 5, and no half export is left behind."""
    with (run_path / "dataset.jsonl").open("ab") as file:
        file.write(line + b"\n")
    result = in_process("export", run_path, "--out", tmp_path / "x.json", "--format", "alpaca")
    assert result.code == 5
    assert "dataset.jsonl, line 31" in " ".join(result.stderr.split())
    assert not (tmp_path / "x.json").exists()


def test_the_tree_and_its_figures(run_path: Path):
    """Each task with its id, its kept examples and those of its branch; names cannot steer the terminal."""
    shown = in_process("tree", run_path).stdout
    assert "0 root  0 kept, 30 in the branch" in shown
    assert shown.count("10 kept, 83% of 12 read") == 3
    assert "3 tasks" in in_process("tree", run_path, "--depth", "0").stdout


async def test_an_example_with_its_evidence(run_path: Path):
    """A dropped example: its neighbour, and the prompt and raw answer of the request it came from."""
    request = Request(1, 1, "generate", "0.0", 0, Prompt("generate", {}), 0)
    question = ChatRequest("m", ({"role": "user", "content": "Write one\nmore"},), {}, 0, AnswerSchema("a", {}))
    async with CompletionStore(run_path / "completions.sqlite") as store:
        await store.put("cd" * 16, request, question, Completion("raw \x1b[31manswer", "stop", 5, 7))
    shown = (await asyncio.to_thread(in_process, "show", run_path, "0.0-31")).stdout
    assert "dropped: duplicate" in shown
    assert "0.800 with the nearest" in shown
    assert "0.0-0: Do thing 0" in shown
    assert "Write one\n  more" in shown
    assert "raw �[31manswer" in shown
