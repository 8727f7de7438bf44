"""Exports hold every example once, in the shape that was asked for; cards are inert; samples follow their rule."""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from support.cli import in_process

from explore_async.curation.data_card import escape
from explore_async.curation.sampling import METHODS, draw_sample, quotas
from explore_async.curation.trainer_formats import SHAPES
from explore_async.exploration.values import AnswerSchema, ChatRequest, Completion, Prompt, Request
from explore_async.storage.completions import CompletionStore

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


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet"])
@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape not in {"preference", "kto"}])
def test_every_format_holds_every_example(run_path: Path, tmp_path: Path, shape: str, suffix: str):
    """In each shape and each kind of file: all examples, in their order, and nothing else."""
    found = exported(run_path, tmp_path / f"out{suffix}", "--format", shape)
    assert found == [SHAPES[shape](one) for one in EXAMPLES]


def test_the_shapes_say_what_the_example_says():
    """The input stands below the instruction; where there is none, or null, nothing does."""
    row = example(1, "0.0", input="given")
    asked = "Do thing 1\n\ngiven"
    assert SHAPES["messages"](row)["messages"][0] == {"role": "user", "content": asked}
    assert SHAPES["sharegpt"](row)["conversations"][1] == {"from": "gpt", "value": "Done 1."}
    assert SHAPES["prompt-completion"](row)["prompt"] == [{"role": "user", "content": asked}]
    assert SHAPES["alpaca"]({**row, "input": None}) == {"instruction": "Do thing 1", "input": "", "output": "Done 1."}


def test_a_folder_has_a_card_in_which_nothing_acts(run_path: Path, tmp_path: Path):
    """The header is YAML that names the rows and the license; hostile names are text, in table cells of their own."""
    assert in_process("export", run_path, "--out", tmp_path / "data set", "--license", "cc-by-4.0").code == 0
    card = (tmp_path / "data set" / "README.md").read_text()
    _, header, body = card.split("---\n", 2)
    header = yaml.safe_load(header)
    assert header["license"] == "cc-by-4.0"
    (files,) = header["configs"][0]["data_files"]
    assert pq.read_table(tmp_path / "data set" / files["path"]).num_rows == 30
    prose = body.split("```")[0]
    assert "<script" not in prose
    rows = [line for line in prose.splitlines() if "javascript" in line and line.startswith("|")]
    assert len(rows) == 3
    assert all(row.replace(r"\|", "").count("|") == 5 for row in rows)
    assert r"\[x\](javascript" in rows[0]


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


@pytest.mark.parametrize(
    "refused",
    [
        (["export", "RUN", "--out", "x.txt"], 2, "examples have several fields"),
        (["export", "RUN", "--out", "x.jsonl", "--format", "odd"], 2, "one of 'rows', 'alpaca'"),
        (["export", "RUN/dataset.jsonl", "--out", "RUN/dataset.jsonl"], 2, "it is the source"),
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
