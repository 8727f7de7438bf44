"""Full disks, crashes and other processes harm no run directory."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from support.cli import environment
from support.scripted import recipe

from explore_async.errors import StorageError
from explore_async.exploration.values import ChatRequest, Completion, Prompt, Request
from explore_async.settings.recipe import Recipe
from explore_async.storage.completions import CompletionStore
from explore_async.storage.derived import DerivedFile
from explore_async.storage.digested import differences
from explore_async.storage.directory import RunDirectory
from explore_async.storage.whole_files import write_json, write_state

QUESTION = ChatRequest("m", ({"role": "user", "content": "why?"},), {"temperature": 1.0}, 7)
REQUEST = Request(0, 0, "generate", "0", 0, Prompt("generate", {}), 7)


def completion(text: str) -> Completion:
    return Completion(text, "stop", 1, 1)


@contextlib.contextmanager
def full_disk(most_bytes: int) -> Iterator[None]:
    """No file of this process may grow beyond so many bytes: the writes of a full disk, without one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# -- the store


async def test_puts_that_meet_share_a_commit(tmp_path: Path) -> None:
    """A thousand puts at once end in two transactions: the first put's, and one for all that met while it was open."""
    commits: list[str] = []
    async with CompletionStore(tmp_path / "c.sqlite") as store:
        await store._in(store._writer, lambda: store._write.set_trace_callback(commits.append))
        await asyncio.gather(*(store.put(f"k{n}", REQUEST, QUESTION, completion("x")) for n in range(1000)))
        assert len(await store.all()) == 1000
    assert 1 <= commits.count("COMMIT") <= 2


async def test_the_first_of_two_answers_in_one_commit_stays(tmp_path: Path) -> None:
    """Answers to one key that meet in a group, or come later: each put returns the first one, which is stored."""
    async with CompletionStore(tmp_path / "c.sqlite") as store:
        together = (store.put("k", REQUEST, QUESTION, completion(text)) for text in ("first", "second", "third"))
        assert await asyncio.gather(*together) == [completion("first")] * 3
        assert await store.put("k", REQUEST, QUESTION, completion("fourth")) == completion("first")
        assert await store.get_many(["k", "k"]) == {"k": completion("first")}
        assert len(await store.all()) == 1


async def test_a_cancelled_put_takes_no_other_with_it(tmp_path: Path) -> None:
    """Whoever stops waiting for a put does not stop the group it is in."""
    async with CompletionStore(tmp_path / "c.sqlite") as store:
        puts = [store.put(f"k{n}", REQUEST, QUESTION, completion("x")) for n in range(20)]
        await asyncio.sleep(0)
        puts[7].cancel()
        results = await asyncio.gather(*puts, return_exceptions=True)
        assert [n for n, result in enumerate(results) if result != completion("x")] == [7]
        assert len(await store.get_many([f"k{n}" for n in range(20) if n != 7])) == 19


async def test_a_full_disk_is_told_to_every_put_and_keeps_what_was_there(tmp_path: Path) -> None:
    """If the database cannot grow, all puts of the group are StorageErrors; earlier rows can still be read."""
    path = tmp_path / "c.sqlite"
    async with CompletionStore(path) as store:
        await store.put("before", REQUEST, QUESTION, completion("here"))
        with full_disk(path.with_name("c.sqlite-wal").stat().st_size + 4096):
            results = await asyncio.gather(
                *(store.put(f"k{n}", REQUEST, QUESTION, completion("x" * 9000)) for n in range(5)),
                return_exceptions=True,
            )
        assert all(isinstance(result, StorageError) and str(path) in str(result) for result in results)
        await store.put("after", REQUEST, QUESTION, completion("room again"))
        assert set(await store.get_many(["before", "k0", "k4", "after"])) == {"before", "after"}


async def test_a_put_after_the_end_is_an_error(tmp_path: Path) -> None:
    """A put to a closed store raises; nobody waits for ever."""
    async with CompletionStore(tmp_path / "c.sqlite") as store:
        pass
    with pytest.raises(RuntimeError):
        await store.put("k", REQUEST, QUESTION, completion("x"))


