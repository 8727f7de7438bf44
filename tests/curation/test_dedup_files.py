"""`explore-async dedup` on real files: what is kept, how it is written, what is said when something is wrong."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import os
import random
import signal
import sys
import tempfile
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import config
from rouge_score.rouge_scorer import RougeScorer
from support.cli import explore, finished, in_process, launch
from support.waiting import until

from explore_async.curation import files
from explore_async.curation.dedup_files import dedup_files
from explore_async.errors import StorageError

SUFFIXES = [".jsonl", ".jsonl.gz", ".ndjson", ".json", ".json.gz", ".parquet", ".txt", ".txt.gz"]
GOOD = [
    {"instruction": "plant a tree", "n": 1},
    {"instruction": "plant a tree now", "n": 2},
    {"instruction": "sing", "n": 3},
]


def rows_of(count, seed=3):
    """Rows with many near-duplicates among them."""
    rng = random.Random(seed)
    return [
        {"instruction": " ".join(rng.choices(["Tree", "grow", "the", "red", "42"], k=rng.randint(1, 7))) + "!", "id": i}
        for i in range(count)
    ]


def kept_by_rouge_score(rows, threshold, text=lambda row: row["instruction"]):
    """The plain loop: the rows kept, and for each dropped row the kept row that it is nearest to, and F."""
    scorer = RougeScorer(["rougeL"])
    kept, dropped = [], []
    for row in rows:
        scores = [scorer.score(text(other), text(row))["rougeL"].fmeasure for other in kept]
        if scores and max(scores) > threshold:
            dropped.append((row, kept[scores.index(max(scores))], max(scores)))
        else:
            kept.append(row)
    return kept, dropped


def written(path, rows):
    """The rows as a file of the format that its name promises; a row of text is its instruction."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
        return path
    if ".json" in path.suffixes:
        data = json.dumps(rows, indent=4).encode()
    elif ".txt" in path.suffixes:
        data = "".join(f"{row['instruction']}\n" for row in rows).encode()
    else:
        data = b"".join(orjson.dumps(row) + b"\n" for row in rows)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def read(path):
    """What is in a file, by other means than ours."""
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if ".json" in path.suffixes:
        return json.loads(data)
    lines = data.decode().split("\n")
    assert lines.pop() == ""
    return lines if ".txt" in path.suffixes else [json.loads(line) for line in lines]


