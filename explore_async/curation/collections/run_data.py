"""A run directory, or a data directory that a command on data wrote: its examples, its tree and its figures.

A run directory has config.json, a data directory data.json; their other files are the same. Examples are read line by
line, since a dataset may be larger than memory.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson

from explore_async.curation.collections.collection import (
    DEEPEST,
    TASK_ID,
    ExampleRow,
    Marks,
    Node,
    below,
    printable_path,
)
from explore_async.curation.collections.documents import Coverage, Document, Origin, PrunedTasks, Stats, Trees, check
from explore_async.curation.collections.marks import read_marks
from explore_async.curation.files.row import BadRow, Row, reading
from explore_async.curation.files.source import Source
from explore_async.errors import ConfigError, DataError
from explore_async.storage.places import is_remote

DATA_FORMAT = 1
DATA_FILE = "data.json"
PRUNED_FILE = "pruned.json"
TREE_FILE = "tree.json"
COVERAGE_FILE = "coverage.json"
"""Figures of `analyze`, for cards; they are void once the number of examples is another."""
_TEXTS = ("id", "task_id", "instruction", "input", "output")


@dataclass(frozen=True)
class RunData:
    """A run or imported data, read from its directory.

    `config` is the content of config.json or data.json; `stats` of stats.json, empty where none is written yet.
    """

    path: Path
    config: dict[str, Any]
    stats: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> RunData:
        """Opens a directory. Raises DataError where this is neither a run nor a data directory, ConfigError for a
        run that is not on a local disk.
        """
        with reading(path):
            is_there, is_known = path.exists(), is_run_data(path)
        if not is_known:
            what = "no such directory"
            if is_there:
                what = "not a run directory: it has no config.json; `explore-async import` takes other data in"
            raise DataError(f"{path}: {what}")
        known = path / DATA_FILE if (path / DATA_FILE).is_file() else path / "config.json"
        if is_remote(path) and known.name != DATA_FILE:
            raise ConfigError(
                f"{path}: a run directory has to be on a local disk, as its completions are a database; copy it there, "
                f"or give its examples alone: {path / 'dataset.jsonl'}"
            )
        config, stats = _document(known, Origin), path / "stats.json"
        if known.name == DATA_FILE and config.get("format") != DATA_FORMAT:
            raise DataError(
                f"{known}: format {config.get('format')!r}, this version reads {DATA_FORMAT}: update explore_async"
            )
        return cls(path, config, _document(stats, Stats) if stats.is_file() else {})

    @property
    def bad_rows(self) -> int:
        return 0

    @property
    def read_as(self) -> None:
        return None

    @property
    def notes(self) -> tuple[str, ...]:
        return ()

    @property
    def dataset(self) -> Path:
        return self.path / "dataset.jsonl"

    @property
    def recipe(self) -> dict[str, Any]:
        """The recipe of the run, or of the run that the data came from; empty for other data."""
        return dict(self.config.get("recipe") or {})

    @property
    def name(self) -> str:
        name = str(self.recipe.get("name") or self.config.get("name") or printable_path(self.path.resolve().name))
        return f"{name}, shard {shard}" if (shard := self.recipe.get("shard")) else name

    @property
    def is_run(self) -> bool:
        return not (self.path / DATA_FILE).is_file()

    @property
    def completions(self) -> Path | None:
        """The store with the completions that the examples came from: its own, or that of the run. None where it is
        gone.
        """
        runs = (self.path, *(Path(str(run)) for run in (self.config.get("run"),) if run))
        return next((path for run in runs if (path := run / "completions.sqlite").is_file()), None)

    @property
    def is_simulated(self) -> bool:
        return bool(self.stats.get("simulated") or self.config.get("simulated"))

    @property
    def numbers_rows(self) -> bool:
        return False

    @cached_property
    def pruned(self) -> frozenset[str]:
        """Raises DataError where the tree has grown since."""
        path = self.path / PRUNED_FILE
        if not path.is_file():
            return frozenset()
        document = _document(path, PrunedTasks)
        if document["tasks"] != sum(1 for root in self.trees() for _ in below(root)):
            raise DataError(f"{path}: the tree has other tasks than when it was pruned; run explore-async prune again")
        return frozenset(task["id"] for task in document["pruned"])

    @cached_property
    def marks(self) -> Marks:
        return read_marks(self.path)

    @property
    def coverage_file(self) -> Path:
        return self.path / COVERAGE_FILE

    @property
    def coverage(self) -> dict[str, Any]:
        path = self.coverage_file
        document = _document(path, Coverage) if path.is_file() else {}
        kept = sum(node["kept"] for root in self.trees() for node in below(root)) if document else 0
        return document if document.get("examples") == kept else {}

    def trees(self) -> list[Node]:
        """The trees as they were in the file at the first call."""
        return self._trees

    @cached_property
    def _trees(self) -> list[Node]:
        path = self.path / TREE_FILE
        if not path.is_file():
            raise DataError(f"{path}: not there yet; a run writes it in its first seconds, and its command goes on")
        trees: list[Node] = _document(path, Trees)["trees"]
        _check_ids(trees, path)
        return trees

    def examples(self) -> Iterator[ExampleRow]:
        if not self.dataset.is_file():
            return
        source = Source(self.dataset)
        known = (self.path / TREE_FILE).is_file()  # it lags behind a run in progress, but has all its domains
        domains = {root["id"] for root in self.trees()} if known else None
        count = 0
        for row in whole_rows(source):
            count += 1
            if fault := _fault(row.value, domains):
                raise DataError(f"{source.place(row.number)}: {fault}")
            yield row.value if isinstance(row.value, dict) else dict(row.value)
        written = (self.config.get("examples") or {}).get("kept", count)
        if not self.is_run and count != written:
            raise DataError(f"{self.dataset}: it holds {count:,} examples, and {written:,} were written: it is damaged")

    def decisions(self) -> Iterator[dict[str, Any]]:
        """The lines of evidence, in their order."""
        path = self.path / "decisions.jsonl"
        if path.is_file():
            yield from (dict(row.value) for row in whole_rows(Source(path)))


def is_run_data(path: Path) -> bool:
    return (path / "config.json").is_file() or (path / DATA_FILE).is_file()


def examples_written(run: Path) -> int:
    """The number of examples in the dataset of a run. That in tree.json is older where it was killed or goes on."""
    dataset = run / "dataset.jsonl"
    if not dataset.is_file():
        return 0
    with dataset.open("rb") as lines:
        return sum(line.endswith(b"\n") for line in lines)


def whole_rows(source: Source) -> Iterator[Row]:
    """The rows of a source; the first bad one is a DataError that names its place."""
    for row in source:
        if isinstance(row, BadRow):
            raise DataError(f"{source.place(row.number)}: {row.fault}")
        yield row


def _fault(example: Mapping[str, Any], domains: Collection[str] | None) -> str:
    """The fault of an example's line; empty if there is none."""
    for name in _TEXTS:
        if not isinstance(example.get(name), str):
            return f"field {name} is missing or not a text"
    path = example.get("task_path")
    if not isinstance(path, list) or not path or any(not isinstance(name, str) for name in path):
        return "field task_path is missing or not a list of names"
    if not isinstance(example.get("request"), str | None):
        return "field request is not a text"
    if not isinstance(example.get("imported", {}), dict):
        return "field imported is not an object"
    task_id = example["task_id"]
    if not re.fullmatch(TASK_ID, task_id) or (domains is not None and task_id.partition(".")[0] not in domains):
        return f"its task {task_id!r} is not in tree.json"
    return ""


def _check_ids(trees: Sequence[Node], path: Path) -> None:
    """Raises DataError unless each task's id is that of the task above with one more number, and is unique."""
    seen: set[str] = set()
    for root in trees:
        if "." in root["id"]:
            raise DataError(f"{path}: task {root['id']} is a root, but its id is not that of a root")
        for node in below(root):
            if node["id"] in seen:
                raise DataError(f"{path}: the task id {node['id']} is there twice")
            seen.add(node["id"])
            if node["depth"] != node["id"].count(".") or node["depth"] > DEEPEST:
                raise DataError(f"{path}, task {node['id']}: its depth is not what a run writes")
            for child in node["children"]:
                if child["id"].rpartition(".")[0] != node["id"]:
                    raise DataError(f"{path}: task {child['id']} is below task {node['id']}")


def _document(path: Path, model: type[Document]) -> dict[str, Any]:
    try:
        document = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise DataError(f"{path}: not a JSON object")
    check(document, model, path)
    return document