async def test_damage_within_the_database(tmp_path: Path) -> None:
    """Pages overwritten in the middle of a good database are a StorageError when they are read, as is a row that
    is no outcome.
    """
    path = tmp_path / "c.sqlite"
    async with CompletionStore(path) as store:
        for n in range(40):
            await store.put(f"k{n}", REQUEST, QUESTION, completion("x" * 3000))
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xa5" * (len(whole) - 4096))
    with pytest.raises(StorageError, match=r"c\.sqlite"):
        async with CompletionStore(path) as store:
            await store.get_many([f"k{n}" for n in range(40)])
    path.write_bytes(whole)
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("""UPDATE outcomes SET outcome = '{"texts": 3}' WHERE key = 'k3'""")
        database.execute("UPDATE outcomes SET outcome = '{' WHERE key = 'k4'")
    async with CompletionStore(path) as store:
        for key in ("k3", "k4"):
            with pytest.raises(StorageError, match=r"c\.sqlite"):
                await store.get_many([key])
        assert len(await store.get_many(["k5"])) == 1


async def test_places_where_no_database_can_be(tmp_path: Path) -> None:
    """A path below a file, a directory and a text file are StorageErrors that name the path."""
    (tmp_path / "file").write_text("these are words, and not a few of them " * 200)
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "c.sqlite", tmp_path / "folder", tmp_path / "file"):
        with pytest.raises(StorageError) as caught:
            async with CompletionStore(path):
                pass
        assert str(path) in str(caught.value)


