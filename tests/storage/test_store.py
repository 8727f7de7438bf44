"""The run directory: outcomes that stay, files that check themselves, and one process at a time."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from blockbuster import BlockBuster
from hypothesis import given
from hypothesis import strategies as st
from support.cli import environment
from support.scripted import recipe

from explore_async.errors import ConfigError, StorageError
from explore_async.exploration.values import ChatRequest, Completion, Failure, Prompt, Request
from explore_async.settings.recipe import Recipe
from explore_async.storage.completions import CompletionStore, StoredReader
from explore_async.storage.derived import DerivedFile
from explore_async.storage.digested import differences, refuse_other
from explore_async.storage.directory import RunDirectory
from explore_async.storage.rows import make_row
from explore_async.storage.whole_files import write_json

QUESTION = ChatRequest("m", ({"role": "user", "content": "why?"},), {"temperature": 1.0}, 7)


def request(ordinal: int) -> Request:
    return Request(ordinal, ordinal, "generate", "0", ordinal, Prompt("generate", {}), 7)


def completion(text: str) -> Completion:
    return Completion(text, "stop", 3, 4, 1, "m", "http://e", 0.5)


async def test_what_was_put_is_there(tmp_path: Path) -> None:
    """Completions and failures come back equal, in a new process too; the first stored answer to a key stays."""
    outcomes = {f"k{n}": Failure("rejected", "no", 2) if n % 5 == 0 else completion(f"t{n}") for n in range(1200)}
    async with CompletionStore(tmp_path / "c.sqlite") as store:
        await asyncio.gather(
            *(store.put(key, request(n), QUESTION, one) for n, (key, one) in enumerate(outcomes.items()))
        )
        await store.put("k1", request(1), QUESTION, completion("later"))
    async with CompletionStore(tmp_path / "c.sqlite") as store:
        assert len(await store.all()) == 1200
        assert await store.get_many([*outcomes, "unknown"]) == outcomes
        assert [row.key for row in await store.all()] == list(outcomes)
        assert await store.discard_failures() == 240
        assert len(await store.all()) == 960


async def test_a_put_that_returned_survives_kill(tmp_path: Path) -> None:
    """A process killed with -9 in the middle of its puts leaves every answer whose put had returned."""
    program = f"""
import asyncio, sys
sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parent.parent)]!r}
from test_store import CompletionStore, QUESTION, completion, request
from pathlib import Path
async def main():
    async with CompletionStore(Path({str(tmp_path / "c.sqlite")!r})) as store:
        async def forever(lane):
            n = lane
            while True:
                await store.put(f"k{{n}}", request(n), QUESTION, completion("x" * 500))
                print(n, flush=True)
                n += 8
        await asyncio.gather(*(forever(lane) for lane in range(8)))
asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program), stdout=asyncio.subprocess.PIPE, env=environment()
    )
    assert process.stdout is not None
    told = [int(await process.stdout.readline()) for _ in range(300)]
    process.send_signal(signal.SIGKILL)
    told += [int(line) for line in (await process.stdout.read()).split(b"\n")[:-1]]
    await process.wait()
    async with CompletionStore(tmp_path / "c.sqlite") as store:
        found = await store.get_many([f"k{n}" for n in told])
    assert len(found) == len(told) >= 300


async def test_a_database_that_cannot_be_used(tmp_path: Path) -> None:
    """A damaged file and a newer format are StorageErrors that name the file."""
    damaged = tmp_path / "damaged.sqlite"
    damaged.write_bytes(b"SQLite format 3\x00" + b"\xff" * 5000)
    newer = tmp_path / "newer.sqlite"
    with sqlite3.connect(newer) as database:
        database.execute("PRAGMA user_version=99")
    database.close()
    for path in (damaged, newer):
        with pytest.raises(StorageError, match=path.name):
            async with CompletionStore(path):
                pass