def names_in(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def only(folder, *names):
    """Nothing but these is in the folder: no half-written file, no temporary one."""
    return names_in(folder) == sorted(names)


@pytest.mark.parametrize("threshold", [0.5, 0.7])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_keeps_what_the_plain_loop_keeps(tmp_path, suffix, threshold):
    """The rows, whole and in order, that a loop over rouge_score keeps."""
    rows = rows_of(60)
    source, out = written(tmp_path / f"in{suffix}", rows), tmp_path / f"out{suffix}"
    result = in_process("dedup", source, "--out", out, "--threshold", str(threshold), "--json")
    kept, dropped = kept_by_rouge_score(rows, threshold)
    assert 5 < len(kept) < 50
    assert read(out) == ([row["instruction"] for row in kept] if ".txt" in suffix else kept)
    assert result.code == 0
    counts = {"rows": 60, "kept": len(kept), "dropped": len(dropped), "bad": 0, "bad_rows": []}
    assert {name: result.json[name] for name in counts} == counts
    assert f"60 rows read: {len(kept)} kept, {len(dropped)} dropped, 0 bad" in result.stderr
    assert only(tmp_path, source.name, out.name)


@settings(deadline=None, max_examples=5 if config.DISABLE_JIT else 20)
@given(
    st.lists(st.lists(st.sampled_from("abc"), max_size=5).map(" ".join), max_size=14),
    st.lists(st.integers(0, 14), max_size=3),
    st.sampled_from([1, 2, 3, 100]),
)
def test_neither_files_nor_batches_change_the_result(texts, cuts, batch_rows):
    """One input or several, batches of any size: the same rows and the same evidence."""
    rows = [{"instruction": text, "id": i} for i, text in enumerate(texts)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        edges = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
        split = [
            written(folder / f"{i}{'.jsonl' if i % 2 else '.json'}", rows[start:end])
            for i, (start, end) in enumerate(pairwise(edges))
        ]
        whole = written(folder / "whole.jsonl", rows)
        found = []
        for inputs, size in (([whole], 1024), (split, batch_rows)):
            evidence_file = folder / "evidence.jsonl"
            counts = dedup_files(inputs, folder / "out.json", evidence=evidence_file, batch_rows=size)
            evidence = [
                (line["text"], line["score"], line["lcs"], line["duplicate_of"]["text"])
                for line in read(folder / "evidence.jsonl")
            ]
            found.append((counts.kept, counts.dropped, read(folder / "out.json"), evidence))
    assert found[0] == found[1]
    assert found[0][0] + found[0][1] == len(rows)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_evidence_names_both_rows(tmp_path, suffix):
    """A line for each dropped row: its file, line and text, what it duplicates with file, line and text, score, LCS."""
    rows = rows_of(50)
    sources = [written(tmp_path / f"a{suffix}", rows[:20]), written(tmp_path / f"b{suffix}", rows[20:])]
    evidence = tmp_path / "why.jsonl"
    assert in_process("dedup", *sources, "--out", tmp_path / f"out{suffix}", "--evidence", evidence).code == 0

    def place(row):
        number = row["id"]
        file, line = (sources[0], number + 1) if number < 20 else (sources[1], number - 19)
        return {"file": str(file), "line": line, "text": row["instruction"]}

    _, dropped = kept_by_rouge_score(rows, 0.7)
    lines = read(evidence)
    assert [{name: line[name] for name in ("file", "line", "text", "score", "duplicate_of")} for line in lines] == [
        {**place(row), "score": score, "duplicate_of": place(nearest)} for row, nearest, score in dropped
    ]
    assert all(0 < line["lcs"] <= len(line["text"].split()) for line in lines)
    assert len(lines) > 10


def test_json_lines_stay_as_they_are(tmp_path):
    """Spaces, escapes, numbers too long for any type, repeated keys, CRLF: a kept line is the very same bytes."""
    lines = [
        b'{ "instruction" : "one \\u00e9" ,"x":1.10e5}',
        b'{"instruction":"two","x":123456789012345678901234567890}\r',
        b'{"instruction":"three","instruction":"four"}',
        '{"instruction": "fünf  sechs \u2028 sieben"}'.encode(),
    ]
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(b"\n".join([lines[0], b"", *lines[1:], lines[0]]))
    assert in_process("dedup", source, "--out", out).code == 0
    assert out.read_bytes() == b"\n".join(lines) + b"\n"


def test_json_lists_keep_every_literal(tmp_path):
    """An element goes into a list with its bytes, and into a line with no more than its line breaks changed."""
    element = b'{\n    "instruction": "a \\n  b",\n    "x": 123456789012345678901234567890\n  }'
    source = tmp_path / "in.json"
    source.write_bytes(b"[\n  " + element + b",\n " + element + b"\n]")
    assert in_process("dedup", source, "--out", tmp_path / "out.json").code == 0
    assert (tmp_path / "out.json").read_bytes() == b"[\n" + element + b"\n]\n"
    assert in_process("dedup", source, "--out", tmp_path / "out.jsonl").code == 0
    line = b'{ "instruction": "a \\n  b", "x": 123456789012345678901234567890 }\n'
    assert (tmp_path / "out.jsonl").read_bytes() == line


SCHEMA = pa.schema(
    [
        pa.field("instruction", pa.large_string(), nullable=False),
        ("when", pa.timestamp("ns", tz="Europe/Berlin")),
        ("price", pa.decimal128(9, 2)),
        ("blob", pa.binary()),
        ("kind", pa.dictionary(pa.int8(), pa.string())),
        ("turns", pa.list_(pa.struct([("role", pa.string()), ("n", pa.int16())]))),
        ("map", pa.map_(pa.string(), pa.float32())),
    ],
    metadata={"made": "by hand"},
)  # fmt: skip


def typed(texts):
    when = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
    return pa.Table.from_pylist(
        [
            {"instruction": text, "when": when, "price": Decimal("1.50"), "blob": b"\xff", "kind": "x",
             "turns": [{"role": "user", "n": i}], "map": [("k", 0.5)]} if i % 3 else {"instruction": text}
            for i, text in enumerate(texts)
        ],
        schema=SCHEMA,
    )  # fmt: skip


def test_parquet_keeps_types_values_and_metadata(tmp_path):
    """Types that neither Python nor JSON tell apart, nulls, time stamps to the nanosecond, the schema's metadata."""
    table = typed([row["instruction"] for row in rows_of(40)])
    column = table.schema.get_field_index("when")
    table = table.set_column(
        column, SCHEMA.field("when"), pa.chunked_array([pa.array(range(40), SCHEMA.field("when").type)])
    )
    table = table.replace_schema_metadata(SCHEMA.metadata)
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=7)
    assert in_process("dedup", tmp_path / "in.parquet", "--out", tmp_path / "out.parquet").code == 0
    found = pq.read_table(tmp_path / "out.parquet")
    kept, _ = kept_by_rouge_score(rows_of(40), 0.7)
    assert found.schema.equals(pq.read_schema(tmp_path / "in.parquet"), check_metadata=True)
    assert found.equals(table.take([row["id"] for row in kept]))


def test_parquet_files_of_other_columns_become_one(tmp_path):
    """Columns that one of two files lacks are null there; a column of two types is refused, and named."""
    pq.write_table(pa.table({"instruction": ["one two"], "a": pa.array([1], pa.int8())}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"b": ["x"], "instruction": ["three"]}), tmp_path / "2.parquet")
    out = tmp_path / "out.parquet"
    assert in_process("dedup", tmp_path / "1.parquet", tmp_path / "2.parquet", "--out", out).code == 0
    assert pq.read_schema(out).field("a").type == pa.int8()
    assert read(out) == [{"instruction": "one two", "a": 1, "b": None}, {"instruction": "three", "a": None, "b": "x"}]
    out.unlink()
    pq.write_table(pa.table({"instruction": ["four"], "a": ["text"]}), tmp_path / "2.parquet")
    result = in_process("dedup", tmp_path / "1.parquet", tmp_path / "2.parquet", "--out", out)
    assert result.code == 5
    assert "Field a" in result.stderr
    assert only(tmp_path, "1.parquet", "2.parquet")


