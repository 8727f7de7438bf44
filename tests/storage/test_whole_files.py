"""Files appear whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import pytest

from explore_async.errors import StorageError
from explore_async.storage.whole_files import replacing, replacing_directory, write_json, write_whole


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def fail(*files: IO[bytes]) -> None:
    for file in files:
        file.write(b"new")
        file.close()
    raise KeyError


def test_all_files_take_their_places_or_none(tmp_path: Path) -> None:
    """Nothing changes before the end; an error in the block leaves every old file and no unfinished one."""
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"old")
    with pytest.raises(KeyError), replacing([one, two]) as files:
        fail(*files)
    assert contents(tmp_path) == {"one": b"old"}
    with replacing([one, two]) as files:
        for file in files:
            file.write(b"new")
        assert one.read_bytes() == b"old"
        assert not two.exists()
    assert contents(tmp_path) == {"one": b"new", "two": b"new"}


def test_a_directory_takes_its_place_whole(tmp_path: Path) -> None:
    """The old directory stays until the block has ended, and stays for good where the block fails."""
    place = tmp_path / "data"
    for body in (b"1", b"2"):
        with replacing_directory(place) as partial:
            (partial / "file").write_bytes(body)
    with pytest.raises(KeyError), replacing_directory(place) as partial:
        fail((partial / "file").open("wb"))
    assert contents(place) == {"file": b"2"}
    assert list(tmp_path.iterdir()) == [place]


def test_an_old_directory_comes_back_where_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file of the old directory is removed before the new one is in its place."""
    place = tmp_path / "data"
    with replacing_directory(place) as partial:
        (partial / "file").write_bytes(b"old")
    rename = Path.rename

    def fails_for_the_new(path: Path, target: Path) -> Path:
        if path.suffix == ".partial":
            raise OSError(5, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fails_for_the_new)
    with pytest.raises(StorageError, match="Input/output error"), replacing_directory(place) as partial:
        (partial / "file").write_bytes(b"new")
    assert contents(place) == {"file": b"old"}
    assert list(tmp_path.iterdir()) == [place]


def test_errors_name_the_file(tmp_path: Path) -> None:
    """A missing folder and a directory in the place of the file are StorageErrors; a bytes body is written as it is."""
    with pytest.raises(StorageError, match="nowhere"):
        write_json(tmp_path / "nowhere" / "s.json", {})
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match="folder: not a regular file"):
        write_whole(tmp_path / "folder", b"")
    write_whole(tmp_path / "file", b"\0")
    assert (tmp_path / "file").read_bytes() == b"\0"
