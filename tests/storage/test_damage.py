"""A damaged store never silently changes the data, and a repair saves the rows that SQLite can still read."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import orjson
import pytest
from support.cli import derived, in_process
from support.stored_run import as_format_1, copied, doctor, everything, go_on, serving

from explore_async.errors import StorageError
from explore_async.exploration.values import ChatRequest, Completion, Failure, Prompt, Request
from explore_async.storage.completions import CompletionStore, StoredReader
from explore_async.storage.recovery import DamagedDatabase
from explore_async.storage.rows import Row, StoredRequest, is_whole, make_row
from explore_async.storage.salvage import is_half_mended, salvage, set_aside
from explore_async.storage.schema import PAGE_BYTES, TABLE

pytestmark = pytest.mark.usefixtures("in_this_process")

COMPLETION = Completion("answer", "stop", 1, 1)
QUESTION = ChatRequest("m", ({"role": "user", "content": "why?"},), {"temperature": 1.0}, 7)


def request(ordinal: int) -> Request:
    return Request(ordinal, 0, "generate", "0", 0, Prompt("generate", {}), 7)


def filled(path: Path, sizes: list[int]) -> dict[str, Completion | Failure]:
    """A store of answers of these sizes; every third is a failure."""
    outcomes = {
        f"k{n}": Failure("rejected", "é" * size, 1) if n % 3 == 0 else Completion("x" * size, "stop", 1, 1)
        for n, size in enumerate(sizes)
    }

    async def fill() -> None:
        async with CompletionStore(path) as store:
            for n, (key, outcome) in enumerate(outcomes.items()):
                await store.put(key, request(n), QUESTION, outcome)

    asyncio.run(fill())
    return outcomes


def read(path: Path, keys: list[str]) -> dict[str, StoredRequest] | str:
    """The stored requests of these keys, or the message of the error, which names the file."""
    try:
        with StoredReader(path) as reader:
            return reader.get_many(keys)
    except StorageError as error:
        message = str(error)
    assert str(path) in message
    return message


def report(_: object) -> None:
    """Ignores the progress."""


def readable(path: Path) -> list[Row]:
    """Rows that SQLite reaches and whose checksum is right."""
    with closing(DamagedDatabase(path)) as database:
        return [row for row in database.rows() if is_whole(row)]


def test_pages_that_are_gone_take_only_their_own_rows(tmp_path: Path) -> None:
    """Each page zeroed in turn: all rows are read but those of the page, and no other ever; of the table's root (page
    2) nothing is read, and without the roots of the indexes (3 and 4) nothing is missed.
    """
    path, copy = tmp_path / "c.sqlite", tmp_path / "copy.sqlite"
    filled(path, [300, 3000, 9000] * 40)
    whole, true = path.read_bytes(), set(readable(path))
    assert len(true) == 120
    fewest = []
    for page in range(1, len(whole) // PAGE_BYTES):
        body = bytearray(whole)
        body[page * PAGE_BYTES : (page + 1) * PAGE_BYTES] = bytes(PAGE_BYTES)
        copy.write_bytes(body)
        rows = set(readable(copy))
        assert rows <= true
        fewest.append(len(rows))
    assert fewest[0] == 0
    assert min(fewest[1:]) >= 120 - PAGE_BYTES // 400
    assert fewest[1:3] == [120, 120]


def test_a_first_page_that_is_gone_costs_no_row(tmp_path: Path) -> None:
    """Overwritten from its first byte, a store of either format is salvaged whole, and no copy is left behind."""
    for number, older in enumerate((False, True)):
        path = tmp_path / str(number) / "c.sqlite"
        path.parent.mkdir()
        filled(path, [100] * 50)
        if older:
            as_format_1(path)
            with closing(sqlite3.connect(path)) as database, database:
                key = QUESTION.key
                database.execute("DELETE FROM outcomes WHERE key <> 'k1'")
                database.execute("UPDATE outcomes SET key = ?", (key,))
        with path.open("r+b") as file:
            file.write(b"\xff" * PAGE_BYTES)
        assert salvage(path, report).saved == (1 if older else 50)
        assert {file.name for file in path.parent.iterdir()} <= {"c.sqlite", "c.sqlite.damaged.1", "c.sqlite.damaged.1-shm", "c.sqlite.damaged.1-wal"}  # fmt: skip


def test_the_log_of_a_killed_process_is_read_too(tmp_path: Path) -> None:
    """Completions that are only in the write-ahead log, as after kill -9, are found, in the version that counts."""
    path = tmp_path / "c.sqlite"
    filled(path, [100] * 30)
    other = sqlite3.connect(path)  # while another process has it open, the log stays
    other.execute("SELECT count(*) FROM outcomes").fetchone()
    filled(tmp_path / "more.sqlite", [100, *[5000] * 50])
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("ATTACH ? AS more", (str(tmp_path / "more.sqlite"),))
        database.execute("INSERT OR IGNORE INTO outcomes SELECT * FROM more.outcomes")
    copy = tmp_path / "copy.sqlite"
    for ending in ("", "-wal"):
        shutil.copy(f"{path}{ending}", f"{copy}{ending}")
    other.close()
    assert len(set(readable(copy))) == 51
    Path(f"{copy}-wal").unlink()
    assert len(set(readable(copy))) == 30


def test_a_store_flipped_anywhere_gives_true_answers_or_an_error(tmp_path: Path, finished_run: Path) -> None:
    """A bit flipped at 130 places: every completion that is read is the one that was stored, or the error names the file
    and the remedy. A salvage saves true completions only, all but a page of them unless the flip has hit the root page
    of the table, and SQLite finds the new file in order; where it saves none, it changes nothing.
    """
    rng = random.Random(3)
    path = tmp_path / "completions.sqlite"
    whole = (finished_run / "completions.sqlite").read_bytes()
    with StoredReader(finished_run / "completions.sqlite") as reader:
        true = {row[0].decode(): row for row in reader.rows()}
    refused = 0
    places = [*range(20), *rng.sample(range(20, 4096), 30), *rng.sample(range(4096, len(whole)), 80)]
    for place in places:
        for leftover in tmp_path.iterdir():
            leftover.unlink()
        flipped = bytearray(whole)
        flipped[place] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
        result = read(path, list(true))
        refused += isinstance(result, str)
        if isinstance(result, str):
            assert "doctor" in result
        else:
            assert result == read(finished_run / "completions.sqlite", list(result))
        try:
            saved = salvage(path, report)
        except StorageError:
            assert place // PAGE_BYTES == 1
            assert path.read_bytes() == flipped
            continue
        assert saved.aside.read_bytes() == flipped
        assert saved.saved >= len(true) - 30 or place // PAGE_BYTES == 1  # a page holds some of these small rows
        assert saved.saved + saved.lost <= len(true) + 1
        with closing(sqlite3.connect(path)) as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        with StoredReader(path) as reader:
            assert all(true[row[0].decode()] == row for row in reader.rows())
    assert 30 < refused < len(places)


def test_a_truncated_store_gives_true_answers_or_an_error(tmp_path: Path, finished_run: Path) -> None:
    """Cut at 60 lengths, the same holds; a salvage saves true completions only, nearly as many as lie before the cut,
    and where there are none, nothing is touched.
    """
    path = tmp_path / "completions.sqlite"
    whole = (finished_run / "completions.sqlite").read_bytes()
    with StoredReader(finished_run / "completions.sqlite") as reader:
        true = {row[0].decode(): row for row in reader.rows()}
    shares = []
    for length in range(0, len(whole), len(whole) // 60):
        for leftover in tmp_path.iterdir():
            leftover.unlink()
        path.write_bytes(whole[:length])
        result = read(path, list(true))
        if not isinstance(result, str):
            assert result == read(finished_run / "completions.sqlite", list(result))
        try:
            saved = salvage(path, report).saved
        except StorageError:
            assert path.read_bytes() == whole[:length]
            saved = 0
        else:
            with StoredReader(path) as reader:
                assert {row[0].decode(): row for row in reader.rows()}.items() <= true.items()
        shares.append((length / len(whole), saved / len(true)))
    assert all(saved > before - 0.2 for before, saved in shares)
    assert shares[-1][1] > 0.9


def test_a_salvage_broken_off_anywhere_is_finished_by_the_next(
    tmp_path: Path, finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after each of its steps, a salvage leaves the old file whole under one of its two names; a run does not
    begin on what is half done; the next salvage ends with the same answers, and with the log set aside with its file.
    """
    with StoredReader(finished_run / "completions.sqlite") as reader:
        true = set(reader.rows())
    rename, steps = Path.rename, 0

    class BrokenOff(Exception):
        """As kill -9 would."""

    for survived in range(5):
        path = copied(finished_run, tmp_path / str(survived)) / "completions.sqlite"
        log = Path(f"{path}-wal")
        log.write_bytes(b"of the old one")
        before, steps = path.read_bytes(), 0

        def renamed(self: Path, target: Path, survived: int = survived) -> Path:
            nonlocal steps
            if steps == survived:
                raise BrokenOff
            steps += 1
            return rename(self, target)

        monkeypatch.setattr(Path, "rename", renamed)
        with pytest.raises(BrokenOff) if survived < 4 else contextlib.nullcontext():
            salvage(path, report)
        monkeypatch.undo()
        assert before in {one.read_bytes() for one in path.parent.iterdir()}
        if survived in {1, 2, 3}:
            assert is_half_mended(path)
            refused = go_on(path.parent, "http://127.0.0.1:9")
            assert refused.code == 4
            assert "doctor" in refused.stderr
        if survived < 4:
            salvage(path, report)
        assert not log.exists()
        assert b"of the old one" in {one.read_bytes() for one in path.parent.glob("*.damaged.*-wal")}
        with StoredReader(path) as reader:
            assert set(reader.rows()) == true