@given(st.lists(st.text(max_size=30), min_size=1, max_size=20), st.data())
def test_a_derived_file_goes_on_where_it_was_cut(lines: list[str], data: st.DataObject) -> None:
    """Whatever prefix of a file a crash left, writing the same lines again completes it to the same bytes."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "d.jsonl"
        whole = b"".join(orjson.dumps(line) + b"\n" for line in lines)
        path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
        with contextlib.closing(DerivedFile(path)) as file:
            for line in lines:
                file.append(line)
                if data.draw(st.booleans()):
                    before = path.stat().st_size
                    file.write(file.take())
                    assert path.stat().st_size >= before
            file.write(file.take())
            file.finish()
        assert path.read_bytes() == whole


def test_a_derived_file_that_differs_names_its_line(tmp_path: Path) -> None:
    """A changed byte is an error with its line, also for what is written later, and nothing is overwritten; so are bytes beyond the end."""
    path = tmp_path / "d.jsonl"
    path.write_bytes(b"1\n2\n3\n4\n")
    file = DerivedFile(path)
    for number in (1, 2, 9):
        file.append(number)
    with pytest.raises(StorageError, match=r"d\.jsonl, line 3"):
        file.write(file.take())
    file.append(5)
    with pytest.raises(StorageError, match=r"d\.jsonl, line 3"):
        file.write(file.take())
    file.close()
    assert path.read_bytes() == b"1\n2\n3\n4\n"
    shorter = DerivedFile(path)
    shorter.append(1)
    shorter.write(shorter.take())
    with pytest.raises(StorageError, match="line 2"):
        shorter.finish()
    shorter.close()


def test_json_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    """write_json replaces a file in one step and leaves no temporary one; where it cannot, it says where."""
    path = tmp_path / "s.json"
    write_json(path, {"a": 1})
    write_json(path, {"a": 2})
    assert orjson.loads(path.read_bytes()) == {"a": 2}
    assert [file.name for file in tmp_path.iterdir()] == ["s.json"]
    with pytest.raises(StorageError, match="nowhere"):
        write_json(tmp_path / "nowhere" / "s.json", {})


def test_a_directory_belongs_to_one_recipe(tmp_path: Path) -> None:
    """The recipe comes back equal; another one is refused with the differences; derived files go with the old one."""
    old, new = recipe(), recipe(targets={"examples": 90}, seed=5)
    with RunDirectory(tmp_path / "run") as directory:
        assert directory.recipe(Recipe) is None
        directory.write_recipe(old, operation={})
        assert directory.recipe(Recipe) == old
        refuse_other(old, old, directory.path)
        with pytest.raises(ConfigError, match=r"targets\.examples: 60 → 90"):
            refuse_other(old, new, directory.path)
        assert differences(old, new) == ["seed: 0 → 5", "targets.examples: 60 → 90"]
        directory.dataset.write_bytes(b"{}\n")
        directory.write_recipe(new, operation={})
        assert not directory.dataset.exists()
        directory.config.write_text("{")
        with pytest.raises(StorageError, match=r"config\.json"):
            directory.recipe(Recipe)


def test_a_directory_is_locked_and_can_be_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second user is refused, in this process too; setting aside never overwrites an earlier one, follows links and
    leaves them usable, and refuses what is no run and the folder that one works in.
    """
    path = tmp_path / "run"
    assert RunDirectory(path).set_aside() is None
    with RunDirectory(path), pytest.raises(StorageError, match="another process"), RunDirectory(path):
        pass
    (tmp_path / "link").symlink_to(path)
    for number, name in ((1, "run"), (2, "link")):
        path.mkdir(exist_ok=True)
        (path / "config.json").write_text("{}")
        assert RunDirectory(tmp_path / name).set_aside() == tmp_path / f"run.{number}"
        assert (tmp_path / f"run.{number}" / "config.json").exists()
        with RunDirectory(tmp_path / name):
            pass
    (path / "thesis.txt").write_text("mine")
    with pytest.raises(StorageError, match="no run directory"):
        RunDirectory(path).set_aside()
    (path / "config.json").write_text("{}")
    monkeypatch.chdir(path)
    for named in (path, Path(), tmp_path):
        with pytest.raises(StorageError, match=r"works in there"):
            RunDirectory(named).set_aside()
    assert (path / "thesis.txt").exists()


def test_who_reads_anothers_answers_leaves_no_files_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a directory that both may write, the owner's next run could not write the files that SQLite makes for a reader."""
    path = tmp_path / "completions.sqlite"

    async def store_one() -> None:
        async with CompletionStore(path) as store:
            await store.put("key", request(1), QUESTION, completion("because"))

    asyncio.run(store_one())
    assert list(tmp_path.iterdir()) == [path]
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    with StoredReader(path) as reader:
        assert list(reader.get_many(["key"])) == ["key"]
    assert list(tmp_path.iterdir()) == [path]


