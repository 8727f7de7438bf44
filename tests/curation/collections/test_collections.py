"""Data from anywhere: every form that is understood, every fault named with its place, and what can be done with it."""

from __future__ import annotations

import asyncio
import gzip
import random
import signal
import subprocess
import sys
from contextlib import suppress
from decimal import Decimal
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.cli import environment, finished, in_process, launch

from explore_async.curation.collections.columns import make_reader
from explore_async.curation.collections.open import open_collection
from explore_async.curation.files.fields import FieldError
from explore_async.curation.ngrams import NgramIndex
from explore_async.curation.sampling import farthest_first, hold_out
from explore_async.curation.trainer_formats import PAIRS, SHAPES
from explore_async.errors import ExploreError
from rouge_kernels import TOKENIZERS

ASKED = [("Add 2 and 2", "", "4"), ("Name a river", "in France", "The Loire"), ("写一首诗", "", "春天 \u2028 来了")]
ROWS = [{"instruction": a, "input": b, "output": c} for a, b, c in ASKED]


def written(path: Path, rows: list[dict]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.name.endswith(".json"):
        path.write_bytes(orjson.dumps(rows))
    else:
        content = b"".join(orjson.dumps(row) + b"\n" for row in rows)
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def texts(path: Path, **columns: str) -> list[tuple[str, str, str]]:
    return [(one["instruction"], one["input"], one["output"]) for one in open_collection(path, columns).examples()]


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet", ".jsonl.gz"])
@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape not in {*PAIRS, "kto"}])
def test_what_export_writes_import_reads(tmp_path: Path, shape: str, suffix: str):
    """Each shape in each kind of file; where a shape has no input, it stands below the instruction."""
    folded = [(f"{a}\n\n{b}" if b else a, "", c) for a, b, c in ASKED]
    rows = [SHAPES[shape]({"id": str(n), **row}) for n, row in enumerate(ROWS)]
    found = texts(written(tmp_path / f"x{suffix}", rows))
    assert found == (ASKED if shape in {"rows", "alpaca"} else folded)


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        ({"prompt": "a", "response": "c"}, {}),
        ({"question": "a", "answer": "c"}, {}),
        ({"instruction": "a", "input": None, "response": "c"}, {}),
        ({"q": {"text": "a"}, "as": ["x", "c"]}, {"instruction": "q.text", "output": "as.1"}),
        ({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "a"}, {"role": "assistant", "content": "c"}]}, {}),
        ({"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "c"}, {"from": "human", "value": "d"}]}, {}),
    ],
)  # fmt: skip
def test_other_peoples_columns(row: dict, columns: dict[str, str]):
    """Usual names without being told, others by being told, dotted paths too."""
    found = make_reader(columns)(row)
    assert (found.instruction, found.input, found.output) == ("a", "", "c")


def test_a_conversation_that_goes_on_is_not_lost():
    """The first exchange is the example; the whole conversation stays beside it."""
    turns = [{"role": role, "content": text} for role, text in (("user", "a"), ("assistant", "b"), ("user", "c"))]
    assert make_reader({})({"messages": turns}).rest == {"messages": turns}
    assert make_reader({})({"messages": turns[:2], "k": 1}).rest == {"k": 1}


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "instruction",
                "input",
                "output",
                "messages",
                "turns",
                "prompt",
                "completion",
                "context",
                "chosen",
                "rejected",
            ]
        ),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=3),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["role", "content", "value", "user", "assistant", "tool_calls", "type"]),
                    inner,
                    max_size=3,
                )
            ),
            max_leaves=8,
        ),
    )
)
def test_any_row_is_read_or_refused(row: dict):
    """Three texts that every shape can be tried on, or a FieldError that says what is wrong: never a traceback."""
    with suppress(FieldError):
        found = make_reader({})(row)
        assert all(isinstance(text, str) for text in found[:3])
        texts = {"instruction": found.instruction, "input": found.input, "output": found.output}
        for shape in SHAPES.values():
            with suppress(FieldError):
                shape({**found.rest, **texts})


