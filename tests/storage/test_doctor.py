"""The doctor finds each fault of a run directory, and only --repair changes anything."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from support.cli import derived, explore
from support.stored_run import copied, doctor, everything, go_on

from explore_async.config.load import load
from explore_async.doctor.findings import Findings, State
from explore_async.doctor.replaying import compare
from explore_async.settings.recipe import Recipe
from explore_async.storage.completions import StoredReader
from explore_async.storage.directory import RunDirectory
from explore_async.storage.rows import StoredRequest

pytestmark = pytest.mark.usefixtures("in_this_process")


def states(found: dict[str, Any]) -> dict[str, str]:
    return {check["check"]: check["state"] for check in found["checks"]}


def says(found: dict[str, Any], check: str) -> str:
    return next(f"{one['says']} {one['do']}" for one in found["checks"] if one["check"] == check)


def test_a_finished_run_is_in_order(finished_run: Path) -> None:
    """Every check is ok, and the examination changes no file and leaves none."""
    before = everything(finished_run)
    found = doctor(finished_run)
    assert found.code == 0
    assert set(states(found.json).values()) == {"ok"}
    assert found.json["healthy"] is True
    assert everything(finished_run) == before


def test_the_names_of_the_json_output_stay(finished_run: Path) -> None:
    """Programs read `doctor --json`: its keys, and the names and order of the checks, are those of earlier versions."""
    found = doctor(finished_run).json
    assert set(found) == {"directory", "healthy", "done", "checks"}
    assert all(set(check) == {"check", "state", "says", "do", "mends"} for check in found["checks"])
    assert list(states(found)) == [
        "permissions", "in use", "config.json", "completions.sqlite", "dataset.jsonl", "decisions.jsonl", "tree.json",
        "stats.json", "space", "leftovers",
    ]  # fmt: skip


@pytest.mark.parametrize("kept", [0, 1, 5000])
def test_an_unfinished_run_is_in_order(tmp_path: Path, finished_run: Path, kept: int, url: str) -> None:
    """A killed run's files may be behind its answers, by any number of bytes, and its tree may be an earlier one; going
    on from there, and from what --repair makes of it, ends in the same bytes.
    """
    for repaired in ((), ("--repair",)):
        path = copied(finished_run, tmp_path / f"run{len(repaired)}")
        (path / "stats.json").unlink()
        for name in ("dataset.jsonl", "decisions.jsonl"):
            (path / name).write_bytes((path / name).read_bytes()[:kept])
        document = orjson.loads((path / "tree.json").read_bytes())
        document["trees"][0]["children"].pop()
        document["trees"][0]["kept"] = 0
        (path / "tree.json").write_bytes(orjson.dumps(document))
        (path / "live.json").write_bytes(b'{"on": true}')
        (path / ".tree.json.x7y").write_bytes(b"{")
        found = doctor(path, *repaired)
        assert found.code == 0, found.stdout
        if repaired:
            assert not (path / "live.json").exists()
            assert not (path / ".tree.json.x7y").exists()
            assert derived(path) == derived(finished_run)
        else:
            assert states(found.json)["leftovers"] == states(found.json)["dataset.jsonl"] == "note"
        assert go_on(path, url).code == 0
        assert derived(path) == derived(finished_run)


def edited(path: Path) -> None:
    lines = (path / "dataset.jsonl").read_bytes().splitlines(keepends=True)
    lines[6] = lines[6].replace(b'"output":"', b'"output":"X', 1)
    (path / "dataset.jsonl").write_bytes(b"".join(lines))


def longer(path: Path) -> None:
    with (path / "decisions.jsonl").open("ab") as file:
        file.write(b"{}\n")


def grown(path: Path) -> None:
    document = orjson.loads((path / "tree.json").read_bytes())
    document["trees"][0]["children"][0]["kept"] += 1
    (path / "tree.json").write_bytes(orjson.dumps(document))


FAULTS: list[tuple[str, Callable[[Path], object], str]] = [
    ("dataset.jsonl", edited, "line 7"),
    ("dataset.jsonl", lambda path: os.truncate(path / "dataset.jsonl", 3000), "missing"),
    ("dataset.jsonl", lambda path: (path / "dataset.jsonl").unlink(), "missing"),
    ("decisions.jsonl", longer, "goes on beyond"),
    ("tree.json", grown, "not what the stored completions lead to"),
    ("tree.json", lambda path: (path / "tree.json").write_bytes(b"\xff{"), "not what"),
    ("tree.json", lambda path: (path / "tree.json").write_bytes(b'{"trees": 7}'), "not what"),
    ("stats.json", lambda path: (path / "stats.json").write_bytes(b"[]"), "not the figures"),
    ("stats.json", lambda path: (path / "stats.json").write_bytes((path / "stats.json").read_bytes().replace(b'"kept": 100', b'"kept": 101')), "counts"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "damage", "said"), FAULTS)
def test_a_derived_file_that_is_not_derived(
    tmp_path: Path, finished_run: Path, name: str, damage: Callable[[Path], object], said: str
) -> None:
    """Each fault is named, with its file and what to do, and the examination changes nothing; --repair derives the file
    again, keeps the earlier one, and then everything is in order.
    """
    path = copied(finished_run, tmp_path)
    damage(path)
    before = everything(path)
    found = doctor(path)
    assert found.code == 4
    assert {check for check, state in states(found.json).items() if state == "wrong"} == {name}
    assert said in says(found.json, name)
    assert "--repair" in says(found.json, name)
    assert everything(path) == before
    assert doctor(path, "--repair").code == 0
    assert derived(path) == derived(finished_run)
    after = everything(path)
    assert before.get(name, b"") in {b"", *after.values()}
    assert doctor(path).code == 0


@pytest.mark.parametrize("body", [b"", b"{", b'{"format": "1"}', b'{"format": 1, "recipe": {}}'])
def test_a_config_that_cannot_be_read_is_set_aside(tmp_path: Path, finished_run: Path, url: str, body: bytes) -> None:
    """The run says what to do; after --repair the same config with --adopt goes on with the stored answers, to the same
    bytes and asking nothing; without --adopt nothing of the directory is touched.
    """
    path = copied(finished_run, tmp_path)
    (path / "config.json").write_bytes(body)
    refused = go_on(path, url)
    assert refused.code == 4
    assert f"`explore-async doctor {path} --repair`" in refused.stderr
    assert doctor(path).code == 4
    assert "--adopt" in doctor(path, "--repair").stdout
    assert body in everything(path).values()
    before = everything(path)
    assert go_on(path, url).code == 4
    assert everything(path) == before
    again = go_on(path, "http://127.0.0.1:9", "--model", "simulated", "--adopt")
    assert again.code == 0, again.stderr
    assert derived(path) == derived(finished_run)
    assert doctor(path).code == 0


def test_a_config_of_the_future(tmp_path: Path, finished_run: Path, url: str) -> None:
    """It is left alone by all, with the advice to update."""
    path = copied(finished_run, tmp_path)
    (path / "config.json").write_bytes((path / "config.json").read_bytes().replace(b'"format": 1', b'"format": 2'))
    before = everything(path)
    for result in (go_on(path, url), doctor(path), doctor(path, "--repair")):
        assert result.code == 4
        assert "format 2, this version reads 1" in result.stderr + result.stdout
    assert everything(path) == before


def test_a_recipe_that_was_changed(tmp_path: Path, finished_run: Path) -> None:
    """A letter of the recipe changed in config.json is noticed by its digest, and nothing is derived from it; where only
    the digest was changed, --repair mends that.
    """
    path = copied(finished_run, tmp_path)
    whole = (path / "config.json").read_bytes()
    (path / "config.json").write_bytes(whole.replace(b"plants and tools", b"plants and toils"))
    before = everything(path)
    found = doctor(path, "--repair")
    assert found.code == 4
    assert "--adopt" in says(found.json, "config.json")
    assert everything(path) == before
    digest = orjson.loads(whole)["digest"].encode()
    (path / "config.json").write_bytes(whole.replace(digest, digest[::-1]))
    assert doctor(path).code == 4
    assert doctor(path, "--repair").code == 0
    assert (path / "config.json").read_bytes() == whole


def test_a_run_in_progress(tmp_path: Path, finished_run: Path) -> None:
    """It is examined, with a note; --repair is an error and changes nothing."""
    path = copied(finished_run, tmp_path)
    edited(path)
    with RunDirectory(path):
        before = everything(path)
        found = doctor(path)
        assert states(found.json)["in use"] == "note"
        assert states(found.json)["dataset.jsonl"] == "wrong"
        refused = doctor(path, "--repair")
        assert refused.code == 4
        assert "another process" in refused.stderr
        after = everything(path)  # SQLite puts files of its own beside one that may be written meanwhile
        assert {name: body for name, body in after.items() if not name.endswith(("-shm", "-wal"))} == before


@pytest.mark.parametrize("stored", [5, 1_000_000])
@pytest.mark.parametrize("kept", [0, 3, 2000])
def test_a_run_that_writes_during_the_examination(tmp_path: Path, finished_run: Path, stored: int, kept: int) -> None:
    """A run in progress writes on, beyond a line that was there in part, and beyond the completions that the doctor
    found: what was there before is compared, and nothing is called wrong.
    """
    path = copied(finished_run, tmp_path)
    names = ("dataset.jsonl", "decisions.jsonl", "tree.json")
    bodies = {name: (path / name).read_bytes() for name in names}
    for name in names[:2]:
        os.truncate(path / name, kept if stored > kept else 0)
    (path / "tree.json").unlink()

    class Behind(StoredReader):
        """Finds the first completions; then the run writes everything."""

        asked = 0

        def get_many(self, keys: Sequence[str]) -> dict[str, StoredRequest]:
            self.asked += 1
            if self.asked == 2:
                for name, body in bodies.items():
                    with (path / name).open("ab") as file:
                        file.write(body[file.tell() :])
            return super().get_many(keys) if self.asked <= stored else {}

    directory, findings = RunDirectory(path), Findings()
    recipe = directory.recipe(Recipe)
    assert recipe is not None
    with Behind(directory.completions) as reader:
        compare(directory, recipe, reader, findings, lambda _: None, in_use=True)
    assert {name: (path / name).read_bytes() for name in names} == bodies
    assert [finding for finding in findings.all if finding.state is State.WRONG] == []


def test_a_run_that_has_stored_nothing_yet(tmp_path: Path, finished_run: Path) -> None:
    """While a process is in a directory without completions, its files are not compared: the next moment may have some."""
    path = copied(finished_run, tmp_path)
    for name in ("completions.sqlite", "dataset.jsonl"):
        (path / name).unlink()
    with RunDirectory(path):
        found = doctor(path)
    assert found.code == 0
    assert states(found.json)["derived files"] == "note"


def test_a_directory_that_is_not_a_run(tmp_path: Path) -> None:
    """A missing directory, a file and another directory are errors that name it, and nothing is made there."""
    (tmp_path / "file").touch()
    (tmp_path / "other").mkdir()
    for name in ("missing", "file", "other"):
        for more in ((), ("--repair",)):
            result = doctor(tmp_path / name, *more)
            assert result.code == 4
            assert str(tmp_path / name) in result.stderr
    assert not (tmp_path / "missing").exists()
    assert list((tmp_path / "other").iterdir()) == []


def test_links(tmp_path: Path, finished_run: Path, url: str) -> None:
    """A run directory that is a link, with its store and dataset elsewhere by links too: it is looked at, mended where
    it lies, gone on with, and the links stay.
    """
    path = copied(finished_run, tmp_path / "real")
    (tmp_path / "disk").mkdir()
    for name in ("completions.sqlite", "dataset.jsonl"):
        (path / name).rename(tmp_path / "disk" / name)
        (path / name).symlink_to(tmp_path / "disk" / name)
    link = tmp_path / "real" / "link"
    link.symlink_to(path)
    assert doctor(link).code == 0
    body = bytearray((tmp_path / "disk" / "completions.sqlite").read_bytes())
    body[len(body) // 2] ^= 16
    (tmp_path / "disk" / "completions.sqlite").write_bytes(body)
    if doctor(link).code == 4:
        assert doctor(link, "--repair").code == 0
        assert bytes(body) in everything(tmp_path / "disk").values()
    assert (path / "completions.sqlite").is_symlink()
    assert go_on(link, url).code == 0
    assert derived(path) == derived(finished_run)


async def test_in_a_process_of_its_own(tmp_path: Path, finished_run: Path) -> None:
    """The real command: a line for each check on stdout, code 0; of a faulty run code 4, the line and the remedy."""
    path = copied(finished_run, tmp_path)
    whole = await explore("doctor", path)
    assert whole.code == 0
    assert all(line.startswith("ok ") for line in whole.stdout.splitlines())
    assert len(whole.stdout.splitlines()) == 10
    edited(path)
    faulty = await explore("doctor", path)
    assert faulty.code == 4
    assert "line 7" in faulty.stdout
    assert "--repair" in faulty.stdout


def test_against_data_that_is_gone(tmp_path: Path, finished_run: Path, url: str) -> None:
    """If the data of `against:` has moved away, the files are not compared, and a finding says so."""
    (tmp_path / "known.jsonl").write_bytes(b'{"instruction": "Name a herb"}\n')
    (tmp_path / "config.yaml").write_text(
        (finished_run.parent / "config.yaml").read_text() + "against: [known.jsonl]\n", encoding="utf-8"
    )
    assert load(str(tmp_path / "config.yaml")).against
    assert go_on(tmp_path / "run", url).code == 0
    assert doctor(tmp_path / "run").code == 0
    (tmp_path / "known.jsonl").unlink()
    found = doctor(tmp_path / "run", "--repair")
    assert found.code == 4
    assert "known.jsonl" in says(found.json, "derived files")
