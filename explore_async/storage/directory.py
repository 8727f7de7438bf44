"""A run directory: its lock, the places of its files, and the recipe that it belongs to."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import orjson
from pydantic import BaseModel

from explore_async import __version__
from explore_async.errors import InUse, NewerFormat, OtherWork, StorageError
from explore_async.storage.digested import DigestedDocument
from explore_async.storage.salvage import is_half_mended
from explore_async.storage.whole_files import check_regular, write_json
from explore_async.terminal.text import printable

FORMAT = 1
_LEFT_BEHIND = {"run.log", "server.log"}
"""Files of a start that ended before there was a run."""
_DERIVED = ("checkpoint.json", "dataset.jsonl", "decisions.jsonl", "tree.json", "stats.json")
WRITTEN_WHOLE = ("config.json", "data.json", "tree.json", "stats.json", "live.json", "checkpoint.json", "starts.json")
"""Written beside their place and put there by renaming: a process killed in between leaves an unfinished file."""

_Model = TypeVar("_Model", bound=BaseModel)


class RunDirectory:
    """Owns the directory while it is entered: a second process gets InUse.

    It belongs to one recipe. That may be of any model with a digest: the methods that read it take its class.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None
        self._made: list[Path] = []

    def __enter__(self) -> Self:
        lock_file = self.path / ".lock"
        for name in (".lock", *WRITTEN_WHOLE):
            check_regular(self.path / name)
        self._made = [path for path in (lock_file, self.path, *self.path.parents) if not os.path.lexists(path)]
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StorageError(
                f"cannot write to the run directory {self.path}: {error.strerror}; choose another with --out"
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not self._is_here(lock):
                raise BlockingIOError  # a process that was in here a moment ago has removed its lock file
        except OSError as error:
            os.close(lock)
            raise _refused(self.path, error) from error
        self._lock = lock
        self._tidy()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leaves neither a lock nor a directory that was made for it where no run has begun."""
        if self._lock is not None:
            with suppress(OSError):
                if self._made and self._is_here(self._lock) and not self.is_run:
                    self._made[0].unlink()
                    for folder in self._made[1:]:
                        folder.rmdir()
            os.close(self._lock)
            self._lock = None

    def _tidy(self) -> None:
        for name in WRITTEN_WHOLE:
            for unfinished in self.path.glob(f".{name}.*"):
                with suppress(OSError):
                    unfinished.unlink()

    @property
    def in_use(self) -> bool:
        """True when another process is in the directory. Changes nothing. Raises StorageError where it cannot know."""
        if self._lock is not None:
            return False
        check_regular(self.path / ".lock")
        try:
            lock = os.open(self.path / ".lock", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise StorageError(f"{error.filename}: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError as error:
            raise _refused(self.path, error) from error
        finally:
            os.close(lock)
        return False

    def check_place(self) -> None:
        """Raises StorageError where the directory that was entered is no longer the one of this name."""
        assert self._lock is not None
        if self._is_here(self._lock):
            return
        raise StorageError(
            f"{self.path}: the directory, or .lock in it, was removed, moved or replaced while the run was on. The "
            "completions are where it went; move it back, and the same command goes on from there"
        )

    @property
    def is_run(self) -> bool:
        # os.path, which says False where this user may not look
        return os.path.exists(self.config) or os.path.exists(self.completions)  # noqa: PTH110

    def _is_here(self, lock: int) -> bool:
        """True when the open file is still the one of its name."""
        with suppress(OSError):
            return os.path.samestat(os.fstat(lock), (self.path / ".lock").stat())
        return False

    @property
    def completions(self) -> Path:
        return self.path / "completions.sqlite"

    @property
    def dataset(self) -> Path:
        return self.path / "dataset.jsonl"

    @property
    def decisions(self) -> Path:
        return self.path / "decisions.jsonl"

    @property
    def tree(self) -> Path:
        return self.path / "tree.json"

    @property
    def stats(self) -> Path:
        return self.path / "stats.json"

    @property
    def live(self) -> Path:
        return self.path / "live.json"

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint.json"

    @property
    def config(self) -> Path:
        return self.path / "config.json"

    @property
    def starts(self) -> Path:
        return self.path / "starts.json"

    @property
    def run_log(self) -> Path:
        return self.path / "run.log"

    @property
    def log(self) -> Path:
        return self.path / "server.log"

    def recipe(self, model: type[_Model]) -> _Model | None:
        """The recipe that this directory belongs to; None where there is none yet. Raises StorageError where
        config.json holds no recipe of this model.
        """
        check_regular(self.config)
        try:
            return _recipe_in(self.config.read_bytes(), self.config, model)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(
                f"{self.config}: cannot be read: {error.strerror}; make it readable and run again"
            ) from error
        except (ValueError, KeyError, TypeError) as error:  # pydantic's and orjson's errors are ValueErrors
            raise StorageError(
                f"{self.config}: not a recipe ({_first_line(error)}). Restore it; or `explore-async doctor "
                f"{self.path} --repair` takes it out of the way, and `run CONFIG --adopt` goes on with the stored "
                "answers; or start over with --fresh"
            ) from error

    def check_completions(self, *, stored: bool) -> None:
        """Raises StorageError where there are examples, but the completions they were derived from are gone.

        `stored`: some completions are there.
        """
        if is_half_mended(self.completions):
            raise StorageError(
                f"{self.completions}: a repair was interrupted; `explore-async doctor {self.path} --repair` "
                "completes it"
            )
        if not stored and self.dataset.exists() and self.dataset.stat().st_size > 0 and self._had_completions():
            raise StorageError(
                f"{self.completions}: the completions that this run was derived from are gone; restore the file, or "
                "start over with --fresh"
            )

    def _had_completions(self) -> bool:
        """False where no decision followed from one: nobody is asked about equal answers, or rates an empty one."""
        try:
            with self.decisions.open("rb") as lines:
                return any(b'"request":null' not in line for line in lines)
        except OSError:
            return True

    def refuse_foreign(self) -> None:
        """Raises StorageError where there is no run, but files of somebody else; hidden ones may be there. Call it
        before the directory is entered, so that no lock is left among the files of another program.
        """
        if self.is_run:
            return
        if foreign := [name for name in _DERIVED if os.path.exists(self.path / name)]:  # noqa: PTH110
            raise StorageError(
                f"{self.path}: {foreign[0]} is there and would be replaced, though this is no run directory; choose "
                "another with --out, or remove the file"
            )
        try:
            names = sorted(path.name for path in self.path.iterdir())
        except OSError:
            return  # missing, or what `__enter__` tells
        if foreign := [name for name in names if not name.startswith(".") and name not in _LEFT_BEHIND]:
            raise StorageError(
                f"{self.path}: {printable(foreign[0])} is there, so this is no directory for a run alone; "
                "choose another with --out"
            )

    def write_recipe(self, recipe: DigestedDocument, *, operation: Mapping[str, Any]) -> None:
        """Makes this the directory of `recipe`. The files that another recipe led to are removed first: a process that
        is killed in between leaves a directory of the old recipe.
        """
        try:
            for name in _DERIVED:
                (self.path / name).unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"{error.filename}: cannot be removed: {error.strerror}") from error
        write_json(
            self.config,
            {
                "format": FORMAT,
                "explore_async": __version__,
                "digest": recipe.digest,
                "seed": recipe.seed,
                "recipe": recipe.model_dump(mode="json"),
                "operation": operation,
            },
        )

    def set_aside(self) -> Path | None:
        """Renames an existing run directory and makes an empty one in its place; returns the new path. Raises
        StorageError where there is no run, and for the working directory of this process, whose files would go along.
        """
        if not self.path.exists():
            return None
        path = self.path.resolve()
        if Path.cwd().resolve().is_relative_to(path):
            raise StorageError(
                f"{self.path}: this process works in there; call it from another directory to start over"
            )
        if not self.is_run and any(file.name != ".lock" for file in path.iterdir()):
            raise StorageError(f"{self.path}: this is no run directory; choose another with --out")
        aside = place_aside(path)
        try:
            path.rename(aside)
            path.mkdir()  # links may lead to it
        except OSError as error:
            raise StorageError(f"cannot move {self.path} aside: {error.strerror}") from error
        return aside


def place_aside(path: Path) -> Path:
    """The first free name beside it for what is set aside."""
    number = 1
    while (aside := path.parent / f"{path.name}.{number}").exists():
        number += 1
    return aside


def _refused(path: Path, error: OSError) -> StorageError:
    if isinstance(error, BlockingIOError):
        return InUse(f"another process is running in {path}; wait for it or stop it")
    return StorageError(
        f"{path}: this file system cannot lock files ({error.strerror}), and without a lock two processes could write "
        "the same run; choose a directory on a local disk with --out"
    )


def _recipe_in(body: bytes, path: Path, model: type[_Model]) -> _Model:
    document = orjson.loads(body)
    number = document["format"]
    if isinstance(number, int) and number > FORMAT:
        raise NewerFormat(
            f"{path}: format {number}, this version reads {FORMAT}: a newer version of explore_async wrote it, so "
            "update"
        )
    if number != FORMAT:
        raise ValueError(f"format {number!r}")
    recipe = document["recipe"]
    made_by = recipe.get("made_by", "run") if isinstance(recipe, dict) else "run"
    if ("made_by" in model.model_fields) != (made_by != "run"):
        command = f"explore-async {printable(str(made_by))}"
        raise OtherWork(f"{path.parent}: this is the directory of `{command}`; choose another with --out")
    return model.model_validate(recipe)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