@pytest.mark.parametrize(("durability", "level"), [("normal", 1), ("full", 2)])
async def test_the_database_is_as_durable_as_asked(tmp_path: Path, durability: str, level: int) -> None:
    """The settings for power loss and kill -9 are set: WAL, and SQLite's synchronous as configured."""
    async with CompletionStore(tmp_path / "c.sqlite", durability=durability) as store:  # type: ignore[arg-type]
        asked = await store._in(
            store._writer,
            lambda: [store._write.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")],
        )
    assert asked == ["wal", level]


# -- derived files


def test_a_derived_file_on_a_full_disk(tmp_path: Path) -> None:
    """A full disk is one StorageError, closing adds none, and with room again the same lines complete the file."""
    path = tmp_path / "d.jsonl"
    lines = [f"line {number}" for number in range(2000)]

    def write() -> None:
        with contextlib.closing(DerivedFile(path)) as file:
            for line in lines:
                file.append(line)
            file.write(file.take())
            file.finish()

    with full_disk(10_000), pytest.raises(StorageError, match=r"d\.jsonl"):
        write()
    assert 0 < path.stat().st_size <= 10_000
    write()
    assert path.read_bytes() == b"".join(orjson.dumps(line) + b"\n" for line in lines)


def test_a_difference_is_named_at_every_byte(tmp_path: Path) -> None:
    """Whichever byte of a file was changed, the error names that byte's line, and the file is left as it is."""
    whole = b'{"a":1}\n"two"\n[3,3]\n'
    path = tmp_path / "d.jsonl"
    for position in range(len(whole)):
        changed = whole[:position] + b"?" + whole[position + 1 :]
        path.write_bytes(changed)
        with contextlib.closing(DerivedFile(path)) as file:
            for document in ({"a": 1}, "two", [3, 3]):
                file.append(document)
            line = whole[:position].count(b"\n") + 1
            with pytest.raises(StorageError, match=rf"d\.jsonl, line {line}:"):
                file.write(file.take())
        assert path.read_bytes() == changed


def test_replaying_ends_with_the_earlier_bytes(tmp_path: Path) -> None:
    """`replaying` is true exactly while earlier bytes are ahead: progress and the tree on disk go by it."""
    path = tmp_path / "d.jsonl"
    path.write_bytes(b"1\n2\n")
    seen = []
    with contextlib.closing(DerivedFile(path)) as file:
        for number in (1, 2, 3):
            seen.append(file.replaying)
            file.append(number)
            file.write(file.take())
    assert seen == [True, True, False]
    with contextlib.closing(DerivedFile(tmp_path / "new.jsonl")) as file:
        assert not file.replaying


def test_json_that_does_not_fit_leaves_the_old_one(tmp_path: Path) -> None:
    """On a full disk write_json keeps the earlier document and leaves no half of the new one behind. The error of a file of
    a run says that nothing is lost.
    """
    path = tmp_path / "s.json"
    write_json(path, {"a": 1})
    with full_disk(4096), pytest.raises(StorageError, match=r"s\.json"):
        write_json(path, "x" * 10_000)
    with full_disk(4096), pytest.raises(StorageError, match=r"s\.json: .*nothing is lost: fix this and run again"):
        write_state(path, "x" * 10_000)
    assert orjson.loads(path.read_bytes()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


# -- the directory


def test_the_lock_holds_between_processes_and_goes_with_its_owner(tmp_path: Path) -> None:
    """A directory entered by another process is refused; when that process is killed, it is free without any care."""
    path = tmp_path / "run"
    program = f"""
import sys, time
from pathlib import Path
from explore_async.storage.directory import RunDirectory
with RunDirectory(Path({str(path)!r})):
    print("in", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment()) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"in\n"
            with pytest.raises(StorageError, match="another process"), RunDirectory(path):
                pass
        finally:
            process.kill()
    with RunDirectory(path):
        pass


def test_what_a_kill_left_unfinished_is_tidied_away(tmp_path: Path) -> None:
    """A process killed while it writes a document leaves the old one and a piece; whoever enters next removes the piece,
    and nothing that is not its own.
    """
    write_json(tmp_path / "live.json", {"a": 1})
    (tmp_path / ".coverage.json.another").touch()
    program = f"""
import os, signal
from pathlib import Path
from explore_async.storage.whole_files import write_json
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
write_json(Path({str(tmp_path)!r}) / "live.json", {{"a": 2}})
"""
    subprocess.run([sys.executable, "-c", program], env=environment(), check=False)
    assert len(list(tmp_path.iterdir())) == 3
    with RunDirectory(tmp_path):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"live.json", ".coverage.json.another"}
    assert orjson.loads((tmp_path / "live.json").read_bytes()) == {"a": 1}


@pytest.mark.parametrize("where", ["a file", "below a file", "/proc"])
def test_a_directory_that_cannot_be_written(tmp_path: Path, where: str) -> None:
    """A place that takes no directory is a StorageError that points to --out."""
    (tmp_path / "file").touch()
    path = {"a file": tmp_path / "file", "below a file": tmp_path / "file" / "run", "/proc": Path("/proc/run")}[where]
    with pytest.raises(StorageError, match="--out") as caught, RunDirectory(path):
        pass
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"5", b"{}", b'{"format": 1}', b'{"format": 1, "recipe": {"domains": []}}', b"\xff\xfe"],
)
def test_a_config_that_is_none(tmp_path: Path, content: bytes) -> None:
    """Whatever a config.json holds that is no recipe, it is a StorageError that says how to go on."""
    with RunDirectory(tmp_path) as directory:
        directory.config.write_bytes(content)
        with pytest.raises(StorageError, match="--fresh"):
            directory.recipe(Recipe)


def test_a_config_of_another_format(tmp_path: Path) -> None:
    """A directory of a later version is not guessed at."""
    with RunDirectory(tmp_path) as directory:
        directory.config.write_bytes(b'{"format": 2}')
        with pytest.raises(StorageError, match="format 2, this version reads 1"):
            directory.recipe(Recipe)


def test_a_new_recipe_that_cannot_be_written_leaves_no_wrong_pair(tmp_path: Path) -> None:
    """If taking over another recipe breaks off before config.json is replaced, no derived file is left that the next
    recipe would find beside it.
    """
    with RunDirectory(tmp_path / "run") as directory:
        directory.write_recipe(recipe(), operation={})
        directory.dataset.write_bytes(b"{}\n")
        with full_disk(100), pytest.raises(StorageError):
            directory.write_recipe(recipe(seed=9), operation={})
        assert directory.recipe(Recipe) == recipe()
        assert not directory.dataset.exists()
        directory.tree.mkdir()
        with pytest.raises(StorageError, match=r"tree\.json"):
            directory.write_recipe(recipe(), operation={})


def test_every_kind_of_setting_comes_back_equal(tmp_path: Path) -> None:
    """A recipe full of what is easily lost (tuples, floats, unicode, nested bodies, templates) keeps its digest."""
    full = recipe(
        targets={"per_task": [3, 0, 7], "token_budget": 9},
        filters={"threshold": 0.1 + 0.2, "banned_words": ["赌场", "é"]},
        extra_body={"a": {"b": [1, 2.5, None, True, "ü"]}},
        prompts={"generate": "[user]\n{{ task }}\n"},
        sampling={"generation": {"stop": ["\n\n"]}},
        exploration={"breadth": 4},
    )
    with RunDirectory(tmp_path) as directory:
        directory.write_recipe(full, operation={"endpoints": []})
        back = directory.recipe(Recipe)
    assert isinstance(back, Recipe)
    assert (back, back.digest, differences(full, back)) == (full, full.digest, [])


def test_differences_reach_nested_settings_and_stay_short() -> None:
    """Differences are told by path, from nothing to something too, a long one cut to a line."""
    old = recipe(extra_body={"a": {"b": 1}})
    new = recipe(extra_body={"a": {"b": 2}, "c": "x" * 500}, description="new")
    found = differences(old, new)
    assert found[:2] == ['description: "" → "new"', "extra_body.a.b: 1 → 2"]
    assert found[2].startswith('extra_body.c: null → "xxx')
    assert len(found[2]) < 120
