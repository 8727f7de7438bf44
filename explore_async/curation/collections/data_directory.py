"""Writes a data directory, which commands on data make, and which each of them can read.

It holds data.json (the sources of the data and the settings of the command), dataset.jsonl, tree.json, and
decisions.jsonl where something was decided: the same files as those of a run.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import orjson

from explore_async import __version__
from explore_async.curation.collections.collection import (
    Collection,
    ExampleRow,
    Marks,
    Node,
    below,
    printable_path,
    recount,
)
from explore_async.curation.collections.marks import MARKS_FILE, mark_lines, read_marks
from explore_async.curation.collections.output_places import check_not_read
from explore_async.curation.collections.run_data import COVERAGE_FILE, DATA_FILE, DATA_FORMAT, PRUNED_FILE
from explore_async.curation.files.writers import as_document
from explore_async.errors import ConfigError, DataError
from explore_async.storage.places import is_remote
from explore_async.storage.whole_files import replacing_directory, storage_errors

_OWN_FILES = {
    *(DATA_FILE, PRUNED_FILE, "dataset.jsonl", "tree.json", "decisions.jsonl"),
    *(COVERAGE_FILE, MARKS_FILE, "explore.yaml", "contamination.json"),
}


class DataDirectory:
    """Owns the files while they are written. `keep` and `drop` count for the tree.

    Marks of the sources stay with the examples that are kept. `marks`: those of the directory that this one replaces;
    none of them is lost.
    """

    def __init__(self, folder: Path, sources: Sequence[Collection], marks: Marks) -> None:
        self._folder = folder
        self._marks = dict(marks)
        self._marks_of_sources = {(k, m.instruction): m for source in sources for k, m in source.marks.items()}
        self._sources = sources
        self._dataset: IO[bytes] = (folder / "dataset.jsonl").open("wb")
        self._decisions: IO[bytes] | None = None
        self.kept: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()

    def keep(self, example: ExampleRow) -> None:
        try:
            line = orjson.dumps(example, option=orjson.OPT_APPEND_NEWLINE)
        except TypeError as error:
            column = next((name for name, value in example.items() if not _in_json(value)), "?")
            where = f"{self._paths}: example {example['id']}, column {column}"
            raise DataError(f"{where}: JSON has no form for it; take it out of the source") from error
        self._dataset.write(line)
        if self._marks_of_sources:
            marked = (str(example.get("source_id", example["id"])), example["instruction"])
            if (mark := self._marks_of_sources.get(marked)) is not None:
                self._marks.setdefault(example["id"], mark)
        self.kept[example["task_id"]] += 1

    def drop(self, task_id: str, reason: str) -> None:
        self.dropped[task_id] += 1
        self.reasons[reason] += 1

    def decide(self, line: Mapping[str, Any]) -> None:
        """Writes a line of evidence."""
        if self._decisions is None:
            self._decisions = (self._folder / "decisions.jsonl").open("wb")
        self._decisions.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))

    def document(self, name: str, content: Mapping[str, Any]) -> None:
        (self._folder / name).write_bytes(as_document(content, f"{self._paths}, for {name}"))

    @property
    def _paths(self) -> str:
        return ", ".join(str(source.path) for source in self._sources)

    def text(self, name: str, content: str) -> None:
        (self._folder / name).write_text(content, encoding="utf-8")

    def finish(
        self, trees: Iterable[Node], description: Mapping[str, Any], *, pruned: frozenset[str] = frozenset()
    ) -> None:
        """Writes the trees with their counts, the list of pruned tasks, and data.json."""
        counted = [recount(root, self.kept, self.dropped) for root in trees]
        self.document("tree.json", {"trees": counted})
        if pruned:
            self.document(PRUNED_FILE, pruned_document(counted, pruned))
        counts = {
            "kept": self.kept.total(),
            "dropped": {"total": self.dropped.total(), **self.reasons},
            "tasks_with_examples": len(self.kept),
        }
        document = {"format": DATA_FORMAT, "explore_async": __version__, **description, "examples": counts}
        self.document(DATA_FILE, document)
        if self._marks:
            (self._folder / MARKS_FILE).write_bytes(mark_lines(self._marks))

    def close(self) -> None:
        for file in (self._dataset, self._decisions):
            if file is not None:
                file.flush()
                os.fsync(file.fileno())
                file.close()


def pruned_document(trees: Iterable[Node], pruned: frozenset[str]) -> dict[str, Any]:
    """The content of pruned.json."""
    nodes = [node for root in trees for node in below(root)]
    names = [{"id": node["id"], "name": node["name"]} for node in nodes if node["id"] in pruned]
    return {"tasks": len(nodes), "pruned": names}


def _check_free(out: Path) -> None:
    if not out.exists():
        return
    if is_remote(out):
        raise ConfigError(
            f"--out {out}: it exists, and a directory that is not on a local disk is not replaced; choose another"
        )
    there = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    if not out.is_dir() or (there and DATA_FILE not in there):
        raise ConfigError(f"--out {out}: it exists and is not a data directory; choose another")
    if foreign := [name for name in there if name not in _OWN_FILES]:
        raise ConfigError(
            f"--out {out}: {foreign[0]} in it is not from explore_async, and would be lost; choose another"
        )


@contextmanager
def writing_data(out: Path, sources: Sequence[Collection], known: Sequence[Path] = ()) -> Iterator[DataDirectory]:
    """A data directory to fill from `sources`. It takes its place whole at the end, or not at all. An earlier data
    directory is replaced, unless it is elsewhere; ConfigError where something else, a source, or a file of texts that
    are `known`, is in its place.
    """
    check_not_read("--out", out, [*(source.path for source in sources), *known])
    with storage_errors(out):
        _check_free(out)
        out.resolve().parent.mkdir(parents=True, exist_ok=True)
    with replacing_directory(out.resolve(), last=DATA_FILE) as partial, storage_errors(out):
        directory = DataDirectory(partial, sources, read_marks(out))
        try:
            yield directory
        finally:
            directory.close()


def describe_origin(made_by: str, sources: Sequence[Collection], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The origin of the data for data.json; for a single run also its recipe and its path."""
    description: dict[str, Any] = {
        "made_by": made_by,
        "name": sources[0].name if len(sources) == 1 else "merged",
        "sources": [{"name": source.name, "path": printable_path(source.path)} for source in sources],
        "settings": settings,
        "simulated": any(source.is_simulated for source in sources),
    }
    only = sources[0]
    if len(sources) == 1:
        if only.recipe:
            description["recipe"] = only.recipe
        if made := made_by_whom(only):
            description["made"] = made
        if only.completions is not None:
            description["run"] = printable_path(only.completions.parent.resolve())
    return description


def made_by_whom(source: Collection) -> dict[str, Any]:
    """The time of the run that the examples came from, and the engines that served its model, as far as they are known:
    begin, end, engines.
    """
    starts = source.stats.get("all_starts")
    if not starts:
        return dict(source.config.get("made") or {})
    engines = dict.fromkeys(engine for endpoint in starts["endpoints"] for engine in endpoint["engines"])
    return {"begin": starts["begin"], "end": starts["end"], "engines": list(engines)}


def _in_json(value: Any) -> bool:
    try:
        orjson.dumps(value)
    except TypeError:
        return False
    return True