@pytest.mark.parametrize("source", [".jsonl", ".json.gz", ".parquet", ".txt"])
@pytest.mark.parametrize("target", [".jsonl.gz", ".json", ".parquet"])
def test_formats_become_one_another(tmp_path, source, target):
    """Values survive; a line of text becomes a row with the field that is compared."""
    rows = rows_of(30)
    path, out = written(tmp_path / f"in{source}", rows), tmp_path / f"out{target}"
    assert in_process("dedup", path, "--out", out).code == 0
    kept, _ = kept_by_rouge_score(rows, 0.7)
    assert read(out) == ([{"instruction": row["instruction"]} for row in kept] if source == ".txt" else kept)


def test_columns_that_come_late_are_in_the_parquet_too(tmp_path):
    """The types are found over all rows of all files: numbers are widened, a column may begin anywhere."""
    early = [{"instruction": f"word{i}", "n": i} for i in range(5000)]
    late = [{"instruction": "unlike the others", "n": 0.5, "deep": {"x": [1]}}]
    sources = [written(tmp_path / "a.jsonl", early), written(tmp_path / "b.json", late)]
    out = tmp_path / "out.parquet"
    assert in_process("dedup", *sources, "--out", out, "--exact").code == 0
    found = read(out)
    assert found[0] == {"instruction": "word0", "n": 0.0, "deep": None}
    assert found[5000] == late[0]


