"""Where a run stood after one of its commits, so that the next start need not replay what led there.

A memo and never a truth: it holds for the code, the recipe and the files that it was made with, to the byte, and where
any of them is another, all is replayed from the stored answers as if it were not there.
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
from explore_async.storage.derived import Mark, begins
from explore_async.storage.directory import RunDirectory
from explore_async.storage.whole_files import check_regular, write_whole

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """`digest`: of the recipe. `answers`: the last row of the store when it was written. `dataset`, `decisions`: how
    far these files went. `tally` and `explorer` are the states of those.
    """

    digest: str
    answers: int
    dataset: Mark
    decisions: Mark
    tally: dict[str, Any]
    explorer: dict[str, Any]


class Unfit(Exception):
    """The checkpoint is none for what is there; the message says why."""


def write(directory: RunDirectory, checkpoint: Checkpoint) -> None:
    """Whole or not at all. Raises StorageError."""
    body = orjson.dumps(checkpoint)
    head = orjson.dumps({"format": FORMAT, "code": _code(), "crc": zlib.crc32(body)}, option=orjson.OPT_APPEND_NEWLINE)
    write_whole(directory.checkpoint, head + body)


def read(directory: RunDirectory, *, digest: str, answers: int) -> Checkpoint | None:
    """The checkpoint, for a run of this recipe whose store goes on to this row; None where there is none.

    What it says of the files is compared with them by `kept_until` and `check_begins`. Raises Unfit, and StorageError
    where it cannot be read.
    """
    check_regular(directory.checkpoint)
    try:
        head, _, body = directory.checkpoint.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"{directory.checkpoint}: cannot be read: {error.strerror}") from error
    try:
        said = orjson.loads(head)
        if said["format"] != FORMAT or said["code"] != _code():
            raise Unfit("another version of explore_async wrote it")
        if said["crc"] != zlib.crc32(body):
            raise Unfit("it is not what was written")
        fields = orjson.loads(body)
        marks = {name: Mark(**fields[name]) for name in ("dataset", "decisions")}
        checkpoint = Checkpoint(**{**fields, **marks})
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise Unfit("it is not what was written") from error
    if checkpoint.digest != digest:
        raise Unfit("it is that of another recipe")
    if checkpoint.answers > answers:
        raise Unfit("answers that it was made of are gone")
    return checkpoint


def kept_until(path: Path, mark: Mark) -> Iterator[Example]:
    """What a dataset holds up to the mark, without inputs, outputs and ordinals. Raises Unfit, perhaps at its end."""
    crc, left = 0, mark.size
    with suppress(FileNotFoundError), path.open("rb") as file:
        while left > 0 and (line := file.readline()):
            crc, left = zlib.crc32(line, crc), left - len(line)
            try:
                row = orjson.loads(line)
                yield Example(row["id"], row["task_id"], 0, row["instruction"], "", "")
            except (orjson.JSONDecodeError, KeyError, TypeError) as error:
                raise Unfit(f"{path.name} is not what it was then") from error
    if left or crc != mark.crc:
        raise Unfit(f"{path.name} is not what it was then")


def check_begins(path: Path, mark: Mark) -> None:
    """Raises Unfit unless the file begins with what is marked."""
    if not begins(path, mark):
        raise Unfit(f"{path.name} is not what it was then")


@cache
def _code() -> str:
    """A digest of all that a run is derived by: our own sources, and the Python whose patterns and letters they use."""
    digest = blake2b(platform.python_version().encode(), digest_size=16)
    for package in (explore_async, rouge_kernels):
        folder = Path(str(package.__file__)).parent
        for source in sorted(path for suffix in ("py", "j2") for path in folder.rglob(f"*.{suffix}")):
            digest.update(str(source.relative_to(folder)).encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()
