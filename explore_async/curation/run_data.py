"""A run directory, or the data directory that a command on data wrote: its examples, its tree and its figures.

A run directory is known by its config.json, a data directory by its data.json; the rest of their files is the same.
Everything is read line by line, and nothing written: a dataset may be larger than memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson

from explore_async.curation.collection import DEEPEST, Example, Node, below
from explore_async.curation.rows import BadRow, Row, Source
from explore_async.errors import DataError

DATA_FORMAT = 1
DATA_FILE = "data.json"
PRUNED_FILE = "pruned.json"
COVERAGE_FILE = "coverage.json"
"""What `analyze` found, for cards; of another number of examples it no longer holds."""
_TEXTS = ("id", "task_id", "instruction", "input", "output")
_TASK_ID = re.compile(r"\d+(\.\d+)*")
_ORIGINS = ("seed", "lookahead", "backtrack")


@dataclass(frozen=True)
class RunData:
    """`config` is the content of config.json or data.json; `stats` of stats.json, empty while the run goes on."""

    path: Path
    config: dict[str, Any]
    stats: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> RunData:
        """Raises DataError where this is neither a run nor a data directory."""
        if not is_run_data(path):
            what = "no such directory"
            if path.exists():
                what = "no run directory: it has no config.json; `explore-async import` takes other data in"
            raise DataError(f"{path}: {what}")
        known = path / DATA_FILE if (path / DATA_FILE).is_file() else path / "config.json"
        config, stats = _document(known), path / "stats.json"
        if known.name == DATA_FILE and config.get("format") != DATA_FORMAT:
            raise DataError(
                f"{known}: format {config.get('format')!r}, this version reads {DATA_FORMAT}: update explore_async"
            )
        return cls(path, config, _document(stats) if stats.is_file() else {})

    @property
    def dataset(self) -> Path:
        return self.path / "dataset.jsonl"

    @property
    def recipe(self) -> dict[str, Any]:
        """Of the run, or of the run that the data came from; empty for other data."""
        return dict(self.config.get("recipe") or {})

    @property
    def name(self) -> str:
        return str(self.recipe.get("name") or self.config.get("name") or self.path.resolve().name)

    @property
    def is_run(self) -> bool:
        return not (self.path / DATA_FILE).is_file()

    @property
    def completions(self) -> Path | None:
        """Where the answers are that it was made of, if they are still there."""
        origin = self.path if self.is_run else Path(str(self.config.get("run") or ""))
        path = origin / "completions.sqlite"
        return path if path.is_file() else None

    @property
    def is_simulated(self) -> bool:
        return bool(self.stats.get("simulated") or self.config.get("simulated"))

    @cached_property
    def pruned(self) -> frozenset[str]:
        """Raises DataError where the tree has grown since."""
        path = self.path / PRUNED_FILE
        if not path.is_file():
            return frozenset()
        document = _document(path)
        if document.get("tasks") != sum(1 for root in self.trees() for _ in below(root)):
            raise DataError(f"{path}: the tree has other tasks than when it was pruned; run explore-async prune again")
        return frozenset(str(task.get("id")) for task in document.get("pruned", []))

    @property
    def coverage(self) -> dict[str, Any]:
        """What the last analysis found; empty where there was none, or the data have changed since."""
        path = self.path / COVERAGE_FILE
        document = _document(path) if path.is_file() else {}
        kept = sum(node["kept"] for root in self.trees() for node in below(root)) if document else 0
        return document if document.get("examples") == kept else {}

    def trees(self) -> list[Node]:
        """The trees as they were last written."""
        path = self.path / "tree.json"
        if not path.is_file():
            raise DataError(f"{path}: not there yet; the run writes it every few seconds")
        trees = _document(path).get("trees")
        if not isinstance(trees, list):
            raise DataError(f"{path}: it holds no list of trees")
        _check_nodes(trees, path)
        return trees

    def examples(self) -> Iterator[Example]:
        if not self.dataset.is_file():
            return
        source = Source(self.dataset)
        count = 0
        for row in whole_rows(source):
            count += 1
            for name in _TEXTS:
                if not isinstance(row.value.get(name), str):
                    raise DataError(f"{source.place(row.number)}: field {name} is missing or no text")
            path = row.value.get("task_path")
            if not isinstance(path, list) or not path or not all(isinstance(one, str) for one in path):
                raise DataError(f"{source.place(row.number)}: field task_path is missing or no list of names")
            yield row.value if isinstance(row.value, dict) else dict(row.value)
        written = (self.config.get("examples") or {}).get("kept", count)
        if not self.is_run and count != written:
            raise DataError(f"{self.dataset}: it holds {count:,} examples, and {written:,} were written: it is damaged")

    def decisions(self) -> Iterator[dict[str, Any]]:
        """The evidence in its order."""
        path = self.path / "decisions.jsonl"
        if path.is_file():
            yield from (dict(row.value) for row in whole_rows(Source(path)))


def is_run_data(path: Path) -> bool:
    return (path / "config.json").is_file() or (path / DATA_FILE).is_file()


def whole_rows(source: Source) -> Iterator[Row]:
    """The rows of a source; the first bad one is a DataError that names its place."""
    for row in source:
        if isinstance(row, BadRow):
            raise DataError(f"{source.place(row.number)}: {row.fault}")
        yield row


def _check_nodes(trees: list[Any], path: Path) -> None:
    """Raises DataError for a tree that no run has written: trees come from other people, too."""
    waiting = [(node, 0) for node in trees]
    while waiting:
        node, depth = waiting.pop()
        if not isinstance(node, dict) or not isinstance(node.get("children"), list):
            raise DataError(f"{path}: a task is no object with a list of children")
        task_id = node.get("id")
        if not isinstance(task_id, str) or not _TASK_ID.fullmatch(task_id):
            raise DataError(f"{path}: a task has no id such as 0.3.1")
        counts = [node.get(name) for name in ("kept", "dropped", "answers")]
        fault = (
            "name" if not isinstance(node.get("name"), str)
            else "reason" if not isinstance(node.get("reason"), str)
            else "origin" if node.get("origin") not in _ORIGINS
            else "depth" if node.get("depth") != depth or depth > DEEPEST
            else "exhausted" if not isinstance(node.get("exhausted"), bool)
            else "counts" if not all(type(count) is int and count >= 0 for count in counts)
            else ""
        )  # fmt: skip
        if fault:
            raise DataError(f"{path}, task {task_id}: its {fault} is not what a run writes")
        waiting += [(child, depth + 1) for child in node["children"]]


def _document(path: Path) -> dict[str, Any]:
    try:
        document = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise DataError(f"{path}: not a JSON object")
    return document