@pytest.mark.parametrize(
    "pair", [(".jsonl", ".txt"), (".json", ".txt.gz"), (".parquet", ".txt"), ("typed.parquet", ".json")]
)
def test_what_would_lose_something_is_refused_beforehand(tmp_path, pair):
    """No row is cut down to a line of text, no value without a form in JSON is bent into one; exit code 2."""
    path = tmp_path / f"in{pair[0]}"
    if "typed" in pair[0]:
        pq.write_table(typed(["one"]), path)
    else:
        written(path, GOOD)
    result = in_process("dedup", path, "--out", tmp_path / f"out{pair[1]}")
    assert result.code == 2
    assert f"out{pair[1]}" in result.stderr
    assert path.name in result.stderr
    assert only(tmp_path, path.name)


def test_groups_and_joined_fields(tmp_path):
    """Only rows of one group are compared, and by all the fields together."""
    rows = [{**row, "input": random.Random(i).choice("ab"), "g": i % 2} for i, row in enumerate(rows_of(60))]
    path, out = written(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl"
    asked = ["dedup", path, "--out", out, "--field", "instruction", "--field", "input", "--group-by", "g"]
    assert in_process(*asked).code == 0

    def text(row):
        return f"{row['instruction']}\n{row['input']}"

    kept = [kept_by_rouge_score([row for row in rows if row["g"] == g], 0.7, text)[0] for g in (0, 1)]
    assert read(out) == sorted(kept[0] + kept[1], key=lambda row: row["id"])
    assert kept_by_rouge_score(rows, 0.7, text)[0] != read(out)


def test_tokenizers_and_exact(tmp_path):
    """Other scripts have tokens for `unicode` only; --exact drops the same words alone."""
    texts = ["树木 树木", "树木 树木", "Plant a tree!", "plant A tree", "plant a tree now", "", ""]
    path, out = written(tmp_path / "in.txt", [{"instruction": text} for text in texts]), tmp_path / "out.txt"
    for options, kept in (
        (["--tokenizer", "rouge"], [0, 1, 2, 5, 6]),
        (["--tokenizer", "unicode"], [0, 2, 5, 6]),
        ([], [0, 2, 5, 6]),
        (["--exact"], [0, 2, 4, 5, 6]),
    ):
        assert in_process("dedup", path, "--out", out, *options).code == 0
        assert read(out) == [texts[i] for i in kept]


BAD_LINES = {
    "invalid JSON": b'{"instruction": "a',
    "invalid UTF-8 or JSON": b'{"instruction": "\xff"}',
    "no object": b'["instruction"]',
    "a bare text": b'"instruction"',
    "missing field": b'{"input": "x"}',
    "a number": b'{"instruction": 5}',
    "null": b'{"instruction": null}',
    "a list": b'{"instruction": ["a"]}',
    "a lone surrogate": b'{"instruction": "\\ud800"}',
    "not a number of JSON": b'{"instruction": "a", "x": NaN}',
}


@pytest.mark.parametrize("layout", ["lines", "list"])
@pytest.mark.parametrize("bad", BAD_LINES.values(), ids=BAD_LINES)
def test_a_bad_row_is_named_or_counted(tmp_path, bad, layout):
    """By default it ends the command with code 5, its file and line, and no output; with skip it is told and counted."""
    if layout == "list" and bad.count(b'"') % 2:
        bad = b'{"instruction" "a"}'
    good = [orjson.dumps(row) for row in GOOD]
    lines = [good[0], bad, bad, good[2]]
    if layout == "lines":
        path, out, place = tmp_path / "b.jsonl", tmp_path / "out.jsonl", "b.jsonl, line"
        path.write_bytes(b"\n".join(lines))
    else:
        path, out, place = tmp_path / "b.json", tmp_path / "out.json", "b.json, row"
        path.write_bytes(b"[" + b",\n".join(lines) + b"]")
    before = written(tmp_path / "a.jsonl", GOOD[1:2])
    result = in_process("dedup", before, path, "--out", out, "--evidence", tmp_path / "why.jsonl")
    assert result.code == 5
    assert f"{place} 2: " in result.stderr
    assert only(tmp_path, "a.jsonl", path.name)
    result = in_process("dedup", before, path, "--out", out, "--on-bad-row", "skip", "--json")
    assert result.code == 0
    assert (result.json["rows"], result.json["bad"]) == (5, 2)
    assert [f"{place} {number}: " in told for number, told in zip((2, 3), result.json["bad_rows"], strict=True)] == [
        True
    ] * 2
    assert result.stderr.count("skipped: ") == 2
    assert read(out) == [GOOD[1], GOOD[2]]


def test_bad_rows_of_text_and_parquet(tmp_path):
    """Invalid UTF-8 by its line, a null or another type by its row; only the first bad rows are listed."""
    text = tmp_path / "in.txt"
    text.write_bytes(b"good\nb\xffd\n")
    result = in_process("dedup", text, "--out", tmp_path / "out.txt")
    assert (result.code, "in.txt, line 2: invalid UTF-8 at byte 2" in result.stderr) == (5, True)
    table = written(tmp_path / "in.parquet", [GOOD[0], {"instruction": None}, GOOD[2]])
    result = in_process("dedup", table, "--out", tmp_path / "out.parquet")
    assert (result.code, "in.parquet, row 2: field instruction is null" in result.stderr) == (5, True)
    many = written(tmp_path / "many.parquet", [*GOOD, *[{"instruction": None}] * 25])
    result = in_process("dedup", many, "--out", tmp_path / "out.parquet", "--on-bad-row", "skip", "--json")
    assert (result.code, result.json["bad"], len(result.json["bad_rows"])) == (0, 25, 10)
    assert "and 15 more" in result.stderr


def test_nothing_kept_has_its_code(tmp_path):
    """An empty file, or bad rows alone, end in code 7 with an empty output."""
    (tmp_path / "in.jsonl").write_bytes(b"\n{}\n")
    for target in ("out.jsonl", "out.json", "out.parquet"):
        asked = ["dedup", tmp_path / "in.jsonl", "--out", tmp_path / target, "--on-bad-row", "skip"]
        assert in_process(*asked).code == 7
        assert read(tmp_path / target) == []


WHOLE = {
    ".jsonl.gz": gzip.compress(b'{"instruction": "a"}\n' * 50),
    ".txt.gz": gzip.compress(os.urandom(900).hex().encode()),
}


def broken_files(folder):
    """Name, content and a word of the message for files that cannot be read to their end."""
    table = written(folder / "whole.parquet", rows_of(50)).read_bytes()
    return [
        ("a.jsonl.gz", WHOLE[".jsonl.gz"][:-9], "gzip"),
        ("a.txt.gz", WHOLE[".txt.gz"][:400], "gzip"),
        ("a.txt.gz", WHOLE[".txt.gz"][:300] + b"\x00" * 99 + WHOLE[".txt.gz"][399:], "gzip"),
        ("a.jsonl.gz", b'{"instruction": "a"}\n', "gzip"),
        ("a.json", b'[{"instruction": "a"}', "not closed"),
        ("a.json", b'"instruction"\n', "not a JSON list"),
        ("a.json", b'[{"instruction": "a"}] {}', "more after"),
        ("a.json", b"", "not a JSON list"),
        ("a.parquet", table[:-7], "a.parquet"),
        ("a.parquet", table[: len(table) // 2], "a.parquet"),
        ("a.parquet", b"PAR1", "a.parquet"),
        ("a.parquet", b"", "a.parquet"),
        ("a.parquet", table[:4] + b"\xff" * 60 + table[64:], "a.parquet"),
    ]


@pytest.mark.parametrize("number", range(13))
def test_a_file_that_breaks_off_ends_it_all(tmp_path, number):
    """Damage to a file as a whole is no bad row: code 5 and the file's name even with skip, and no output."""
    name, content, word = broken_files(tmp_path)[number]
    (tmp_path / "whole.parquet").unlink()
    (tmp_path / name).write_bytes(content)
    for policy in ("stop", "skip"):
        out = tmp_path / f"out{'.parquet' if name == 'a.parquet' else '.txt' if '.txt' in name else '.jsonl'}"
        result = in_process("dedup", tmp_path / name, "--out", out, "--on-bad-row", policy)
        assert result.code == 5
        assert name in result.stderr
        assert word in result.stderr
        assert only(tmp_path, name)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["missing.jsonl", "--out", "o.jsonl"], 5, "missing.jsonl: No such file"),
        (["folder.jsonl", "--out", "o.jsonl"], 5, "folder.jsonl: a directory"),
        (["pipe.jsonl", "--out", "o.jsonl"], 5, "pipe.jsonl: not a regular file"),
        (["a.xml", "--out", "o.jsonl"], 2, "a.xml: the name tells the format"),
        (["a.jsonl", "--out", "o.xml"], 2, "o.xml: the name tells the format"),
        (["a.jsonl", "--out", "o.csv"], 2, "o.csv: CSV holds nothing but texts"),
        (["a.jsonl", "--out", "a.jsonl"], 2, "a.jsonl: it is a source"),
        (["a.jsonl", "--out", "link.jsonl"], 2, "link.jsonl: it is a source"),
        (["a.jsonl", "--out", "o.jsonl", "--evidence", "a.jsonl"], 2, "a.jsonl: it is a source"),
        (["a.jsonl", "--out", "o.jsonl", "--evidence", "./o.jsonl"], 2, "given as --out and as --evidence"),
        (["a.jsonl", "--out", "o.jsonl", "--evidence", "e.txt"], 2, "it is JSON lines"),
        (["a.jsonl", "--out", "a.jsonl/o.jsonl"], 4, "a.jsonl: File exists"),
        (["a.jsonl", "--out", "folder.jsonl"], 4, "folder.jsonl: not a regular file"),
        (["a.jsonl", "--out", "o.jsonl", "--evidence", "folder.jsonl"], 4, "folder.jsonl: not a regular file"),
        (["a.jsonl", "--out", "o.jsonl", "--threshold", "0"], 2, "--threshold 0.0"),
        (["a.jsonl", "--out", "o.jsonl", "--threshold", "1.1"], 2, "--threshold"),
        (["a.jsonl", "--out", "o.jsonl", "--threshold", "nan"], 2, "--threshold"),
        (["a.jsonl", "--out", "o.jsonl", "--exact", "--threshold", "0.7"], 2, "only one"),
        (["a.jsonl", "--out", "o.jsonl", "--tokenizer", "x"], 2, "'rouge', 'unicode'"),
        (["a.jsonl", "--out", "o.jsonl", "--on-bad-row", "x"], 2, "'stop', 'skip'"),
        (["t.txt", "--out", "o.jsonl", "--field", "a", "--field", "b"], 2, "a line of text has one field"),
        (["t.txt", "--out", "o.txt", "--group-by", "a"], 2, "a line of text has one field"),
        (["a.jsonl", "--out", "o.jsonl", "--field", "x"], 5, "a.jsonl, line 1: no field x; there is instruction, n"),
        (["a.jsonl", "--out", "o.jsonl", "--group-by", "x"], 5, "a.jsonl, line 1: no field x"),
    ],
)
def test_what_cannot_be_done_is_said(tmp_path, monkeypatch, arguments, code, words):
    """A message that names the file or option, the documented code, and not a file more or less than before."""
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "a.jsonl", GOOD)
    (tmp_path / "t.txt").write_text("a\n")
    (tmp_path / "link.jsonl").symlink_to("a.jsonl")
    (tmp_path / "folder.jsonl").mkdir()
    os.mkfifo(tmp_path / "pipe.jsonl")
    before = names_in(tmp_path)
    result = in_process("dedup", *arguments)
    assert (result.code, words in result.stderr) == (code, True), result.stderr
    assert names_in(tmp_path) == before
    assert (tmp_path / "a.jsonl").read_bytes().count(b"\n") == 3


