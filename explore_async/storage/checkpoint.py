"""Checkpoint of a run: its state after one of its commits, so that the next start need not replay what led to it.

It is only a shortcut. It is valid for the very code, recipe and files that it was made with; where any of them has
changed, everything is replayed from the stored completions.
"""

from __future__ import annotations

import platform
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import orjson

import explore_async
import rouge_kernels
from explore_async.errors import StorageError
from explore_async.exploration.values import Example
from explore_async.storage.derived import Mark, begins_with
from explore_async.storage.directory import RunDirectory
from explore_async.storage.whole_files import check_regular, write_whole

FORMAT = 2


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a run, from which the next start goes on.

    `digest`: of the recipe. `answers`: the last row of the store when it was written. `dataset`, `decisions`: the ends
    of these files at that time. `tally`, `explorer` and `keys`: the states of these two, and of the lines (the keys of
    requests that they still need).
    """

    digest: str
    answers: int
    dataset: Mark
    decisions: Mark
    tally: dict[str, Any]
    explorer: dict[str, Any]
    keys: dict[str, Any]


class StaleCheckpoint(Exception):
    """The checkpoint does not belong to the present files; the message says why."""


def write(directory: RunDirectory, checkpoint: Checkpoint) -> None:
    """Writes the checkpoint whole or not at all. Raises StorageError."""
    body = orjson.dumps(checkpoint)
    head = orjson.dumps({"format": FORMAT, "code": _code(), "crc": zlib.crc32(body)}, option=orjson.OPT_APPEND_NEWLINE)
    write_whole(directory.checkpoint, head + body)


def read(directory: RunDirectory, *, digest: str, answers: int) -> Checkpoint | None:
    """The checkpoint for a run of this recipe whose store ends at row `answers`; None where there is no checkpoint.

    `read_kept` and `check_begins` compare it with the other files. Raises StaleCheckpoint, and StorageError where it
    cannot be read.
    """
    check_regular(directory.checkpoint)
    try:
        head, _, body = directory.checkpoint.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"{directory.checkpoint}: cannot be read: {error.strerror}") from error
    try:
        header = orjson.loads(head)
        if header["format"] != FORMAT or header["code"] != _code():
            raise StaleCheckpoint("another version of explore_async wrote it")
        if header["crc"] != zlib.crc32(body):
            raise StaleCheckpoint("it is not what was written")
        fields = orjson.loads(body)
        marks = {name: Mark(**fields[name]) for name in ("dataset", "decisions")}
        checkpoint = Checkpoint(**{**fields, **marks})
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise StaleCheckpoint("it is not what was written") from error
    if checkpoint.digest != digest:
        raise StaleCheckpoint("it belongs to another recipe")
    if checkpoint.answers > answers:
        raise StaleCheckpoint("completions that it was made of are gone")
    return checkpoint


def read_kept(path: Path, mark: Mark) -> Iterator[Example]:
    """Examples of a dataset up to the mark, without inputs and outputs. Raises StaleCheckpoint, perhaps at the end."""
    return (_instruction(row) for row in _rows(path, mark))


def read_found(path: Path, mark: Mark) -> Iterator[Example]:
    """The same of the instructions that decisions.jsonl says were new, whatever became of them."""
    return (_instruction(row) for row in _rows(path, mark) if row["what"] == "instruction" and row["kept"])


def _instruction(row: dict[str, Any]) -> Example:
    return Example(row["id"], row["task_id"], 0, row["instruction"], "", "")


def _rows(path: Path, mark: Mark) -> Iterator[dict[str, Any]]:
    crc, left = 0, mark.size
    with suppress(FileNotFoundError), path.open("rb") as file:
        while left > 0 and (line := file.readline()):
            crc, left = zlib.crc32(line, crc), left - len(line)
            try:
                yield orjson.loads(line)
            except (orjson.JSONDecodeError, KeyError, TypeError) as error:
                raise StaleCheckpoint(f"{path.name} has changed since the checkpoint was written") from error
    if left or crc != mark.crc:
        raise StaleCheckpoint(f"{path.name} has changed since the checkpoint was written")


def check_begins(path: Path, mark: Mark) -> None:
    """Raises StaleCheckpoint where the bytes before the mark have changed."""
    if not begins_with(path, mark):
        raise StaleCheckpoint(f"{path.name} has changed since the checkpoint was written")


@cache
def _code() -> str:
    """Digest of our own sources and of the version of Python, whose regular expressions and Unicode tables they use."""
    digest = blake2b(platform.python_version().encode(), digest_size=16)
    for package in (explore_async, rouge_kernels):
        folder = Path(str(package.__file__)).parent
        for source in sorted(path for suffix in ("py", "j2") for path in folder.rglob(f"*.{suffix}")):
            digest.update(str(source.relative_to(folder)).encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()
