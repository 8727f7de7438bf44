"""A file of instructions from elsewhere as a collection: its tree is a root, or has a task for each value of a
column. A file that was exported from a run keeps its ids and its tree.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any

from explore_async.curation.collections.collection import (
    DEEPEST,
    OWN_COLUMNS,
    TASK_ID,
    ExampleRow,
    ForeignCollection,
    Node,
    new_node,
    printable_path,
    recount,
)
from explore_async.curation.collections.columns import TASK, Exchange, exchange_of, make_reader
from explore_async.curation.files.fields import FieldError, field_of
from explore_async.curation.files.formats import Kind
from explore_async.curation.files.row import BadRow, Row
from explore_async.curation.files.source import Source
from explore_async.errors import DataError

_TASK_ID = re.compile(TASK_ID)
_THEIRS = "imported"
_FAULTS_NAMED = 10
_COLUMNS_NAMED = 8


@dataclass
class PlainFile(ForeignCollection):
    """Reads such a file. `columns` maps our names to those of the file. A bad row ends the reading, unless bad rows are
    skipped.
    """

    path: Path
    columns: Mapping[str, str] = field(default_factory=dict)
    skip_bad_rows: bool = False
    staying: Collection[str] = ()
    """Columns that the command uses by their names: they stay in a row though they are its instruction, input or
    output, and no note names them.
    """
    _bad_rows: int = field(default=0, init=False)
    _faults: list[str] = field(default_factory=list, init=False)
    _unused: Counter[str] = field(default_factory=Counter, init=False)
    """Rows with a text in a column that is in no prompt and no answer, by column."""

    @property
    def bad_rows(self) -> int:
        return self._bad_rows

    @property
    def read_as(self) -> str | None:
        left_out = ", ".join(f"{name} ({kind})" for name, kind in self._left_out.items())
        note = f"{self.path}: left out, as JSON has no form for their values: {left_out}" if left_out else None
        return "; ".join(filter(None, (self._source.note, note))) or None

    @property
    def numbers_rows(self) -> bool:  # type: ignore[override]
        return not self._exported

    @property
    def notes(self) -> list[str]:
        notes = [] if self.read_as is None else [self.read_as]
        notes += [f"skipped: {fault}" for fault in self._faults]
        if self._bad_rows > len(self._faults):
            notes.append(f"… and {self._bad_rows - len(self._faults):,} more")
        if self._unused:
            named = ", ".join(
                f"{name or 'one without a name'} ({rows:,})" for name, rows in self._unused.most_common(_COLUMNS_NAMED)
            )
            more = ", …" if len(self._unused) > _COLUMNS_NAMED else ""
            notes.append(
                f"columns with text that is in no prompt and no answer, with the number of rows: {named}{more}; "
                "--column input=NAME makes one the input"
            )
        return notes

    @property
    def name(self) -> str:
        return printable_path(self.path.name.partition(".")[0] or self.path.name)

    @cached_property
    def _source(self) -> Source:
        return Source(self.path, text_column="instruction")

    @cached_property
    def _left_out(self) -> Mapping[str, str]:
        """Columns of Parquet whose values JSON has no form for, each with its type."""
        if self._source.format.kind is not Kind.PARQUET:
            return {}
        from explore_async.curation.files import parquet

        return parquet.columns_without_json(parquet.schema_of(self.path))

    @cached_property
    def _exported(self) -> bool:
        """True when its rows have the ids and paths of our tasks."""
        if self.columns:
            return False
        first = next((row for row in self._source if isinstance(row, Row)), None)
        return first is not None and _is_placed(first.value)

    @cached_property
    def _tasks(self) -> dict[str, str]:
        """Task ids by the values of the task column, in order of their first row."""
        return {}

    @cached_property
    def _counted(self) -> list[dict[str, Any]]:
        kept: Counter[str] = Counter()
        roots: dict[str, dict[str, Any]] = {} if self._exported else {"0": new_node("0", self.name)}
        nodes = dict(roots)
        for example in self.examples():
            kept[example["task_id"]] += 1
            if example["task_id"] not in nodes:
                _grow(roots, nodes, example["task_id"], example["task_path"])
        return [recount(root, kept, {}) for root in roots.values()] or [new_node("0", self.name)]

    def trees(self) -> list[Node]:
        return list(self._counted)

    def examples(self) -> Iterator[ExampleRow]:
        read = make_reader(self.columns)
        self._tasks.clear()
        self._bad_rows = 0
        self._faults.clear()
        self._unused.clear()
        seen: set[str] = set()
        for row in self._source:
            try:
                example = self._example(row, read)
                if self._exported:
                    _check_new(example["id"], seen)
            except FieldError as error:
                fault = f"{self._source.place(row.number)}: {error}"
                if not self.skip_bad_rows:
                    raise DataError(
                        f"{fault} (`import --on-bad-row skip` goes on without such rows; in Python, skip_bad_rows)"
                    ) from error
                self._bad_rows += 1
                if len(self._faults) < _FAULTS_NAMED:
                    self._faults.append(fault)
            else:
                yield example

    def _example(self, row: Row | BadRow, read: Callable[[Mapping[str, Any]], Exchange]) -> ExampleRow:
        if isinstance(row, BadRow):
            raise FieldError(row.fault)
        if row.kind is Kind.PARQUET:
            value = {name: _in_json(row.value[name]) for name in row.value if name not in self._left_out}
            row = row._replace(value=value)
        is_ours = self._exported and "instruction" in row.value and "output" in row.value
        exchange = exchange_of(row.value) if is_ours else read(row.value)
        self._unused.update(name for name in exchange.unused if name not in self.staying)
        texts = {"instruction": exchange.instruction, "input": exchange.input, "output": exchange.output}
        if self._exported:
            if not _is_placed(row.value):
                raise FieldError(
                    "the first row has id, task_id and task_path, but here one is missing or does not match the others"
                )
            places = {name: row.value[name] for name in ("id", "task_id", "task_path")}
            return {**places, **texts, **{k: v for k, v in exchange.rest.items() if k not in places}}
        task_id, path = self._place(row.value)
        clashing = {key: exchange.rest[key] for key in (*OWN_COLUMNS, _THEIRS) if key in exchange.rest}
        rest = {**{name: row.value[name] for name in self.staying if name in row.value}, **exchange.rest}
        more = {key: value for key, value in rest.items() if key not in OWN_COLUMNS and key != _THEIRS}
        return {
            "id": f"{task_id}-{row.number - 1}",
            "task_id": task_id,
            "task_path": path,
            **texts,
            **more,
            **({_THEIRS: clashing} if clashing else {}),
        }

    def _place(self, row: Mapping[str, Any]) -> tuple[str, list[str]]:
        column = self.columns.get(TASK)
        if column is None:
            return "0", [self.name]
        value = field_of(row, column)
        if not isinstance(value, str | int | None):
            raise FieldError(f"field {column} is not a text, and so not a task")
        name = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value).strip()
        if not name:
            return "0", [self.name]
        task_id = self._tasks.setdefault(name, f"0.{len(self._tasks)}")
        return task_id, [self.name, name]


def _in_json(value: Any) -> Any:
    """A decimal as its text; all else is as it is."""
    return f"{value:f}" if isinstance(value, Decimal) else value


def _check_new(example_id: str, seen: set[str]) -> None:
    if example_id in seen:
        raise FieldError(f"the id {example_id!r} is there twice")
    seen.add(example_id)


def _is_placed(row: Mapping[str, Any]) -> bool:
    try:
        example_id, task_id, path = (row.get(name) for name in ("id", "task_id", "task_path"))
    except FieldError:  # a value of Parquet that Python has no form for
        return False
    return (
        isinstance(example_id, str)
        and isinstance(task_id, str)
        and _TASK_ID.fullmatch(task_id) is not None
        and isinstance(path, list)
        and len(path) == task_id.count(".") + 1 <= DEEPEST
        and all(isinstance(name, str) for name in path)
    )


def _grow(roots: dict[str, dict[str, Any]], nodes: dict[str, dict[str, Any]], task_id: str, path: list[str]) -> None:
    """The task's node, and those above it that are not there yet."""
    steps = task_id.split(".")
    for depth, name in enumerate(path):
        step_id = ".".join(steps[: depth + 1])
        if step_id not in nodes:
            nodes[step_id] = new_node(step_id, name)
            if depth == 0:
                roots[step_id] = nodes[step_id]
            else:
                nodes[".".join(steps[:depth])]["children"].append(nodes[step_id])
