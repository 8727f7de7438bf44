"""Files that appear whole or not at all: written beside their place, made durable, and moved there by renaming. What is
to be elsewhere (`places`) is written to a scratch file, and sent at the end.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, cast

import orjson

from explore_async.errors import StorageError
from explore_async.storage.places import RemotePath


@contextmanager
def replacing(paths: Sequence[Path]) -> Iterator[list[IO[bytes]]]:
    """Empty files to fill, one for each path. At the end all of them take their places; after a failure none does.

    A killed process leaves its unfinished files behind, as `.NAME.TOKEN.partial`. Raises StorageError.
    """
    with ExitStack() as stack:
        files = [stack.enter_context(_sibling(path)) for path in paths]
        yield files
        for path, file in zip(paths, files, strict=True):
            with storage_errors(path):
                file.flush()
                os.fsync(file.fileno())
        for path, file in zip(paths, files, strict=True):
            with storage_errors(path):
                if isinstance(path, RemotePath):
                    path.receive(Path(file.name))
                else:
                    Path(file.name).replace(path)


@contextmanager
def replacing_directory(path: Path, last: str = "") -> Iterator[Path]:
    """An empty directory to fill. At the end it takes the place of `path`, which is there until then and removed after;
    after a failure it is removed itself. Elsewhere its files come one after another, the one called `last` after all
    others, and nothing is there before.

    Raises StorageError.
    """
    if isinstance(path, RemotePath):
        with _sending(path, last) as partial:
            yield partial
        return
    partial = _partial(path)
    try:
        with storage_errors(path):
            partial.mkdir()
        yield partial
        with storage_errors(path):
            _make_durable(partial)
            _put_in_place(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _make_durable(folder: Path) -> None:
    """Writes the files and their names to the disk. Some file systems cannot do this for a folder."""
    for path in filter(Path.is_file, folder.rglob("*")):
        with path.open("rb") as file:
            os.fsync(file.fileno())
    with suppress(OSError):
        number = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def _put_in_place(folder: Path, path: Path) -> None:
    if not path.exists():
        folder.rename(path)
        return
    old = path.with_name(f".{path.name}.{secrets.token_hex(4)}.old")
    path.rename(old)
    try:
        folder.rename(path)
    except BaseException:
        old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _sending(path: RemotePath, last: str) -> Iterator[Path]:
    with storage_errors(path):
        path.check_writable()
    sent: list[RemotePath] = []
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)
        try:
            for file in sorted(Path(folder).iterdir(), key=lambda file: (file.name == last, file.name)):
                sent.append(path / file.name)
                with storage_errors(sent[-1]):
                    sent[-1].receive(file)
        except BaseException:
            for file in sent:
                with suppress(OSError):
                    file.unlink(missing_ok=True)
            raise


def write_json(path: Path, document: Any) -> None:
    """Writes an indented JSON document whole or not at all. Raises StorageError."""
    write_whole(path, orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def write_state(path: Path, document: Any) -> None:
    """The same for a file that a run writes again and again: the error of a full disk says that nothing is lost."""
    try:
        write_json(path, document)
    except StorageError as error:
        if isinstance(error.__cause__, OSError):
            raise StorageError(f"{error}; nothing is lost: fix this and run again") from error
        raise


def write_whole(path: Path, body: bytes) -> None:
    """Writes the bytes whole or not at all. Raises StorageError."""
    with replacing([path]) as (file,), storage_errors(path):
        file.write(body)


@contextmanager
def made(folder: Path) -> Iterator[None]:
    """Makes the folder; if the work fails, the folders that were made for it are removed."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        with suppress(OSError):
            for path in new:
                path.rmdir()
        raise


def check_regular(path: Path) -> None:
    """Raises StorageError where a directory, a pipe or a device has this name: opening a pipe can wait forever, and a
    device may never end.
    """
    if path.exists() and not path.is_file():
        raise StorageError(f"{path}: not a regular file; move it away and run again")


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turns an error of the file system into a StorageError that names the file."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror or error}") from error


@contextmanager
def _sibling(path: Path) -> Iterator[IO[bytes]]:
    """A new file beside `path`, removed at the end unless it was moved."""
    if isinstance(path, RemotePath):
        with storage_errors(path):
            path.check_writable()
            scratch = tempfile.NamedTemporaryFile()  # noqa: SIM115 - closed at the end, as the other
        with closing(scratch):
            yield cast("IO[bytes]", scratch)
        return
    place = _partial(path)
    with ExitStack() as stack:
        stack.callback(_remove, place)  # before the file is there: a signal may come right after its opening
        with storage_errors(path):
            check_regular(path)
            file = place.open("xb")  # fails on a file or link that another process put there
        stack.callback(_close, file)
        yield file


def _close(file: IO[bytes]) -> None:
    with suppress(OSError):  # everything that matters was flushed before
        file.close()


def _remove(place: Path) -> None:
    with suppress(OSError):
        place.unlink()


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
