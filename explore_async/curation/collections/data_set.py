"""A dataset for programs: the tasks, examples and verdicts of any collection as typed values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from explore_async.curation.collections.collection import OWN_COLUMNS, Collection, ExampleRow, Node
from explore_async.curation.collections.evidence import find_evidence
from explore_async.errors import ConfigError, DataError
from explore_async.storage.rows import StoredRequest


@dataclass(frozen=True, slots=True)
class Task:
    """A task of a tree, with the counts of its own examples, without those of its sub-tasks."""

    id: str
    path: tuple[str, ...]
    """Names from the root of the tree to this task."""
    name: str
    reason: str
    origin: str
    """seed, lookahead or backtrack: where the task comes from."""
    depth: int
    kept: int
    dropped: int
    completions: int
    """Number of completions that examples were read from."""
    is_exhausted: bool
    is_pruned: bool
    children: tuple[str, ...]
    """Ids of the sub-tasks."""
    criterion: str = ""
    """The criterion by which its parent is divided, where the run asked for criteria."""


@dataclass(frozen=True, slots=True)
class Example:
    """An instruction with its optional input and its output."""

    id: str
    task_id: str
    task_path: tuple[str, ...]
    instruction: str
    input: str
    output: str
    request: str | None = None
    """Key of the request that it came from."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """Other columns of its source."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision on a proposed task or example, with its evidence."""

    subject: Literal["task", "example"]
    id: str | None
    """None for a dropped task, and for an example that could not be read."""
    task_id: str | None
    """The task of an example; the task above a task, None for a root."""
    kept: bool
    reason: str
    text: str
    """The name of a task, the instruction of a dropped example, or an excerpt of what could not be read; else empty."""
    score: float | None
    """ROUGE-L F with the nearest text; of a paraphrase the cosine with it."""
    nearest: str | None
    """Id of the nearest kept text; a benchmark and its row after decontamination."""
    request: str | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known of one task or example."""

    verdict: Verdict | None
    """None for tasks and examples that were taken over from elsewhere."""
    task: Task | None
    example: Example | None
    nearest: Example | None
    stored: StoredRequest | None
    """The request with its outcome, where the run still has them."""


@dataclass(frozen=True, slots=True)
class DataSet:
    """Examples and their trees of tasks, for reading; `explore_async.open` makes one.

    Every reading begins at the start of the files, and holds one example at a time. DataError names faults in them.
    """

    collection: Collection = field(repr=False)

    def __repr__(self) -> str:
        return f"<DataSet {self.name!r} in {str(self.path)!r}>"

    @property
    def path(self) -> Path:
        return self.collection.path

    @property
    def name(self) -> str:
        return self.collection.name

    @property
    def is_simulated(self) -> bool:
        """True when a simulated server, without a model, wrote any of the examples."""
        return self.collection.is_simulated

    @property
    def recipe(self) -> Mapping[str, Any]:
        """The recipe of the run that the examples came from; empty for other data."""
        return self.collection.recipe

    def __iter__(self) -> Iterator[Example]:
        return self.examples()

    def examples(self) -> Iterator[Example]:
        return map(_example, self.collection.examples())

    def tasks(self) -> Iterator[Task]:
        """All tasks of all trees, each before its sub-tasks."""
        for root in self.collection.trees():
            yield from _tasks(root, (), self.collection.pruned)

    def verdicts(self) -> Iterator[Verdict]:
        """All decisions in their order, on dropped tasks and examples too; none for data without evidence."""
        for line in self.collection.decisions():
            if str(line.get("what")) in {"task", "example"}:
                yield _verdict(line, self.path)

    def evidence(self, wanted: str) -> Evidence:
        """The evidence of the task or example with this id. Raises DataError where there is no such id."""
        rows = find_evidence(self.collection, wanted)
        if rows is None:
            raise DataError(f"{self.path}: no task and no example has the id {wanted!r}")
        return Evidence(
            verdict=None if rows.decision is None else _verdict(rows.decision, self.path),
            task=next((task for task in self.tasks() if task.id == wanted), None) if rows.task is not None else None,
            example=None if rows.example is None else _example(rows.example),
            nearest=None if rows.nearest is None else _example(rows.nearest),
            stored=rows.stored,
        )

    def to_pandas(self) -> Any:
        """The examples as a pandas DataFrame, a column for each of their fields. Raises ConfigError without pandas."""
        try:
            import pandas as pd
        except ImportError as error:
            raise ConfigError("to_pandas needs pandas: pip install pandas") from error
        return pd.DataFrame(self._columns())

    def to_dataset(self) -> Any:
        """The examples as a `datasets.Dataset`. Raises ConfigError without the package datasets."""
        try:
            from datasets import Dataset
        except ImportError as error:
            raise ConfigError("to_dataset needs datasets: pip install datasets") from error
        return Dataset.from_dict(self._columns())

    def _columns(self) -> dict[str, list[Any]]:
        """Values by column; None where an example lacks a column that another one has."""
        rows = list(self.collection.examples())
        names = dict.fromkeys([*OWN_COLUMNS, *(name for row in rows for name in row)])
        return {name: [row.get(name) for row in rows] for name in names}


def _example(row: ExampleRow) -> Example:
    return Example(
        id=row["id"],
        task_id=row["task_id"],
        task_path=tuple(row["task_path"]),
        instruction=row["instruction"],
        input=row["input"],
        output=row["output"],
        request=row.get("request"),
        more={name: value for name, value in row.items() if name not in OWN_COLUMNS},
    )


def _tasks(node: Node, above: tuple[str, ...], pruned: frozenset[str]) -> Iterator[Task]:
    path = (*above, node["name"])
    yield Task(
        id=node["id"],
        path=path,
        name=node["name"],
        reason=node["reason"],
        origin=node["origin"],
        depth=node["depth"],
        kept=node["kept"],
        dropped=node["dropped"],
        completions=node["answers"],
        is_exhausted=node["exhausted"],
        is_pruned=node["id"] in pruned,
        children=tuple(child["id"] for child in node["children"]),
        criterion=node.get("criterion", ""),
    )
    for child in node["children"]:
        yield from _tasks(child, path, pruned)


def _verdict(line: Mapping[str, Any], path: Path) -> Verdict:
    is_task = line["what"] == "task"
    text = line.get("name") if is_task else line.get("instruction", line.get("excerpt"))
    nearest = line.get("nearest")
    if "benchmark" in line:
        nearest = f"{line['benchmark']}, row {line.get('row')}"
    try:
        return Verdict(
            subject="task" if is_task else "example",
            id=line.get("id"),
            task_id=line.get("parent") if is_task else line["task_id"],
            kept=line["kept"],
            reason=line["reason"],
            text=text or "",
            score=line.get("score"),
            nearest=nearest,
            request=line.get("request"),
        )
    except KeyError as error:
        raise DataError(f"{path / 'decisions.jsonl'}: a line has no field {error}") from error
