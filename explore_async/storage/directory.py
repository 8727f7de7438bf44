"""A run's directory: who may use it, where its files are, and which recipe it belongs to."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson
from pydantic import ValidationError

from explore_async import __version__
from explore_async.errors import ConfigError, StorageError
from explore_async.settings import Recipe
from explore_async.storage.derived import write_json

FORMAT = 1
_DERIVED = ("dataset.jsonl", "decisions.jsonl", "tree.json", "stats.json")
_WHOLE = ("config.json", "tree.json", "stats.json", "live.json")
"""Written beside their place and put there by renaming: who is killed in between leaves the unfinished one behind."""


class RunDirectory:
    """Owns the directory while it is entered: a second process is refused."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    def __enter__(self) -> Self:
        lock_file = self.path / ".lock"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StorageError(
                f"cannot write to the run directory {self.path}: {error.strerror}; choose another with --out"
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise StorageError(f"another process is running in {self.path}; wait for it or stop it") from error
        self._lock = lock
        self._tidy()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _tidy(self) -> None:
        for name in _WHOLE:
            for unfinished in self.path.glob(f".{name}.*"):
                with suppress(OSError):
                    unfinished.unlink()

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
    def config(self) -> Path:
        return self.path / "config.json"

    @property
    def log(self) -> Path:
        return self.path / "server.log"

    def recipe(self) -> Recipe | None:
        """The recipe this directory belongs to, or None in a new one."""
        try:
            document = orjson.loads(self.config.read_bytes())
            if document["format"] != FORMAT:
                raise StorageError(
                    f"{self.config}: format {document['format']}, this version reads {FORMAT}: update explore_async"
                )
            return Recipe.model_validate(document["recipe"])
        except FileNotFoundError:
            return None
        except (orjson.JSONDecodeError, KeyError, TypeError, ValidationError, OSError) as error:
            raise StorageError(
                f"{self.config}: cannot be read ({error}); restore it, or start over with --fresh"
            ) from error

    def check_answers(self) -> None:
        """Raises a StorageError where examples were derived from answers that are gone."""
        if not self.completions.exists() and self.dataset.exists() and self.dataset.stat().st_size > 0:
            raise StorageError(
                f"{self.completions}: the answers that this run was made of are gone; restore the file, or start over "
                "with --fresh"
            )

    def write_recipe(self, recipe: Recipe, *, operation: Mapping[str, Any]) -> None:
        """Makes this the directory of `recipe`. What was derived by another recipe is derived anew, and therefore goes
        first: killed in between, the directory is still the old recipe's.
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
        """Renames an existing directory so that this path is free; returns where it went."""
        if not self.path.exists():
            return None
        path = self.path.resolve()
        number = 1
        while (aside := path.parent / f"{path.name}.{number}").exists():
            number += 1
        try:
            path.rename(aside)
        except OSError as error:
            raise StorageError(f"cannot move {self.path} aside: {error.strerror}") from error
        return aside


def differences(old: Recipe, new: Recipe) -> list[str]:
    """Where two recipes differ, a line each: "targets.examples: 100 → 200"."""

    def flat(value: Any, prefix: str) -> dict[str, Any]:
        if isinstance(value, dict) and value:
            return {key: leaf for name, below in value.items() for key, leaf in flat(below, f"{prefix}{name}.").items()}
        return {prefix.rstrip("."): value}

    before, after = flat(old.model_dump(mode="json"), ""), flat(new.model_dump(mode="json"), "")
    return [
        f"{name}: {_short(before.get(name))} → {_short(after.get(name))}"
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]


def refuse_other(old: Recipe, new: Recipe, path: Path) -> None:
    """Raises a ConfigError that shows the differences, where there are any."""
    if old.digest == new.digest:
        return
    shown = "\n  ".join(differences(old, new))
    raise ConfigError(
        f"{path} was made with another recipe:\n  {shown}\n"
        "Take the new one over with --adopt (stored answers that still fit are used), start over with --fresh, "
        "or choose another directory with --out"
    )


def _short(value: Any) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= 80 else f"{text[:77]}..."  # noqa: PLR2004 - about a line
