"""Paths of URLs: their parts, and what they say of themselves."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

from explore_async.errors import ConfigError
from explore_async.storage.places import place


def test_a_url_has_the_parts_of_a_path() -> None:
    """Names, parents and children of a URL are URLs of the same file system, up to its root."""
    path = place("memory://lab/raw/rows.jsonl.gz")
    assert (path.name, path.suffix) == ("rows.jsonl.gz", ".gz")
    assert [str(one) for one in path.parents] == ["memory://lab/raw", "memory://lab"]
    assert str(path.parent.parent.parent) == "memory://"
    assert path.parent.parent.parent.parent == path.parent.parent.parent
    assert path.parent.parent.parent / "lab" / "raw" / "rows.jsonl.gz" == path
    assert path.with_name("other.jsonl") == place("memory://lab/raw/other.jsonl")
    assert str(path.relative_to(place("memory://lab"))) == "raw/rows.jsonl.gz"


def test_a_url_tells_no_secret() -> None:
    """A password and a signature are in no text of a path, and in none of its parents."""
    path = place("http://user:secret@host/a/rows.jsonl?key=secret")
    assert str(path) == "http://host/a/rows.jsonl"
    assert path.name == "rows.jsonl"
    assert "secret" not in f"{path!r} {path.parent} {path / 'more'}"


def test_paths_of_this_machine_stay_paths(tmp_path: Path) -> None:
    """A path, a name with a colon, and file:// are paths of pathlib."""
    for text in ("rows.jsonl", "C:/rows.jsonl", "s3:/rows.jsonl", str(tmp_path)):
        assert place(text) == Path(text)
        assert type(place(text)) is type(Path())
    assert place(f"file://{tmp_path}/rows.jsonl") == tmp_path / "rows.jsonl"


def test_what_needs_a_disk_says_so() -> None:
    """A call of the system, a method that a URL lacks and a file to append to ask for a local path."""
    path = place("memory://lab/rows.jsonl")
    for use in (partial(os.fspath, path), partial(getattr, path, "touch"), partial(path.open, "ab")):
        with pytest.raises(ConfigError, match=r"memory://lab/rows\.jsonl: this has to be on a local disk"):
            use()