def test_tasks_by_a_column(tmp_path: Path):
    """A task for each value, in the order of their first rows, below a root that is called like the file."""
    rows = [{**ROWS[n % 3], "topic": f"t{n % 2}"} for n in range(6)]
    path = written(tmp_path / "mine.jsonl", rows)
    source = open_collection(path, {"task": "topic"})
    (root,) = source.trees()
    assert root["name"] == "mine"
    assert [(child["name"], child["kept"]) for child in root["children"]] == [("t0", 3), ("t1", 3)]
    assert [one["task_path"] for one in source.examples()][:2] == [["mine", "t0"], ["mine", "t1"]]


FAULTS = [
    (b'{"instruction": "a", "output": "b"}\n{"instruction": 5, "output": "b"}\n', ".jsonl", "line 2: field instruction is a number"),
    (b'{"instruction": "a", "output": "b"}\n{"instruction": "a", "output": {"n": 7}}\n', ".jsonl", "line 2: field output is an object, not a text"),
    (b'{"instruction": "a", "output": "b"}\n{"instruction": "\\ud800", "output": "b"}\n', ".jsonl", "line 2: invalid JSON"),
    (b'{"instruction": "a", "output": "b"}\n{"instruction": "\xe9", "output": "b"}\n', ".jsonl", "line 2: invalid JSON"),
    (b'{"instruction": "a", "output": "b"}\n{"text": "b"}\n', ".jsonl", "--column instruction=FIELD"),
    (b'{"instruction": "a", "output": "b"}\n{"messages": [1]}\n', ".jsonl", "line 2: field messages is not a list of objects"),
    (b"\xff\xfe[\x00", ".json", "not a JSON list"),
    (b'[{"instruction": "a", "output": "b"},', ".json", "not a JSON list"),
    (b"\x1f\x8bnonsense", ".jsonl.gz", "damaged or truncated gzip"),
    (b"PAR1nonsense", ".parquet", "Parquet"),
    (b'{"instruction": "a", "output": "b", "score": [1, NaN]}\n', ".jsonl", "line 1: invalid JSON: NaN is no value of JSON"),
    (b"\x1f\x8b\x08nonsense", ".jsonl", "it holds gzip, and its name does not end in .gz"),
    (b"\x28\xb5\x2f\xfdnonsense", ".csv", "it holds zstd, and its name does not end in .zst"),
    (b"PAR1\x15nonsense", ".json", "it holds Parquet, and its name does not end in .parquet"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "suffix", "message"), FAULTS)
@pytest.mark.parametrize("command", ["import", "filter", "export", "sample", "merge", "decontaminate"])
def test_damaged_files_are_named_and_leave_nothing(
    tmp_path: Path, command: str, content: bytes, suffix: str, message: str
):
    """File, row and field, exit 5, and nothing written: with every command."""
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(content)
    benchmark = written(tmp_path / "benchmark.jsonl", [{"question": "q"}])
    out = tmp_path / ("out.jsonl" if command in {"export", "sample"} else "out")
    more = {"sample": ["-n", "1"], "merge": [benchmark], "decontaminate": ["--against", benchmark]}.get(command, [])
    result = in_process(command, path, *more, "--out", out)
    said = " ".join(result.stderr.split())
    assert result.code == 5, said
    assert message in said
    assert f"bad{suffix}" in said
    assert sorted(one.name for one in tmp_path.iterdir()) == sorted([path.name, benchmark.name])


def test_odd_but_whole_files_are_read(tmp_path: Path):
    """A byte order mark, CRLF, empty lines, extra columns of many types, and a field of 2 MB."""
    long = "word " * 400_000
    lines = [
        orjson.dumps({**row, "n": n, "tags": ["a", n]}) for n, row in enumerate([*ROWS, {**ROWS[0], "output": long}])
    ]
    path = tmp_path / "odd.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + b"\r\n\r\n".join(lines) + b"\r\n")
    assert in_process("import", path, "--out", tmp_path / "data").code == 0
    rows = [orjson.loads(line) for line in (tmp_path / "data" / "dataset.jsonl").read_bytes().splitlines()]
    assert [(row["instruction"], row["output"]) for row in rows[:3]] == [(a, c) for a, _, c in ASKED]
    assert rows[3]["output"] == long
    assert rows[2]["tags"] == ["a", 2]
    assert in_process("export", tmp_path / "data", "--out", tmp_path / "x.parquet").code == 5  # tags of two types
    assert in_process("export", tmp_path / "data", "--out", tmp_path / "x.parquet", "--format", "alpaca").code == 0


