"""Whatever a command is given: a run, data that a command wrote, a folder of the published code, a file of rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from explore_async.curation.collections.collection import Collection
from explore_async.curation.collections.originals import OriginalFolder, is_original
from explore_async.curation.collections.plain_file import PlainFile
from explore_async.curation.collections.run_data import RunData, is_run_data
from explore_async.errors import ConfigError, DataError


def runs_inside(folder: Path) -> list[Path]:
    """The run and data directories in a folder that is none itself, by name."""
    if not folder.is_dir() or is_run_data(folder) or is_original(folder):
        return []
    return sorted(path for path in folder.iterdir() if is_run_data(path))


def opened(path: Path, columns: Mapping[str, str] | None = None, *, skip_bad_rows: bool = False) -> Collection:
    """Raises DataError where it is none of these; `columns` and `skip_bad_rows` are for files of rows."""
    if not path.exists():
        raise DataError(f"{path}: there is no such run directory or file")
    if not path.is_dir():
        return PlainFile(path, columns or {}, skip_bad_rows)
    if columns:
        raise ConfigError(f"--column: for files of rows, and {path} is a directory")
    if is_run_data(path):
        run = RunData.read(path)
        if not run.dataset.is_file():
            raise DataError(f"{run.dataset}: not there yet")
        return run
    if is_original(path):
        return OriginalFolder(path)
    raise DataError(
        f"{path}: neither a run directory (config.json), nor written by import, filter or merge (data.json), nor a "
        "folder of Explore-Instruct (tree_meta_info.json)"
    )
