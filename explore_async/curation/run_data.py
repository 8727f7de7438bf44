"""A finished or growing run as data: its dataset, its tree and its figures, read and never written.

A run directory is known by its `config.json`. Everything is read line by line: a dataset may be larger than memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from explore_async.curation.rows import BadRow, Row, Source
from explore_async.errors import DataError


@dataclass(frozen=True, slots=True)
class RunData:
    """`config` is the content of config.json; `stats` of stats.json, empty while the run has not ended once."""

    path: Path
    config: dict[str, Any]
    stats: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> RunData:
        """Raises DataError where this is no run directory."""
        if not (path / "config.json").is_file():
            what = "no such directory" if not path.exists() else "no run directory: it has no config.json"
            raise DataError(f"{path}: {what}")
        stats = path / "stats.json"
        return cls(path, _document(path / "config.json"), _document(stats) if stats.is_file() else {})

    @property
    def dataset(self) -> Path:
        return self.path / "dataset.jsonl"

    @property
    def recipe(self) -> dict[str, Any]:
        return dict(self.config.get("recipe", {}))

    @property
    def is_simulated(self) -> bool:
        """Whether a server without a model made it up."""
        return bool(self.stats.get("simulated"))

    def trees(self) -> list[dict[str, Any]]:
        """The trees as they were last written, each node with its children."""
        path = self.path / "tree.json"
        if not path.is_file():
            raise DataError(f"{path}: not there yet; the run writes it every few seconds")
        return list(_document(path).get("trees", []))

    def examples(self) -> Iterator[Row]:
        """The kept examples in their order. Raises DataError, naming the line, where the file is damaged."""
        if not self.dataset.is_file():
            return
        yield from whole_rows(Source(self.dataset))

    def decisions(self) -> Iterator[dict[str, Any]]:
        """The evidence in its order."""
        path = self.path / "decisions.jsonl"
        if path.is_file():
            yield from (dict(row.value) for row in whole_rows(Source(path)))


def whole_rows(source: Source) -> Iterator[Row]:
    """The rows of a source; the first bad one is a DataError that names its place."""
    for row in source:
        if isinstance(row, BadRow):
            raise DataError(f"{source.place(row.number)}: {row.fault}")
        yield row


def _document(path: Path) -> dict[str, Any]:
    try:
        document = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise DataError(f"{path}: not a JSON object")
    return document
