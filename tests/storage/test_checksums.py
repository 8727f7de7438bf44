"""Stored answers are what was written, or an error: checksums, and the way from stores that had none."""

from __future__ import annotations

import asyncio
import resource
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.cli import environment
from support.stored_run import as_format_1, copied, doctor, go_on
from support.unprivileged import without_override

from explore_async.errors import DamagedStore, StorageError
from explore_async.exploration.values import ChatRequest, Completion, Failure, Outcome, Prompt, Request
from explore_async.storage.completions import CompletionStore, StoredReader, read_stored
from explore_async.storage.rows import checksum, is_whole, make_row, read_outcome, read_row

QUESTION = ChatRequest("m", ({"role": "user", "content": "why?"},), {"temperature": 1.0}, 7)
COLUMNS = ("key", "ordinal", "kind", "task_id", "failed", "question", "outcome", "checksum")

outcomes = st.one_of(
    st.builds(Completion, st.text(), st.sampled_from(["stop", "length"]), st.integers(0, 999), st.integers(0, 999)),
    st.builds(Failure, st.sampled_from(["rejected", "repeated"]), st.text(), st.integers(0, 9)),
)


@given(outcomes, st.integers(0, 2**40), st.data())
def test_no_flipped_bit_passes(outcome: Outcome, ordinal: int, data: st.DataObject) -> None:
    """A row as it is read back fits; with any one bit of any column changed, it does not."""
    row = make_row("k" * 32, Request(ordinal, 0, "generate", "0.1", 0, Prompt("generate", {}), 7), QUESTION, outcome)
    read = [value.encode() if isinstance(value, str) else value for value in row]
    assert is_whole(tuple(read))
    assert read_outcome(tuple(read)) == outcome
    column = data.draw(st.integers(0, len(read) - 1))
    value = read[column]
    if isinstance(value, bytes):
        bit = data.draw(st.integers(0, 8 * len(value) - 1))
        read[column] = (int.from_bytes(value) ^ (1 << bit)).to_bytes(len(value))
    else:
        read[column] = int(value) ^ (1 << data.draw(st.integers(0, 40)))
    assert not is_whole(tuple(read))


@pytest.mark.parametrize("value", [None, 3.0, "text", b"bytes", 10**12])
@pytest.mark.parametrize("column", COLUMNS)
def test_values_of_another_type_do_not_pass(column: str, value: object) -> None:
    """Whatever type damage makes of a column, the row does not fit, and telling so is no error."""
    row = list(make_row("k", Request(3, 0, "generate", "0.1", 0, Prompt("generate", {}), 7), QUESTION, Failure("rejected", "", 1)))  # fmt: skip
    row[COLUMNS.index(column)] = value
    assert not is_whole(tuple(row))


@pytest.mark.parametrize("column", COLUMNS)
async def test_a_changed_row_is_an_error_that_names_it(
    tmp_path: Path, column: str, finished_run: Path, in_this_process: None
) -> None:
    """Whichever column of a row was changed in the file, reading it by its key, as a run and as the view do, names the
    file, the row and the remedy; listing the rows of a kind does so too, and all other rows are read.
    """
    store = tmp_path / "run" / "completions.sqlite"
    store.parent.mkdir()
    shutil.copy(finished_run / "completions.sqlite", store)
    with closing(sqlite3.connect(store)) as database, database:
        keys = [key for (key,) in database.execute("SELECT key FROM outcomes")]
        changed = {"kind": "'lookahead'", "failed": "1", "key": "'k'", "task_id": "'9'"}.get(column)
        changed = changed or (f"{column} + 1" if column in {"ordinal", "checksum"} else f"replace({column}, 'e', 'E')")
        database.execute(f"UPDATE outcomes SET {column} = {changed} WHERE key = ?", (keys[7],))  # noqa: S608 - ours
    wanted = "k" if column == "key" else keys[7]
    says = rf"run/completions\.sqlite: the completion {wanted} .*`explore-async doctor {store.parent} --repair`"
    with pytest.raises(DamagedStore, match=says):
        read_stored(store, wanted)
    with StoredReader(store) as reader, pytest.raises(DamagedStore, match=says):
        list(reader.keys("generate"))
    async with CompletionStore(store) as opened:
        with pytest.raises(DamagedStore, match=says):
            await opened.get_many([wanted, *keys])
        others = [key for key in keys if key != keys[7]]
        assert len(await opened.get_many(others)) == len(others)


