"""Outcomes that several processes share through a folder: the first that has one for a key decides it for all."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

import orjson

from explore_async.errors import StorageError
from explore_async.exploration.values import Completion, Failure, Outcome
from explore_async.storage.whole_files import storage_errors


class SharedOutcomes:
    """Owns nothing: each outcome is a file of the folder, KEY.json, that appears whole and never changes.

    It works on any file system with hard links that its processes have in common. Methods touch the disk and raise
    StorageError.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, key: str) -> Outcome | None:
        """The outcome of this key; None where no process has one yet."""
        path = self._path(key)
        try:
            body = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(f"{path}: {error.strerror}") from error
        try:
            document = orjson.loads(body)
            return Completion(**document["completion"]) if "completion" in document else Failure(**document["failure"])
        except (orjson.JSONDecodeError, LookupError, TypeError) as error:
            raise StorageError(f"{path}: damaged; remove it, and the shards ask again") from error

    def settle(self, key: str, outcome: Outcome) -> Outcome:
        """Makes the outcome that of the key, unless another process has been quicker. Returns that of the key."""
        path = self._path(key)
        name = "completion" if isinstance(outcome, Completion) else "failure"
        own = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
        with storage_errors(path):
            self._folder.mkdir(parents=True, exist_ok=True)
            try:
                with own.open("xb") as file:
                    file.write(orjson.dumps({name: outcome}))
                    file.flush()
                    os.fsync(file.fileno())
                with suppress(FileExistsError):
                    path.hardlink_to(own)
            finally:
                own.unlink(missing_ok=True)
        settled = self.read(key)
        if settled is None:
            raise StorageError(f"{path}: it was removed while the run was on; the same command goes on")
        return settled

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.json"