def test_bad_rows_are_skipped_where_asked(tmp_path: Path):
    """And counted, the first of them by name."""
    path = tmp_path / "some.jsonl"
    path.write_bytes(b'{"instruction": "a", "output": "b"}\nnonsense\n{"instruction": "c", "output": "d"}\n')
    result = in_process("import", path, "--out", tmp_path / "data", "--on-bad-row", "skip", "--json")
    assert result.code == 0
    assert "skipped:" in result.stderr
    assert "line 2" in " ".join(result.stderr.split())
    counts = {"examples": 2, "tasks": 1, "bad_rows": 1, "unanswered": 0, "uninstructed": 0}
    assert orjson.loads(result.stdout) == {"out": str(tmp_path / "data"), **counts}


@pytest.mark.parametrize("command", ["import", "filter", "export", "decontaminate", "analyze"])
def test_a_bad_row_is_an_error_that_says_how_to_go_on(tmp_path: Path, command: str):
    """It names the command that skips such rows, as most have no option for that."""
    path = tmp_path / "bad.jsonl"
    path.write_bytes(b'{"instruction": "a", "output": "b"}\nnonsense\n')
    against = ["--against", written(tmp_path / "good.jsonl", ROWS)] if command == "decontaminate" else []
    out = tmp_path / {"export": "out.jsonl", "analyze": "out.json"}.get(command, "out")
    result = in_process(command, path, "--out", out, *against)
    assert result.code == 5
    said = " ".join(result.stderr.split())
    assert "bad.jsonl, line 2" in said
    assert "`import --on-bad-row skip` goes on without such rows" in said


def test_values_of_parquet_that_json_has_no_form_for(tmp_path: Path):
    """A decimal is its text, as an answer and beside it; columns of bytes and of spans of time are left out, within
    objects, too, and the command names them. A float that is no number is null.
    """
    decimals = pa.array([Decimal("3.50"), None], pa.decimal128(10, 2))
    images = [{"bytes": b"\xff", "path": "a"}] * 2
    columns = {"question": ["a", "b"], "answer": decimals, "price": decimals, "image": images}
    more = {"raw": [b"x", None], "took": pa.array([1, 2], pa.duration("s")), "x": [float("inf"), float("nan")]}
    pq.write_table(pa.table({**columns, **more}), tmp_path / "some.parquet")
    for command, out in (("import", "data"), ("filter", "kept"), ("export", "rows.jsonl"), ("export", "rows.parquet")):
        result = in_process(command, tmp_path / "some.parquet", "--out", tmp_path / out)
        assert result.code == 0, result.stderr
        said = " ".join(result.stderr.split())
        assert "image (struct<bytes: binary, path: string>), raw (binary), took (duration[s])" in said
    for rows in ("data/dataset.jsonl", "kept/dataset.jsonl", "rows.jsonl"):
        first, second = map(orjson.loads, (tmp_path / rows).read_bytes().splitlines())
        assert (first["output"], first["price"], first["x"]) == ("3.50", "3.50", None)
        assert (second["output"], second["price"], second["x"]) == ("", None, None)
        assert {"image", "raw", "took"}.isdisjoint({*first, *second})


def test_values_without_a_common_type_are_named(tmp_path: Path):
    """The column and the first example that does not fit, for Parquet and for a folder; the row, where dedup writes it."""
    parts = [{"type": "text", "text": "Name a sea."}]
    talks = [[{"role": "user", "content": content}] for content in ("Name a hill.", "Name a lake.", parts, parts)]
    path = written(tmp_path / "talks.jsonl", [{"messages": talk, "n": n} for n, talk in enumerate(talks)])
    for out in ("folder", "rows.parquet"):
        result = in_process("export", path, "--out", tmp_path / out, "--format", "messages")
        assert result.code == 5
        assert "talks.jsonl, example 0-2: column messages: " in " ".join(result.stderr.split())
    result = in_process("dedup", path, "--out", tmp_path / "rows.parquet", "--field", "user-turns")
    assert result.code == 5
    assert "talks.jsonl, line 3: column messages: " in " ".join(result.stderr.split())


