"""Files of rows that are damaged or strange, through every command that reads them."""

from __future__ import annotations

import datetime as dt
import decimal
import io
import re
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.cli import Finished
from support.damage import altered, attempted, cases, damaged, deep, in_json, values, zipped

PLAIN = [
    {"instruction": "Add 2 and 2", "input": "", "output": "4", "topic": "sums", "n": 1},
    {"instruction": "Name a river", "input": "in France", "output": "The Loire", "topic": "rivers", "n": 2},
    {"instruction": "Name a long river", "input": None, "output": "The Nile", "topic": None, "tags": ["a", {"b": 1}]},
]
PLACED = [
    {"id": f"0.{n}-0", "task_id": f"0.{n}", "task_path": ["garden", f"t{n}"], **row, "request": "k"}
    for n, row in enumerate(PLAIN)
]
CHATS = [
    {"messages": [{"role": "user", "content": f"Say {n} words of peace"}, {"role": "assistant", "content": "Peace."}]}
    for n in range(3)
]
QUESTIONS = [{"question": "Which river is it?", "answer": "Rhine"}, {"question": "Why?", "answer": "So."}]


def arrow(rows: list[dict[str, Any]]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


def lines(rows: list[Any]) -> bytes:
    return b"".join(orjson.dumps(row) + b"\n" for row in rows)


WHOLE = [
    (suffix, make(rows))
    for rows in (PLAIN, PLACED, CHATS, QUESTIONS)
    for suffix, make in ((".jsonl", lines), (".json", orjson.dumps), (".jsonl.gz", lambda rows: zipped(lines(rows))))
]
WHOLE += [(".parquet", arrow([{**row, "tags": [1]} for row in rows])) for rows in (PLAIN, PLACED, CHATS, QUESTIONS)]
WHOLE += [(".txt", b"Name a river\nName a lake\r\n\nSay it\n"), (".txt.gz", zipped(b"Name a river\nName a lake\n"))]

COMMANDS = {
    "import": ["import", "{file}", "--out", "{out}"],
    "import columns": ["import", "{file}", "--out", "{out}", "--column", "instruction=question", "--column", "output=tags.0", "--column", "task=topic"],
    "import skipping": ["import", "{file}", "--out", "{out}", "--on-bad-row", "skip"],
    "import tasks": ["import", "{file}", "--out", "{out}", "--column", "task=topic"],
    "export lines": ["export", "{file}", "--out", "{out}.jsonl"],
    "export list": ["export", "{file}", "--out", "{out}.json.gz", "--format", "sharegpt"],
    "export parquet": ["export", "{file}", "--out", "{out}.parquet"],
    "export folder": ["export", "{file}", "--out", "{out}", "--format", "messages", "--validation", "0.4"],
    "export original": ["export", "{file}", "--out", "{out}", "--format", "explore-instruct"],
    "sample": ["sample", "{file}", "-n", "2", "--out", "{out}.jsonl", "--method", "diverse", "--format", "alpaca"],
    "sample folder": ["sample", "{file}", "-n", "2", "--out", "{out}", "--method", "uniform", "--split-by", "task", "--validation", "0.5"],
    "filter": ["filter", "{file}", "--out", "{out}", "--set", "refusals=true", "--set", "copies=true", "--scope", "domain"],
    "filter tasks": ["filter", "{file}", "--out", "{out}", "--threshold", "0.5", "--scope", "task"],
    "merge": ["merge", "{file}", "{file}", "--out", "{out}"],
    "decontaminate": ["decontaminate", "{file}", "--against", "{file}", "--benchmark-field", "instruction", "--out", "{out}"],
    "benchmark": ["decontaminate", "{good}", "--against", "{file}", "--benchmark-field", "question", "--benchmark-field", "answer", "--out", "{out}"],
    "dedup lines": ["dedup", "{file}", "--out", "{out}.jsonl", "--evidence", "{out}.why.jsonl"],
    "dedup list": ["dedup", "{file}", "{good}", "--out", "{out}.json", "--group-by", "topic", "--on-bad-row", "skip"],
    "dedup parquet": ["dedup", "{file}", "{file}", "--out", "{out}.parquet", "--field", "messages.0.content", "--exact"],
    "dedup text": ["dedup", "{file}", "--out", "{out}.txt.gz", "--tokenizer", "unicode"],
    "dedup against": ["dedup", "{good}", "--out", "{out}.jsonl", "--against", "{file}", "--against-field", "question"],
    "prune": ["prune", "{file}"],
    "reparse": ["reparse", "{file}", "--out", "{out}"],
    "tree": ["tree", "{file}"],
    "show": ["show", "{file}", "0"],
    "stats": ["stats", "{file}"],
}  # fmt: skip


def gone_through(folder: Path, command: str, suffix: str, content: bytes) -> Finished:
    """The command on such a file, in a fresh folder below `folder`."""
    place = folder / "bad_file"
    place.mkdir(exist_ok=True)
    for path in sorted(place.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    file, good = place / f"bad{suffix}", place / "good.jsonl"
    file.write_bytes(content)
    good.write_bytes(lines(PLAIN))
    arguments = [one.format(file=file, good=good, out=place / "out") for one in COMMANDS[command]]
    return attempted(*arguments, among=place, about="bad.")


@cases(100)
@given(st.sampled_from(sorted(COMMANDS)), st.sampled_from(WHOLE).flatmap(lambda one: st.tuples(st.just(one[0]), damaged(one[1]))))  # fmt: skip
def test_damaged_files(tmp_path: Path, command: str, file: tuple[str, bytes]) -> None:
    """Bytes of a good file changed, cut out, doubled, put in; or the file cut off."""
    gone_through(tmp_path, command, *file)


JSON = st.sampled_from([PLAIN, PLACED, CHATS, QUESTIONS]).flatmap(lambda rows: altered(rows, values | deep))


@cases(100)
@given(st.sampled_from(sorted(COMMANDS)), st.sampled_from([".jsonl", ".json", ".jsonl.gz"]), JSON)
def test_strange_rows(tmp_path: Path, command: str, suffix: str, document: Any) -> None:
    """Whole files whose rows hold anything anywhere."""
    if suffix == ".json":
        content = in_json(document)
    else:
        rows = document if isinstance(document, list) else [document]
        content = b"".join(in_json(row) + b"\n" for row in rows)
    gone_through(tmp_path, command, suffix, zipped(content) if suffix.endswith("gz") else content)


WORDS = pa.array(["Name a river", "Name a lake", "Say it"])
UTC = dt.UTC
ODD: dict[str, pa.Array] = {
    "text": WORDS,
    "large": WORDS.cast(pa.large_string()),
    "view": WORDS.cast(pa.string_view()),
    "dictionary": WORDS.dictionary_encode(),
    "binary": WORDS.cast(pa.binary()),
    "no utf8": pa.array([b"\xff", b"a", b"b"]),
    "some null": pa.array(["Name", None, "it"]),
    "null": pa.nulls(3),
    "whole": pa.array([1, 2, 3]),
    "unsigned": pa.array([2**64 - 1, 0, 1], pa.uint64()),
    "half": pa.array([1.5, float("nan"), float("inf")], pa.float16()),
    "float": pa.array([1.5, float("nan"), float("-inf")]),
    "truth": pa.array([True, None, False]),
    "decimal": pa.array([decimal.Decimal("1.5"), None, decimal.Decimal("2.5")]),
    "time": pa.array([dt.datetime(2026, 1, 1, tzinfo=UTC), None, dt.datetime(1, 1, 1, tzinfo=UTC)]),
    "nanoseconds": pa.array([2**62, 1, None], pa.timestamp("ns")),
    "far time": pa.array([2**62, -(2**62), 0], pa.timestamp("s")),
    "date": pa.array([dt.date(2026, 1, 1), None, None]),
    "far date": pa.array([2**31 - 1, -(2**31), 0], pa.int32()).cast(pa.date32()),
    "clock": pa.array([dt.time(1), None, None]),
    "duration": pa.array([1, 2**62, None], pa.duration("s")),
    "list": pa.array([["a"], [], None]),
    "list of odd": pa.array([[b"\xff"], [], None]),
    "struct": pa.array([{"a": 1, "b": ["x"]}, None, {"a": None, "b": []}]),
    "map": pa.array([[("a", 1), ("a", 2)], None, []], pa.map_(pa.string(), pa.int64())),
    "talk": pa.array([[{"role": "user", "content": "a"}, {"role": "assistant", "content": None}]] * 3),
    "talk in structs": pa.array([[{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Oh"}]] * 3),
    "path": pa.array([["a"], ["a"], ["a"]]),
    "id": pa.array(["1", "2", "3"]),
    "task": pa.array(["0", "0", "0"]),
    "month": pa.array([pa.MonthDayNano([1, 2, 3]), None, None]),
    "fixed": pa.array([b"ab", None, b"cd"], pa.binary(2)),
    "fixed list": pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int64(), 2)),
}  # fmt: skip
NAMES = ["instruction", "input", "output", "question", "answer", "topic", "tags", "messages", "conversations", "id", "task_id", "task_path", "request", "", "a.b", "\x00", "é"]  # fmt: skip


@cases(100)
@given(
    st.sampled_from(sorted(COMMANDS)),
    st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(sorted(ODD))), max_size=6).map(
        lambda columns: [("instruction", "text"), ("output", "text"), *columns] if len(columns) % 3 else columns
    ),
    st.integers(0, 3),
)
def test_odd_parquet(tmp_path: Path, command: str, columns: list[tuple[str, str]], rows: int) -> None:
    """Columns of every type under every name, names twice, no columns, no rows."""
    arrays = [ODD[kind] for _, kind in columns]
    table = pa.Table.from_arrays(arrays, names=[name for name, _ in columns]).slice(0, rows)
    file = io.BytesIO()
    try:
        pq.write_table(table, file)
    except (pa.ArrowException, NotImplementedError):  # what Parquet has no form for, nobody finds in one
        return
    gone_through(tmp_path, command, ".parquet", file.getvalue())


@pytest.mark.parametrize("command", ["import", "export lines", "export original", "filter", "merge", "decontaminate"])
@pytest.mark.parametrize("column", ["duration", "nanoseconds"])
def test_columns_that_json_has_no_form_for(tmp_path: Path, command: str, column: str) -> None:
    """Times that Python has no form for either end with the file's name and the column's; durations are left out, and
    the column is named.
    """
    file = io.BytesIO()
    pq.write_table(pa.table({"instruction": WORDS, "output": WORDS, "x": ODD[column]}), file)
    result = gone_through(tmp_path, command, ".parquet", file.getvalue())
    assert result.code == 5 if column == "nanoseconds" else result.code in {0, 7}
    assert re.search(r"field x|x \(duration\[\w+\]\)", result.stderr), result.stderr


@pytest.mark.parametrize("command", ["import", "export parquet", "dedup lines", "dedup parquet", "benchmark"])
@pytest.mark.parametrize("name", ["x", ""])
def test_two_columns_of_one_name(tmp_path: Path, command: str, name: str) -> None:
    """A Parquet file with a name twice is refused: which of the two is meant nobody can say."""
    file = io.BytesIO()
    pq.write_table(pa.Table.from_arrays([WORDS, WORDS, WORDS, WORDS], ["instruction", "output", name, name]), file)
    result = gone_through(tmp_path, command, ".parquet", file.getvalue())
    assert result.code == 5
    assert "two columns are called" in result.stderr


def test_a_place_that_python_has_no_form_for(tmp_path: Path) -> None:
    """A file with a time beyond all calendars where our exports have a task's id is a file of somebody else's."""
    file = io.BytesIO()
    pq.write_table(pa.table({"instruction": WORDS, "output": WORDS, "task_id": ODD["nanoseconds"]}), file)
    assert gone_through(tmp_path, "export original", ".parquet", file.getvalue()).code == 5


@pytest.mark.parametrize("command", ["export parquet", "dedup parquet"])
def test_a_number_too_long_for_parquet(tmp_path: Path, command: str) -> None:
    """A whole number of 64 bits is JSON, and a column of such that Arrow cannot type is an error, not a crash."""
    rows = [{**CHATS[0], **PLAIN[0], "tags": 0, "n": number} for number in (2**64 - 1, -1, 2)]
    result = gone_through(tmp_path, command, ".jsonl", lines(rows))
    assert result.code == 5, result


@pytest.mark.parametrize("opening", ["[", '{"a":'])
@pytest.mark.parametrize("command", ["import", "export lines", "export original", "filter", "dedup lines"])
def test_values_in_values(tmp_path: Path, command: str, opening: str) -> None:
    """A row that is too deep to be written is an error that names the file and the line, before anything is written."""
    for levels in (300, 700):
        row = in_json({**PLAIN[0], "deep": f"(deep {opening} {levels})"}) + b"\n"
        result = gone_through(tmp_path, command, ".jsonl", row)
        assert result.code == 5
        assert "line 1: nested deeper than" in result.stderr


@pytest.mark.parametrize("levels", [300, 700])
@pytest.mark.parametrize("command", ["dedup", "import"])
def test_rows_too_deep_are_skipped(tmp_path: Path, command: str, levels: int) -> None:
    """`--on-bad-row skip` leaves out rows that are nested too deeply, as all other bad rows."""
    deep = in_json({**PLAIN[0], "deep": f"(deep [ {levels})"})
    file, out = tmp_path / "bad.jsonl", tmp_path / ("out.jsonl" if command == "dedup" else "out")
    file.write_bytes(deep + b"\n" + in_json(PLAIN[0]) + b"\n" + deep + b"\n")
    result = attempted(command, file, "--out", out, "--on-bad-row", "skip", among=tmp_path, about="bad.")
    assert result.code == 0, result.stderr
    assert len((out if command == "dedup" else out / "dataset.jsonl").read_bytes().splitlines()) == 1


def test_turns_that_are_no_turns_are_skipped(tmp_path: Path) -> None:
    """A number of a turn with more digits than Python reads, and a text of turns that nobody could write again."""
    numbered = {f"turn_{'1' * 5000}": {"Human": "Name a fern.", "MOSS": "Bracken."}}
    deep = '[{"role":"user","content":"a"},{"role":"assistant","tool_calls":' + "[" * 300 + "]" * 300 + "}]"
    bad = [{"conversations": numbered}, {"conversations": deep}]
    file, out = tmp_path / "bad.jsonl", tmp_path / "out"
    file.write_bytes(lines([PLAIN[0], *bad]))
    result = attempted("import", file, "--out", out, "--on-bad-row", "skip", among=tmp_path, about="bad.")
    assert result.code == 0, result.stderr
    assert len((out / "dataset.jsonl").read_bytes().splitlines()) == 1


def test_a_sample_of_one_domain_is_filtered_by_domains(tmp_path: Path) -> None:
    """Rows of the second domain alone, as a sample may leave them."""
    rows = [{**row, "task_id": "1.0", "id": f"1.0-{number}"} for number, row in enumerate(PLACED)]
    assert gone_through(tmp_path, "filter", ".jsonl", lines(rows)).code == 0


def test_a_task_too_deep(tmp_path: Path) -> None:
    """Rows that say they belong hundreds of levels down: no tree of ours does, so they are refused or just rows."""
    row = {**PLACED[0], "task_id": "0" + ".0" * 400, "task_path": ["a"] * 401}
    for command in ("import", "export folder", "filter", "merge"):
        result = gone_through(tmp_path, command, ".jsonl", lines([row] * 3))
        assert result.code in {0, 2, 5}


@cases(4)
@given(JSON)
def test_analyses_of_strange_rows(tmp_path: Path, document: Any) -> None:
    """The same rows, measured: a report, or a documented error and none."""
    rows = document if isinstance(document, list) else [document]
    file = tmp_path / "bad.jsonl"
    file.write_bytes(b"".join(in_json(row) + b"\n" for row in rows))
    out = tmp_path / "out.json"
    out.unlink(missing_ok=True)
    attempted("analyze", file, "--out", out, "--report", tmp_path / "out.html", "--json", among=tmp_path, about="bad.")
    for path in (out, out.with_suffix(".html")):
        path.unlink(missing_ok=True)