def test_where_no_run_begins_no_lock_stays(tmp_path: Path) -> None:
    """A directory in which no run has begun is as it was before, or gone with the parents that were made for it; what
    was written into it, and the lock of a run, stay.
    """
    made, there = tmp_path / "runs" / "deep" / "run", tmp_path / "there"
    there.mkdir()
    (there / "thesis.txt").write_text("mine")
    for path in (made, there):
        with RunDirectory(path):
            assert (path / ".lock").exists()
    assert sorted(tmp_path.rglob("*")) == [there, there / "thesis.txt"]
    with RunDirectory(made):
        (made / "server.log").write_text("why it did not start")
    assert list(made.iterdir()) == [made / "server.log"]
    for name in ("config.json", "completions.sqlite"):
        with RunDirectory(made):
            (made / name).touch()
        (made / name).unlink()
        with RunDirectory(made):  # a lock that was there stays, too
            pass
        assert (made / ".lock").exists()
        (made / ".lock").unlink()


def test_a_lock_that_was_taken_along_protects_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who opened the lock's file before the other removed it, and got the lock after, is refused: a third one would
    find no lock.
    """

    def late(file: int, how: int, flock: Callable[[int, int], None] = fcntl.flock) -> None:
        (tmp_path / "run" / ".lock").unlink()
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(StorageError, match="another process"), RunDirectory(tmp_path / "run"):
        pass


@pytest.mark.parametrize("name", ["decisions.jsonl", "tree.json", "stats.json", "dataset.jsonl"])
def test_files_that_are_no_runs_are_not_replaced(tmp_path: Path, name: str) -> None:
    """In a folder without config.json and completions.sqlite a file of one of a run's names is somebody else's."""
    (tmp_path / name).write_text("mine")
    with pytest.raises(StorageError, match=name):
        RunDirectory(tmp_path).refuse_foreign()
    (tmp_path / "config.json").write_text("{}")
    RunDirectory(tmp_path).refuse_foreign()


def test_a_folder_with_files_of_its_own_is_no_run_directory(tmp_path: Path) -> None:
    """Whatever they are called. Hidden files, and what a start leaves that came to nothing, do not count."""
    for name in (".gitignore", "run.log", "server.log"):
        (tmp_path / name).write_text("")
    RunDirectory(tmp_path).refuse_foreign()
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StorageError, match=r"notes\.txt is there"):
        RunDirectory(tmp_path).refuse_foreign()
    (tmp_path / "config.json").write_text("{}")
    RunDirectory(tmp_path).refuse_foreign()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def test_readers_leave_no_files_beside_a_store(tmp_path: Path, blockbuster: BlockBuster) -> None:
    """Neither of a store at rest, nor of one whose writer ends while they read; the lock says if a run is on."""
    blockbuster.deactivate()  # readers are no part of the loop
    directory = RunDirectory(tmp_path)
    with directory:
        async with CompletionStore(directory.completions) as store:
            await store.put("key", request(1), QUESTION, completion("because"))
            with StoredReader(directory.completions) as reader:
                assert list(reader.get_many(["key"])) == ["key"]
        with StoredReader(directory.completions) as reader:
            assert list(reader.get_many(["key"])) == ["key"]
            assert len(list(reader.rows())) == 1
        assert names(tmp_path) == {".lock", "completions.sqlite"}
        async with CompletionStore(directory.completions) as store:
            await store.put("another", request(2), QUESTION, completion("so"))
            last = StoredReader(directory.completions)
            last.__enter__()
        assert len(last.get_many(["key", "another"])) == 2
        last.__exit__(None, None, None)
        assert names(tmp_path) == {".lock", "completions.sqlite"}
    with StoredReader(directory.completions) as reader:
        assert len(reader.get_many(["key", "another"])) == 2


def test_readers_leave_the_log_of_a_killed_run(tmp_path: Path) -> None:
    """What is only in there is read, and stays there: the next start takes it in."""
    path = tmp_path / "completions.sqlite"
    (tmp_path / ".lock").touch()
    row = make_row("key", request(1), QUESTION, completion("because"))
    killed = (
        "import ast, os, pathlib, sys\nfrom explore_async.storage.schema import open_writing\n"
        "connection = open_writing(pathlib.Path(sys.argv[1]), durability='normal')\n"
        "connection.execute('INSERT INTO outcomes VALUES (?, ?, ?, ?, ?, ?, ?, ?)', ast.literal_eval(sys.argv[2]))\n"
        "os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", killed, str(path), repr(row)], env=environment(), check=True)
    log = path.with_name("completions.sqlite-wal")
    before = path.read_bytes(), log.read_bytes()
    with StoredReader(path) as reader:
        assert list(reader.get_many(["key"])) == ["key"]
    assert (path.read_bytes(), log.read_bytes()) == before
