"""Batches of rows: few rows where they are long, and the same results however they are cut."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import orjson
import pyarrow.parquet as pq
import pytest

import explore_async as ea
from explore_async.curation import compared_rows
from explore_async.curation.compared_rows import batches_of, open_files
from explore_async.curation.files import batching, parquet, writers
from explore_async.curation.files.batching import batches, characters_in
from explore_async.curation.files.source import Source

LIMIT = 1000


@pytest.fixture
def little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (batching, compared_rows, parquet):
        monkeypatch.setattr(module, "MOST_CHARACTERS", LIMIT)


def asked(number: int) -> str:
    return f"Plant tree{number} near house{number} in town{number}"


def rows_file(path: Path, *, rows: int, characters: int) -> Path:
    """Rows, each second of three near to the one before it, with a column of so many characters that is not compared."""
    content = [
        {"instruction": asked(number - (number % 3 == 1)), "output": "a bc" * (characters // 4), "n": number}
        for number in range(rows)
    ]
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in content))
    return path


def test_a_batch_ends_by_its_rows_or_by_their_length():
    """No batch has more rows than asked for; it ends with the row that reaches the limit; nothing is lost."""
    short, long = ["a"] * 10, ["b" * (batching.MOST_CHARACTERS // 2)] * 5
    assert [len(batch) for batch in batches([*short, *long], 4, len)] == [4, 4, 4, 2, 1]
    assert [one for batch in batches([*short, *long], 4, len) for one in batch] == [*short, *long]
    assert not list(batches([], 4, len))


def test_all_texts_of_a_value_count():
    """The characters of texts in lists and objects, and a little for each other value."""
    assert characters_in({"a": "123", "b": ["45", {"c": "6"}], "d": []}) == 6
    assert characters_in([1, None, 0.5]) == characters_in("x" * 24)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_columns_that_are_not_compared_count_too(tmp_path: Path, suffix: str, little_room: None):
    """Batches for dedup hold few rows where any column is long, in every format."""
    del little_room
    for characters, most in ((4, 100), (400, 4), (4000, 1)):
        rows = rows_file(tmp_path / "rows.jsonl", rows=20, characters=characters)
        ea.export(rows, file := tmp_path / f"file{suffix}", shape="alpaca")
        sizes = [
            len(batch.rows)
            for batch in batches_of(open_files([file], ["instruction"], ""), None, 100, skip_bad_rows=False)
        ]
        assert sum(sizes) == 20
        assert 0 < max(sizes) <= most


def test_parquet_is_read_in_small_parts_where_rows_are_long(tmp_path: Path, little_room: None):
    """Rows of Parquet share the memory of what was read with them, so that is little."""
    del little_room
    for characters, most in ((4, 100), (4000, 1)):
        rows = rows_file(tmp_path / "rows.jsonl", rows=20, characters=characters)
        ea.export(rows, tmp_path / "rows.parquet", shape="alpaca")
        read = [row.value for row in Source(tmp_path / "rows.parquet")]
        assert max(record.batch.num_rows for record in read) <= most
        assert [record["output"] for record in read] == [
            orjson.loads(line)["output"] for line in rows.read_bytes().splitlines()
        ]


def results(rows: Path, out: Path) -> dict[str, object]:
    """The files that the commands on data make of the rows, by name."""
    benchmark = out / "benchmark.jsonl"
    out.mkdir()
    benchmark.write_bytes(orjson.dumps({"question": asked(2)}) + b'\n{"question": "sing"}\n')
    ea.filter(rows, out / "filtered")
    ea.decontaminate(rows, out / "clean", [benchmark])
    ea.merge([rows, out / "clean"], out / "merged")
    ea.dedup_files([rows], out / "dedup.jsonl", evidence=out / "evidence.jsonl")
    ea.dedup_files([rows], out / "dedup.parquet")
    ea.export(rows, out / "exported.parquet", shape="rows")
    ea.export(rows, out / "exported.jsonl", validation=0.2)
    found: dict[str, object] = {
        str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*.jsonl") if path != benchmark
    }
    return found | {path.name: pq.read_table(path).to_pylist() for path in out.rglob("*.parquet")}


def test_small_batches_give_the_same_files(tmp_path: Path, request: pytest.FixtureRequest):
    """Every command writes the same rows and the same evidence, whether its batches hold all rows or one."""
    rows = rows_file(tmp_path / "rows.jsonl", rows=40, characters=2000)
    whole = results(rows, tmp_path / "one")
    request.getfixturevalue("little_room")
    small = results(rows, tmp_path / "other")
    assert {name: content for name, content in small.items() if whole[name] != content} == {}
    assert small.keys() == whole.keys()
    assert len(small) >= 10


def test_long_rows_are_judged_and_written_a_few_at_once(
    tmp_path: Path, little_room: None, monkeypatch: pytest.MonkeyPatch
):
    """filter, merge and decontaminate judge, and an export writes, one row after the other where each is very long."""
    del little_room
    rows = rows_file(tmp_path / "rows.jsonl", rows=10, characters=2000)
    (tmp_path / "benchmark.jsonl").write_bytes(b'{"question": "sing"}\n')
    judged: dict[str, list[int]] = {"filter": [], "decontaminate": [], "merge": []}
    ea.filter(rows, tmp_path / "a", on_progress=judged["filter"].append)
    ea.decontaminate(rows, tmp_path / "b", [tmp_path / "benchmark.jsonl"], on_progress=judged["decontaminate"].append)
    ea.merge([tmp_path / "a", tmp_path / "b"], tmp_path / "c", on_progress=judged["merge"].append)
    assert {name: max(b - a for a, b in pairwise([0, *counts])) for name, counts in judged.items()} == dict.fromkeys(
        judged, 1
    )

    write, written = writers.JsonLinesWriter.write, []
    monkeypatch.setattr(
        writers.JsonLinesWriter, "write", lambda self, some: (written.append(len(some)), write(self, some))
    )
    ea.export(rows, tmp_path / "out.jsonl")
    assert written == [1] * 10