def test_what_has_no_instruction_is_told(tmp_path: Path):
    """A conversation without turns is named as empty, and a blank instruction is counted."""
    empty = written(tmp_path / "empty.jsonl", [{"messages": [], "id": 1}])
    said = " ".join(in_process("import", empty, "--out", tmp_path / "data").stderr.split())
    assert "line 1: field messages is empty" in said
    blank = written(tmp_path / "blank.jsonl", [{"instruction": " ", "output": "x"}, ROWS[0]])
    result = in_process("import", blank, "--out", tmp_path / "data", "--json")
    assert "with an empty instruction: 1 of 2 examples" in " ".join(result.stderr.split())
    assert (result.json["examples"], result.json["uninstructed"]) == (2, 1)


def test_an_import_does_not_overwrite_what_is_no_data(tmp_path: Path):
    """A folder of somebody's is left alone; an earlier import is replaced."""
    path = written(tmp_path / "a.jsonl", ROWS)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    assert in_process("import", path, "--out", tmp_path / "mine").code == 2
    assert (tmp_path / "mine" / "thesis.txt").exists()
    for _ in range(2):
        assert in_process("import", path, "--out", tmp_path / "data").code == 0


def test_a_damaged_folder_of_the_originals(tmp_path: Path):
    """A tree or a task that is none is named, never a traceback."""
    for content in (
        b"[]",
        b"{}",
        b'{"task_name": 5}',
        b'{"task_name": "a", "children": 5}',
        b'{"task_name": "a", "children": [1]}',
    ):
        (tmp_path / "tree_meta_info.json").write_bytes(content)
        result = in_process("import", tmp_path, "--out", tmp_path / "out")
        assert result.code == 5
        assert "tree_meta_info.json" in result.stderr.replace("\n", "")
    (tmp_path / "tree_meta_info.json").write_bytes(b'{"task_name": "a", "config_filename": "../../a.json"}')
    (tmp_path / "a.json").write_bytes(b'{"examples": [{"instruction": "i", "output": 7}]}')
    result = in_process("import", tmp_path, "--out", tmp_path / "out")
    assert "example 1: field output" in " ".join(result.stderr.split())


words = st.lists(st.lists(st.sampled_from("abc"), max_size=9).map(" ".join), max_size=6)