def test_an_earlier_output_stays_until_the_new_one_is_whole(tmp_path):
    """A failure leaves the file of last time alone, a success replaces it; a link to it stays a link."""
    (tmp_path / "data").mkdir()
    real = tmp_path / "data" / "out.jsonl"
    real.write_bytes(b"of last time\n")
    (tmp_path / "out.jsonl").symlink_to(real)
    bad = tmp_path / "bad.jsonl"
    bad.write_bytes(orjson.dumps(GOOD[0]) + b"\n{\n")
    assert in_process("dedup", bad, "--out", tmp_path / "out.jsonl").code == 5
    assert real.read_bytes() == b"of last time\n"
    assert in_process("dedup", bad, "--out", tmp_path / "out.jsonl", "--on-bad-row", "skip").code == 0
    assert read(real) == GOOD[:1]
    assert (tmp_path / "out.jsonl").is_symlink()
    assert only(tmp_path / "data", "out.jsonl")


def test_folders_of_the_outputs_are_made(tmp_path):
    """As by the other commands on data; after an error there is none of them."""
    source = written(tmp_path / "in.jsonl", GOOD)
    outputs = ("--out", tmp_path / "a" / "b" / "out.jsonl", "--evidence", tmp_path / "a" / "c" / "why.jsonl")
    bad = tmp_path / "bad.jsonl"
    bad.write_bytes(b"{\n")
    assert in_process("dedup", bad, *outputs).code == 5
    assert not (tmp_path / "a").exists()
    assert in_process("dedup", source, *outputs).code == 0
    assert only(tmp_path / "a" / "b", "out.jsonl")
    assert only(tmp_path / "a" / "c", "why.jsonl")


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".json", ".parquet"])
def test_a_full_disk_is_a_storage_error(tmp_path, monkeypatch, suffix):
    """Wherever the disk fills up, in the midst or at the end, it is code 4 with the file's name."""
    source = written(tmp_path / "in.jsonl", rows_of(200))
    opened = Path.open
    full = Path("/dev/full")
    monkeypatch.setattr(
        Path, "open", lambda path, mode="r", *rest: opened(*((full, "wb") if mode == "xb" else (path, mode)), *rest)
    )
    with pytest.raises(StorageError, match=f"out{suffix}: No space left"):
        dedup_files([source], tmp_path / f"out{suffix}", threshold=None, batch_rows=7)
    assert only(tmp_path, "in.jsonl")


