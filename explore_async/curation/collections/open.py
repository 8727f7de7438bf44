"""Opens any source of examples: a run, data that a command wrote, a folder of the published code, a file of rows."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TypeAlias

from explore_async.curation.collections.collection import Collection
from explore_async.curation.collections.columns import TASK, TEXTS
from explore_async.curation.collections.data_set import DataSet
from explore_async.curation.collections.originals import OriginalFolder, is_original
from explore_async.curation.collections.plain_file import PlainFile
from explore_async.curation.collections.run_data import RunData, is_run_data
from explore_async.curation.files.row import reading
from explore_async.errors import ConfigError, DataError
from explore_async.storage.places import place

_SHARDS = "shard-*-of-*"
DataSource: TypeAlias = str | os.PathLike[str] | DataSet
"""A path, or a dataset that is open already."""
DataSources: TypeAlias = DataSource | Iterable[DataSource]
"""One source, or several."""


def open_data(
    path: str | os.PathLike[str], columns: Mapping[str, str] | None = None, *, skip_bad_rows: bool = False
) -> DataSet:
    """Opens a run directory, a data directory, a folder of Explore-Instruct or a file of rows, for reading. A
    path may be a URL of fsspec, except that of a run directory.

    `columns` maps our names (instruction, input, output, task) to those of a file of rows. Without `skip_bad_rows` the
    first row that cannot be read ends the reading with a DataError. Raises DataError where the path is none of these.
    """
    return DataSet(open_collection(place(path), columns, skip_bad_rows=skip_bad_rows))


def as_sources(sources: DataSources) -> list[DataSource]:
    """The sources as a list, of one where a single source is given."""
    return [sources] if isinstance(sources, str | os.PathLike | DataSet) else list(sources)


def collection_of(source: DataSource, columns: Mapping[str, str] | None = None) -> Collection:
    """The collection that a command reads. Raises ConfigError for columns of a dataset that is open already."""
    if not isinstance(source, DataSet):
        return open_collection(place(source), columns)
    if columns:
        raise ConfigError(f"{source.path} is open already; give its columns to open")
    return source.collection


def collection_one_of(source: DataSource, columns: Mapping[str, str] | None = None) -> Collection:
    """The same for one of several sources: the columns are for those among them that are files."""
    return source.collection if isinstance(source, DataSet) else open_one_of(place(source), columns)


def open_collection(path: Path, columns: Mapping[str, str] | None = None, *, skip_bad_rows: bool = False) -> Collection:
    """The same as rows, for the commands on data."""
    with reading(path):
        if not path.exists():
            raise DataError(f"{path}: there is no such run directory or file")
    if unknown := sorted(set(columns or {}) - {*TEXTS, TASK}):
        raise ConfigError(f"columns: {unknown[0]} is not one of {', '.join((*TEXTS, TASK))}")
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


def keep_columns(source: Collection, columns: Sequence[str]) -> None:
    """Tells a file which columns the command uses by their names: they stay in its rows, and no note names them."""
    if isinstance(source, PlainFile):
        source.staying = columns


def open_one_of(path: Path, columns: Mapping[str, str] | None = None, *, skip_bad_rows: bool = False) -> Collection:
    """The same as rows, for the commands on data."""
    with reading(path):
        of_path = None if path.is_dir() else columns
    return open_collection(path, of_path, skip_bad_rows=skip_bad_rows)


def runs_inside(folder: Path) -> list[Path]:
    """The run and data directories in a folder that is not itself one of them, by name; those of shards too, which lie
    one level deeper.
    """
    with reading(folder):
        if not folder.is_dir() or is_run_data(folder) or is_original(folder):
            return []
        inside = sorted(folder.iterdir())
    found = ([path] if is_run_data(path) else filter(is_run_data, sorted(path.glob(_SHARDS))) for path in inside)
    return list(chain.from_iterable(found))