async def test_a_store_of_format_1_is_brought_up_to_date(
    tmp_path: Path, finished_run: Path, in_this_process: None
) -> None:
    """Its answers come out as they were, the file is that of format 3 afterwards, and checksums guard it."""
    old = tmp_path / "completions.sqlite"
    shutil.copy(finished_run / "completions.sqlite", old)
    async with CompletionStore(finished_run / "completions.sqlite") as store:
        expected = await store.all()
    as_format_1(old)
    with StoredReader(old) as reader:  # as it is, before anybody has written to it
        assert reader.get_many([one.key for one in expected]) == {one.key: one for one in expected}
    async with CompletionStore(old) as store:
        assert await store.all() == expected
    assert version(old) == 3
    with StoredReader(old) as reader:
        assert all(len(row) == 8 and is_whole(row) for row in reader.rows())


async def test_a_store_of_format_2_goes_on_with_reasoning(
    tmp_path: Path, finished_run: Path, in_this_process: None
) -> None:
    """What it holds comes out as it was, without reasoning; the next opening makes it format 3, rows untouched, and
    what models think is stored beside it, outside the key. Earlier versions then say that the file is newer.
    """
    path = tmp_path / "completions.sqlite"
    shutil.copy(finished_run / "completions.sqlite", path)
    with StoredReader(path) as reader:
        expected = {row.key: row for row in map(read_row, reader.rows())}
    as_format_2(path)
    with StoredReader(path) as reader:
        assert reader.get_many(list(expected)[:50]) == dict(list(expected.items())[:50])
    assert version(path) == 2
    request = Request(10**6, 10**6, "generate", "0", 0, Prompt("generate", {}), 1)
    question = ChatRequest("m", ({"role": "user", "content": "a"},), {}, 1)
    thinking = Completion("b", "stop", 1, 9, reasoning="first this,\nthen that", reasoning_tokens=7)
    async with CompletionStore(path) as store:
        await store.put(question.key, request, question, thinking)
        assert await store.get_many([question.key, *expected]) == {
            question.key: thinking, **{key: row.outcome for key, row in expected.items()},
        }  # fmt: skip
    assert version(path) == 3


def as_format_2(database: Path) -> None:
    """Makes of a store what the version before reasoning wrote: completions without these fields."""
    with closing(sqlite3.connect(database)) as connection, connection:
        for *fields, _ in connection.execute("SELECT * FROM outcomes").fetchall():
            outcome = {name: value for name, value in orjson.loads(fields[6]).items() if "reasoning" not in name}
            fields[6] = orjson.dumps(outcome)
            connection.execute(
                "UPDATE outcomes SET outcome = ?, checksum = ? WHERE key = ?", (fields[6], checksum(*fields), fields[0])
            )
        connection.execute("PRAGMA user_version=2")