@settings(deadline=None, max_examples=30 if config.DISABLE_JIT else 80)
@given(st.sampled_from(SUFFIXES), st.sampled_from(["jsonl", "json", "parquet", "txt"]), st.booleans(), st.data())
def test_any_bytes_end_in_success_or_a_documented_error(suffix, target, skip, data):
    """Files of random bytes, and good ones with bytes changed or cut off: never a traceback, never a half output."""
    with tempfile.TemporaryDirectory() as name:
        path = written(Path(name) / f"in{suffix}", GOOD)
        content = bytearray(path.read_bytes())
        if data.draw(st.booleans(), label="random"):
            content = bytearray(data.draw(st.binary(max_size=60)))
        else:
            for _ in range(data.draw(st.integers(0, 3))):
                content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
            del content[data.draw(st.integers(0, len(content))) :]
        path.write_bytes(content)
        out = Path(name) / f"out.{target}"
        result = in_process("dedup", path, "--out", out, "--exact", "--on-bad-row", "skip" if skip else "stop")
        assert result.code in {0, 2, 5, 7}
        assert ("error: " in result.stderr) == (result.code in {2, 5})
        assert out.exists() == (result.code in {0, 7})
        assert only(name, path.name, *([out.name] if out.exists() else []))


async def test_the_command_in_a_process_of_its_own(tmp_path):
    """Progress and counts on stderr, one JSON object on stdout."""
    source, out = written(tmp_path / "in.jsonl", GOOD), tmp_path / "out.jsonl"
    told = await explore("dedup", source, "--out", out, "--json")
    assert (told.code, told.json["kept"], told.json["out"]) == (0, 2, str(out))
    assert told.stdout.count("\n") == 1
    assert "3 rows read: 2 kept, 1 dropped" in told.stderr


