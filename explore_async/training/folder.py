"""The folder of a training: training.json with its recipe and its result, and the checkpoints until there is one."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import orjson

from explore_async import __version__
from explore_async.errors import ConfigError, NewerFormat, OtherWork, StorageError
from explore_async.storage.whole_files import storage_errors, write_json
from explore_async.training.recipe import Recipe

TRAINING_FILE: Final = "training.json"
CHECKPOINTS: Final = "checkpoints"
COMPLETE: Final = "complete"
"""An empty file in a checkpoint: written last, so that a process that is killed leaves no half checkpoint with it."""
_FORMAT: Final = 1
_WEIGHTS: Final = (".safetensors", ".bin")


class TrainingFolder:
    """Owns the folder while it is entered: a second process gets a StorageError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / CHECKPOINTS

    @contextmanager
    def entered(self) -> Iterator[None]:
        with storage_errors(self.path):
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.checkpoints / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise StorageError(f"{self.path}: another process trains here; wait for it, or stop it") from error
            yield
        finally:
            os.close(lock)

    def read(self) -> Mapping[str, Any] | None:
        """The content of training.json; None in a new folder. Raises StorageError for the folder of something else."""
        file = self.path / TRAINING_FILE
        if not file.exists():
            if self.path.is_dir() and any(path.name != CHECKPOINTS for path in self.path.iterdir()):
                raise OtherWork(f"{self.path}: there is something else in it; choose another folder with --out")
            return None
        with storage_errors(file):
            body = file.read_bytes()
        try:
            document: dict[str, Any] = orjson.loads(body)
            found = document["format"]
            is_ours = isinstance(document["recipe"], dict)
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise StorageError(f"{file}: not written by train; choose another folder with --out") from error
        if found != _FORMAT or not is_ours:
            raise NewerFormat(f"{file}: a newer version of explore_async wrote it; update explore_async")
        return document

    def begin(self, recipe: Recipe, command: str) -> Mapping[str, Any] | None:
        """Writes the recipe. Returns the result of a training that has ended. Raises ConfigError for another recipe."""
        document = self.read()
        if document is None:
            self._write(recipe, command, None)
            return None
        result: Mapping[str, Any] | None = document.get("result")
        if changed := recipe.changed(document["recipe"]):
            if result is None and self.latest() is None:  # nothing came of the other settings
                self._write(recipe, command, None)
                return None
            raise ConfigError(
                f"{self.path}: a training with other settings is in it ({', '.join(changed)}); give the command of "
                "that one, or another folder with --out"
            )
        return result

    def finish(self, recipe: Recipe, command: str, result: Mapping[str, Any]) -> None:
        self._write(recipe, command, result)
        self.tidy()

    def tidy(self) -> None:
        """Removes the checkpoints: what came of them is there."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def latest(self) -> tuple[int, Path] | None:
        """The step and the folder of the newest checkpoint that is whole; None before the first."""
        found = [
            (int(path.name.rpartition("-")[2]), path)
            for path in self.checkpoints.glob("checkpoint-*")
            if (path / COMPLETE).exists() and path.name.rpartition("-")[2].isdecimal()
        ]
        return max(found, default=None)

    def _write(self, recipe: Recipe, command: str, result: Mapping[str, Any] | None) -> None:
        write_json(
            self.path / TRAINING_FILE,
            {
                "format": _FORMAT,
                "explore_async": __version__,
                "command": command,
                "recipe": recipe.document(),
                "result": result,
            },
        )


def digest_of_model(model: str) -> str:
    """The SHA-256 of the files of a model that decide what it computes; empty for a name on a hub.

    Raises ConfigError for a folder without a model.
    """
    folder = Path(model)
    if not folder.is_dir():
        if folder.is_file() or model.startswith((".", "/", "~")):
            raise ConfigError(
                f"--model {model}: there is no such folder; give a folder with a model for transformers (config.json "
                "and safetensors), or its name on a hub"
            )
        return ""
    if not (folder / "config.json").is_file():
        raise ConfigError(f"--model {model}: there is no config.json in it, so it is no model for transformers")
    whole = hashlib.sha256()
    with storage_errors(folder):
        for path in sorted(folder.iterdir()):
            if path.name == "config.json" or path.suffix in _WEIGHTS:
                with path.open("rb") as file:
                    whole.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()