def test_killed_while_it_is_brought_up_to_date(tmp_path: Path, finished_run: Path) -> None:
    """kill -9 at several instants of the upgrade leaves format 1 or format 3, whole; the next opening completes it."""
    old = tmp_path / "completions.sqlite"
    shutil.copy(finished_run / "completions.sqlite", old)
    with closing(sqlite3.connect(old)) as database, database:
        database.execute("CREATE TABLE some AS SELECT * FROM outcomes")
        for number in range(200):
            database.execute("INSERT INTO outcomes SELECT key || ?, ordinal, kind, task_id, failed, question, outcome, 0 FROM some", (number,))  # fmt: skip
        rows = database.execute("SELECT count(*) FROM outcomes").fetchone()[0]
        database.execute("DROP TABLE some")
    as_format_1(old)
    program = f"""
from pathlib import Path
from explore_async.storage.schema import open_writing
print("now", flush=True)
input()
open_writing(Path({str(old)!r}), durability="normal")
"""
    seen = []
    for wait in ("not at all", 0.03, 0.1, "to the end"):
        with subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()
        ) as process:
            assert process.stdout is not None
            assert process.stdin is not None
            process.stdout.readline()
            if isinstance(wait, float):
                process.stdin.write(b"\n")
                process.stdin.flush()
                time.sleep(wait)
            if wait != "to the end":
                process.kill()
            else:
                process.communicate(b"\n")
        seen.append(version(old))
        with StoredReader(old) as reader:
            assert sum(is_whole(row) and len(row) == {1: 7, 3: 8}[seen[-1]] for row in reader.rows()) == rows
    assert seen[0] == 1
    assert seen == sorted(seen)
    assert seen[-1] == 3


def test_no_room_to_bring_it_up_to_date(tmp_path: Path, finished_run: Path, in_this_process: None) -> None:
    """On a full disk the store stays of format 1 and whole, the message speaks of space and not of damage, and with room
    again it is brought up to date.
    """
    old = tmp_path / "completions.sqlite"
    shutil.copy(finished_run / "completions.sqlite", old)
    as_format_1(old)
    with StoredReader(old) as reader:
        before = list(reader.rows())

    async def opened() -> None:
        async with CompletionStore(old):
            pass

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for most_bytes in (0, 40_000, 100_000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, hard))
        try:
            with pytest.raises(StorageError, match="disk space") as caught:
                asyncio.run(opened())
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert not isinstance(caught.value, DamagedStore)
        with StoredReader(old) as reader:
            assert list(reader.rows()) == before
    asyncio.run(opened())
    assert version(old) == 3


def test_an_old_run_goes_on(tmp_path: Path, finished_run: Path, url: str, in_this_process: None) -> None:
    """A finished run of format 1 is in order for the doctor, who changes nothing, and replays to the same bytes."""
    path = copied(finished_run, tmp_path)
    as_format_1(path / "completions.sqlite")
    assert doctor(path).code == 0
    assert version(path / "completions.sqlite") == 1
    again = go_on(path, "http://127.0.0.1:9", "--json")
    assert again.code == 0
    assert again.json["this_time"]["asked"] == 0
    assert version(path / "completions.sqlite") == 3


@pytest.mark.parametrize(("number", "log"), [(1, None), (2, b"")])
def test_an_archive_that_cannot_be_written_is_read(
    tmp_path: Path, finished_run: Path, number: int, log: bytes | None
) -> None:
    """`show` and the doctor work on a run that this user may only read, of either format, and leave no file there."""
    path = copied(finished_run, tmp_path)
    if number == 1:
        as_format_1(path / "completions.sqlite")
    if log is not None:
        (path / "completions.sqlite-wal").write_bytes(log)
    before = sorted(one.name for one in path.iterdir())
    for one in (*path.iterdir(), path):
        one.chmod(one.stat().st_mode & ~0o222)
    try:
        for command in (("show", path, "0"), ("doctor", path)):
            result = without_override(*command)
            assert result.returncode == 0, result.stderr + result.stdout
    finally:
        path.chmod(0o755)
    assert sorted(one.name for one in path.iterdir()) == before


async def test_a_format_of_the_future_is_not_guessed_at(
    tmp_path: Path, finished_run: Path, in_this_process: None
) -> None:
    """Neither written nor read: the file is left as it is, and the message says to update."""
    path = tmp_path / "completions.sqlite"
    shutil.copy(finished_run / "completions.sqlite", path)
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version=4")
    before = path.read_bytes()
    with pytest.raises(StorageError, match="written in format 4, this version of explore_async reads 3"):
        read_stored(path, "k")
    with pytest.raises(StorageError, match="written in format 4, this version of explore_async reads 3"):
        async with CompletionStore(path):
            pass
    assert path.read_bytes() == before


def version(path: Path) -> int:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        return int(database.execute("PRAGMA user_version").fetchone()[0])