def test_quiet_says_nothing(tmp_path):
    """Not a byte on stdout or stderr where all goes well."""
    result = in_process("dedup", written(tmp_path / "in.jsonl", GOOD), "--out", tmp_path / "out.jsonl", "--quiet")
    assert (result.code, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_stopped_in_the_midst_it_leaves_nothing(tmp_path, number, code):
    """Ctrl-C and SIGTERM end it with their codes while it writes; the unfinished file is gone."""
    line = orjson.dumps({"instruction": "x" * 50}) + b"\n"
    source = tmp_path / "in.jsonl"
    source.write_bytes(line * 400_000)
    process = await launch("dedup", source, "--out", tmp_path / "out.jsonl", "--exact")
    await until(lambda: any(name.endswith(".partial") for name in names_in(tmp_path)))
    process.send_signal(number)
    result = await finished(process)
    assert result.code == code
    assert "Traceback" not in result.stderr
    assert only(tmp_path, "in.jsonl")


@pytest.mark.parametrize(
    ("names", "code"), [(("a.parquet", "o.jsonl"), 2), (("a.jsonl", "o.parquet"), 2), (("a.jsonl", "o.jsonl"), 0)]
)
def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch, names, code):
    """The optional dependency is named, with the command that brings it; nothing else needs it."""
    source = written(tmp_path / names[0], GOOD)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "explore_async.curation.files.parquet", raising=False)
    monkeypatch.delattr(files, "parquet", raising=False)
    result = in_process("dedup", source, "--out", tmp_path / names[1], "--exact")
    assert (result.code, "pip install 'explore-async[parquet]'" in result.stderr) == (code, code == 2)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_what_is_known_is_dropped_and_never_written(tmp_path, suffix):
    """--against: rows near a row of a benchmark go, as do those near one another; the evidence says which of which file;
    the benchmark's own near-duplicates all count, and its rows are not in the result.
    """
    known = [{"question": text} for text in ("name the red planet", "name the very red planet", "what is a fjord")]
    rows = [*GOOD, {"instruction": "name the red planet now", "n": 4}, {"instruction": "what is a fjord", "n": 5}]
    bench, data, evidence = tmp_path / f"bench{suffix}", tmp_path / "data.jsonl", tmp_path / "evidence.jsonl"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(known), bench)
    else:
        bench.write_bytes(b"\n".join(map(orjson.dumps, known)))
    data.write_bytes(b"\n".join(map(orjson.dumps, rows)))
    result = in_process(
        *("dedup", data, "--out", tmp_path / "out.jsonl", "--against", bench, "--against-field", "question"),
        *("--evidence", evidence, "--json"),
    )
    assert result.code == 0, result.stderr
    assert (result.json["against"], result.json["kept"], result.json["dropped"]) == (3, 2, 3)
    assert [orjson.loads(line)["n"] for line in (tmp_path / "out.jsonl").read_bytes().splitlines()] == [1, 3]
    found = {line["text"]: line["duplicate_of"] for line in map(orjson.loads, evidence.read_bytes().splitlines())}
    assert found["name the red planet now"] == {"file": str(bench), "line": 1, "text": "name the red planet"}
    assert found["what is a fjord"] == {"file": str(bench), "line": 3, "text": "what is a fjord"}
    assert found["plant a tree now"]["file"] == str(data)


def test_what_is_known_cannot_be_overwritten_or_grouped(tmp_path):
    """A file of --against is no output, and groups make no sense with it."""
    data = tmp_path / "data.jsonl"
    data.write_bytes(orjson.dumps(GOOD[0]))
    (tmp_path / "bench.jsonl").write_bytes(orjson.dumps(GOOD[1]))
    both = ("dedup", data, "--against", tmp_path / "bench.jsonl", "--out")
    assert in_process(*both, tmp_path / "bench.jsonl").code == 2
    assert in_process(*both, tmp_path / "out.jsonl", "--group-by", "n").code == 2
    assert (tmp_path / "bench.jsonl").read_bytes() == orjson.dumps(GOOD[1])