@given(words, words, st.integers(1, 4))
def test_shared_runs_are_those_of_the_obvious_search(benchmark: list[str], wanted: list[str], n: int):
    """The first run of n tokens that some benchmark text has too, and the first text that has it."""
    index = NgramIndex(n, TOKENIZERS["rouge"])
    index.add(benchmark)
    index.build()
    for text, found in zip(wanted, index.find(wanted), strict=True):
        tokens = text.split()
        runs = [" ".join(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
        expected = next(
            (
                (position, run)
                for run in runs
                for position, other in enumerate(benchmark)
                if f" {run} " in f" {' '.join(other.split())} "
            ),
            None,
        )
        assert (None if found is None else (found.position, found.ngram)) == expected


@given(words.filter(len), st.integers(1, 6))
def test_farthest_first_is_the_greedy_rule(given_texts: list[str], size: int):
    """Each next text is the earliest of those whose greatest F with the chosen ones is least."""

    def lcs(a: list[str], b: list[str]) -> int:
        table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
        for i, x in enumerate(a):
            for j, y in enumerate(b):
                table[i + 1][j + 1] = table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
        return table[-1][-1]

    def score(one: str, other: str) -> float:
        a, b = one.split(), other.split()
        return 2 * lcs(a, b) / max(len(a) + len(b), 1)

    chosen = [0]
    while len(chosen) < min(size, len(given_texts)):
        left = [i for i in range(len(given_texts)) if i not in chosen]
        chosen.append(min(left, key=lambda i: max(score(given_texts[i], given_texts[j]) for j in chosen)))
    assert farthest_first(given_texts, size, TOKENIZERS["rouge"]) == chosen


def test_farthest_first_of_many_equals_that_of_few(monkeypatch):
    """A row at a time, as for tasks of many examples, chooses as the whole matrix does."""
    rng = random.Random(1)
    many = [" ".join(rng.choices("abcdefghij", k=rng.randint(3, 12))) for _ in range(300)]
    together = farthest_first(many, 40, TOKENIZERS["rouge"])
    monkeypatch.setattr("explore_async.curation.sampling._MOST_AT_ONCE", 0)
    assert farthest_first(many, 40, TOKENIZERS["rouge"]) == together


@given(st.integers(1, 300), st.floats(0.01, 0.9), st.integers(0, 5))
def test_what_is_held_out_is_the_share(count: int, share: float, seed: int):
    """By example exactly the share; by task whole tasks; the same for the same seed."""
    pairs = [(f"e{n}", f"t{n % 7}") for n in range(count)]
    single = hold_out(pairs, share, "example", seed)
    assert len(single) == round(share * count)
    assert single == hold_out(list(reversed(pairs)), share, "example", seed)
    tasks = hold_out(pairs, share, "task", seed)
    assert all(len({example in tasks for example, task in pairs if task == f"t{n}"}) <= 1 for n in range(7))


def test_nothing_is_guessed_of_a_folder(tmp_path: Path):
    """A directory that is none of the known kinds is refused with what would be one."""
    with pytest.raises(ExploreError, match=r"config\.json"):
        open_collection(tmp_path)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    assert in_process("import", written(tmp_path / "rows.jsonl", ROWS), "--out", tmp_path / "data").code == 0
    return tmp_path / "data"


@pytest.mark.parametrize(
    "place", ["data", "data/dataset.jsonl", "data/new.jsonl", "data/sub", "mine", "mine/data.jsonl/x.jsonl"]
)
def test_nothing_is_written_over(tmp_path: Path, data: Path, place: str):
    """Neither the source nor other data of ours, nor a folder with files of somebody's: what was there stays as it was."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_text("my own")
    (tmp_path / "mine" / "data.jsonl").write_text("mine")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    result = in_process("export", data, "--out", tmp_path / place)
    assert result.code in {2, 4}, result.stderr
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_an_export_replaces_an_earlier_one(tmp_path: Path, data: Path):
    """With all that belonged to it: no validation part of another split stays beside new training data."""
    many = written(
        tmp_path / "many.jsonl", [{**ROWS[0], "instruction": f"Count to {n} in words {n * n}"} for n in range(40)]
    )
    out = tmp_path / "v1.0"
    assert in_process("export", many, "--out", out, "--validation", "0.2").code == 0
    assert (out / "data" / "validation.parquet").exists()
    assert in_process("export", many, "--out", out).code == 0
    assert not (out / "data" / "validation.parquet").exists()
    file = tmp_path / "v2.1.jsonl"
    assert in_process("export", many, "--out", file, "--validation", "0.2").code == 0
    assert (tmp_path / "v2.1.validation.jsonl").exists()
    assert in_process("export", many, "--out", file).code == 2
    for share in ("0.001", "0.999"):
        assert in_process("export", many, "--out", tmp_path / "none" / "x.jsonl", "--validation", share).code == 2
    assert not (tmp_path / "none").exists()


def test_what_a_person_put_beside_the_data_is_not_lost(tmp_path: Path, data: Path):
    """A data directory is replaced only while it holds nothing but what we wrote."""
    (data / "notes.txt").write_text("mine")
    result = in_process("import", tmp_path / "rows.jsonl", "--out", data)
    assert result.code == 2
    assert "notes.txt" in result.stderr
    assert (data / "notes.txt").exists()


def test_imported_data_can_be_looked_at(data: Path):
    """Its tasks and examples have no evidence, and are shown all the same."""
    assert "Name a river" in in_process("show", data, "0-1").stdout
    assert "3 kept" in in_process("show", data, "0").stdout
    assert in_process("show", data, "7").code == 5


def test_a_damaged_data_directory_is_noticed(tmp_path: Path, data: Path):
    """Cut at the end of a line: the count tells."""
    lines = (data / "dataset.jsonl").read_bytes().splitlines(keepends=True)
    (data / "dataset.jsonl").write_bytes(b"".join(lines[:2]))
    result = in_process("export", data, "--out", tmp_path / "x.jsonl")
    assert result.code == 5
    assert "3 were written" in " ".join(result.stderr.split())
    assert not (tmp_path / "x.jsonl").exists()


def test_data_cannot_steer_the_terminal(tmp_path: Path):
    """Escapes in names of columns reach neither errors nor notes."""
    path = tmp_path / "x.jsonl"
    path.write_bytes(orjson.dumps({"q\x1b[31mRED": 1}) + b"\n")
    for command in (["import", path], ["dedup", path], ["decontaminate", path, "--against", path]):
        result = in_process(*command, "--out", tmp_path / "out.jsonl")
        assert result.code == 5
        assert "\x1b" not in result.stderr


def test_what_is_missing_of_the_originals_is_told(tmp_path: Path):
    """A task without its file is named; a file that is the list itself is read; one that is neither is an error."""
    tree = {"task_name": "a", "config_filename": "a.json", "children": [{"task_name": "b"}, {"task_name": "c"}]}
    (tmp_path / "tree_meta_info.json").write_bytes(orjson.dumps(tree))
    (tmp_path / "a.json").write_bytes(orjson.dumps(ROWS))
    (tmp_path / "c.json").write_bytes(orjson.dumps({"examples": ROWS[:1], "more": [1]}))
    result = in_process("import", tmp_path, "--out", tmp_path / "out", "--json")
    assert result.code == 0
    assert "task 0.0 has no file b.json" in " ".join(result.stderr.split())
    assert orjson.loads(result.stdout)["examples"] == 4
    assert in_process("export", tmp_path / "out", "--out", tmp_path / "back", "--format", "explore-instruct").code == 0
    assert orjson.loads((tmp_path / "back" / "c.json").read_bytes())["more"] == [1]
    (tmp_path / "c.json").write_bytes(b"{}")
    assert in_process("import", tmp_path, "--out", tmp_path / "out").code == 5


def test_ids_that_are_there_twice_are_refused(tmp_path: Path):
    """In a file that was exported from a run."""
    row = {"id": "0-1", "task_id": "0", "task_path": ["x"], **ROWS[0]}
    result = in_process("import", written(tmp_path / "x.jsonl", [row, row]), "--out", tmp_path / "out")
    assert result.code == 5
    assert "twice" in result.stderr


def test_a_benchmark_without_rows_is_no_check(tmp_path: Path, data: Path):
    """An empty file would pass everything as clean."""
    (tmp_path / "none.jsonl").write_bytes(b"")
    result = in_process("decontaminate", data, "--against", tmp_path / "none.jsonl", "--out", tmp_path / "out")
    assert result.code == 5
    assert "it has no rows" in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("command", "number"), [("import", signal.SIGINT), ("filter", signal.SIGTERM), ("export", signal.SIGINT)]
)
async def test_stopped_in_the_middle_nothing_is_left(tmp_path: Path, command: str, number: signal.Signals):
    """Ctrl-C and SIGTERM end it with their codes, and leave no part of what was begun."""
    row = orjson.dumps({"instruction": "Count some", "output": "o" * 200}, option=orjson.OPT_APPEND_NEWLINE)
    (tmp_path / "big.jsonl").write_bytes(row * 100_000)
    process = await launch(command, tmp_path / "big.jsonl", "--out", tmp_path / "out")
    while not any(".partial" in one.name for one in tmp_path.rglob("*")):
        await asyncio.sleep(0.005)
        assert process.returncode is None
    process.send_signal(number)
    result = await finished(process)
    assert result.code == {signal.SIGINT: 130, signal.SIGTERM: 143}[number]
    assert "Traceback" not in result.stderr
    assert [one.name for one in tmp_path.rglob("*")] == ["big.jsonl"]


STOPPED_AS_A_WRITER_BEGINS = """
import contextlib, signal, sys
from explore_async.cli.app import main
from explore_async.curation.files import writers

number = int(sys.argv.pop())
enter = contextlib._GeneratorContextManager.__enter__

def entered(self):
    function = self.func
    value = enter(self)
    if function is writers.writing.__wrapped__:
        signal.raise_signal(number)
    return value

contextlib._GeneratorContextManager.__enter__ = entered
main()
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_as_a_writer_begins_nothing_is_left(tmp_path: Path, number: signal.Signals, code: int):
    """The signal comes as the writer's context is entered, so that nobody ends this context: no traceback either."""
    (tmp_path / "rows.jsonl").write_bytes(orjson.dumps(ROWS[0]))
    command = ["export", str(tmp_path / "rows.jsonl"), "--out", str(tmp_path / "out.json"), str(int(number))]
    stopped = subprocess.run(
        [sys.executable, "-c", STOPPED_AS_A_WRITER_BEGINS, *command],
        env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (stopped.returncode, "Traceback" in stopped.stderr) == (code, False), stopped.stderr
    assert [one.name for one in tmp_path.iterdir()] == ["rows.jsonl"]