def test_a_salvage_touches_no_file_of_an_earlier_one(
    tmp_path: Path, finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not where some of those files are gone either, and the salvage is killed as soon as it has set its file aside."""
    path = copied(finished_run, tmp_path / "run") / "completions.sqlite"
    Path(f"{path}-wal").write_bytes(b"of the new one")
    earlier = {Path(f"{path}.damaged.{end}"): end.encode() for end in ("2", "2-wal", "3-wal")}
    for file, content in earlier.items():
        file.write_bytes(content)

    def killed(path: Path) -> Path:
        set_aside(path)
        raise KeyboardInterrupt

    monkeypatch.setattr("explore_async.storage.salvage.set_aside", killed)
    with pytest.raises(KeyboardInterrupt):
        salvage(path, report)
    monkeypatch.undo()
    assert salvage(path, report).aside == Path(f"{path}.damaged.4")
    assert {file: file.read_bytes() for file in earlier} == earlier
    assert Path(f"{path}.damaged.4-wal").read_bytes() == b"of the new one"


def test_a_store_of_format_1_is_saved_too(tmp_path: Path, finished_run: Path) -> None:
    """Without checksums, a row is taken where its key is the digest of its question and its outcome is one."""
    path = tmp_path / "completions.sqlite"
    shutil.copy(finished_run / "completions.sqlite", path)
    as_format_1(path)
    with closing(sqlite3.connect(path)) as database, database:
        first, second = (key for (key,) in database.execute("SELECT key FROM outcomes LIMIT 2"))
        database.execute("UPDATE outcomes SET question = replace(question, 'garden', 'Garden') WHERE key = ?", (first,))
        database.execute("UPDATE outcomes SET outcome = '{' WHERE key = ?", (second,))
        count = database.execute("SELECT count(*) FROM outcomes").fetchone()[0]
    saved = salvage(path, report)
    assert (saved.saved, saved.lost) == (count - 2, 2)
    with StoredReader(path) as new, StoredReader(finished_run / "completions.sqlite") as old:
        assert set(new.rows()) == {row for row in old.rows() if row[0].decode() not in {first, second}}


async def test_what_was_discarded_does_not_come_back(tmp_path: Path) -> None:
    """Failures that were discarded, so that they are requested again, are not found by a salvage."""
    path = tmp_path / "c.sqlite"
    async with CompletionStore(path) as store:
        for n in range(60):
            await store.put(f"k{n}", request(n), QUESTION, Failure("rejected", "x" * 200, 1))
        await store.discard_failures()
        await store.put("k", request(0), QUESTION, Completion("x", "stop", 1, 1))
    assert [row[0] for row in readable(path)] == [b"k"]


def test_a_completion_beats_the_failure_that_it_replaced(tmp_path: Path) -> None:
    """Of two whole rows of one key, which only damage can leave, the completion is kept."""
    path = tmp_path / "c.sqlite"
    rows = [make_row("k0", request(0), QUESTION, outcome) for outcome in (Failure("rejected", "", 1), COMPLETION)]
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(TABLE.replace(" UNIQUE", ""))
        database.executemany("INSERT INTO outcomes VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
    assert salvage(path, report).saved == 1
    with StoredReader(path) as reader:
        assert reader.get_many(["k0"])["k0"].outcome == COMPLETION


@pytest.mark.timeout(180)
def test_a_run_on_a_damaged_store_ends_the_same_or_says_so(tmp_path: Path, finished_run: Path, url: str) -> None:
    """Flips and cuts, each gone on with before a server that answers otherwise: the run ends in the same bytes, or
    with code 4, the file's name and the remedy. After the doctor's repair and the same run, before the true server, the
    files are those of the undisturbed run, and what was damaged is still there.
    """
    rng = random.Random(8)
    whole = (finished_run / "completions.sqlite").read_bytes()
    refused = set()
    with serving(seed=99) as other:
        for number, place in enumerate([18, 61, *rng.sample(range(100, len(whole)), 2), -2]):
            body = bytearray(whole)
            if place >= 0:
                body[place] ^= 1 << rng.randrange(8)
            else:
                del body[len(whole) * -place // 4 :]
            path = copied(finished_run, tmp_path / str(number))
            (path / "completions.sqlite").write_bytes(body)
            result = go_on(path, other)
            assert result.code in {0, 4}, result.stderr
            if result.code == 4:
                refused.add(place)
                assert "explore-async doctor" in result.stderr
                assert str(path) in result.stderr
            else:
                assert derived(path) == derived(finished_run)
            shutil.rmtree(path)
            path = copied(finished_run, tmp_path / str(number))
            (path / "completions.sqlite").write_bytes(body)
            mended = doctor(path, "--repair")
            assert mended.code == 0, mended.stdout
            assert doctor(path).code == 0
            assert go_on(path, url).code == 0
            assert derived(path) == derived(finished_run)
            if mended.json["done"]:
                assert bytes(body) in everything(path).values()
    assert {61, -2} <= refused  # where the rows lie, and so whether the others are found, differs from run to run


def test_nothing_can_be_saved(tmp_path: Path, finished_run: Path, url: str) -> None:
    """Of a store that holds no answer any more nothing is repaired: the dataset stays, and the message says what to do."""
    path = copied(finished_run, tmp_path)
    for body in (b"", b"no database", b"SQLite format 3\0" + b"\xff" * 9000):
        (path / "completions.sqlite").write_bytes(body)
        before = everything(path)
        assert go_on(path, url).code == 4
        result = doctor(path, "--repair")
        assert result.code == 4
        assert "--fresh" in result.stdout
        assert everything(path) == before


def test_a_flipped_answer_is_seen_by_every_reader(tmp_path: Path, finished_run: Path, url: str) -> None:
    """One letter of one stored answer changed: the run, filter, reparse, show and the doctor all say so; none makes a
    dataset of it.
    """
    path = copied(finished_run, tmp_path)
    row = orjson.loads((path / "dataset.jsonl").read_bytes().splitlines()[3])
    with closing(sqlite3.connect(path / "completions.sqlite")) as database, database:
        database.execute("UPDATE outcomes SET outcome = replace(outcome, 'instruction', 'Instruction') WHERE key = ?", (row["request"],))  # fmt: skip
    for command in (
        ("show", path, row["id"]),
        ("reparse", path, "--out", tmp_path / "new"),
        ("filter", path, "--out", tmp_path / "new"),
    ):
        result = in_process(*command)
        assert (result.code, row["request"] in result.stderr) == (4, True), command
        assert not (tmp_path / "new").exists()
    result = go_on(path, url)
    assert (result.code, row["request"] in result.stderr) == (4, True)
    assert derived(path) == derived(finished_run)
    found = doctor(path)
    assert found.code == 4
    assert row["request"] in found.stdout
