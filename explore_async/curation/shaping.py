"""Rows of an export: examples in a shape of trainers, what the shape loses of them, and their types in Parquet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from explore_async.curation.collections.collection import OWN_COLUMNS, Collection, ExampleRow, Marks
from explore_async.curation.collections.conversations import REASONING
from explore_async.curation.collections.marks import MARK_COLUMNS, with_mark
from explore_async.curation.files.batching import batches, characters_in
from explore_async.curation.files.fields import FieldError
from explore_async.curation.files.formats import Kind
from explore_async.curation.files.row import Row
from explore_async.curation.selection import BATCH
from explore_async.curation.several_answers import other_answers
from explore_async.curation.trainer_formats import PAIRS, Shape, calls_as_text, is_cut
from explore_async.errors import ConfigError, DataError
from explore_async.exploration.scores import ScoreCounts

_PLAIN: Final = {
    *("meaning", "name", "description", "seed", "model", "models", "domains", "against", "language", "answer_format"),
    *("exploration", "generation", "targets", "filters", "sampling", "extra_body", "prompts", "window", "lag"),
}
_PLAIN_DOMAIN: Final = {"name", "description", "tasks", "examples", "topics", "styles"}
"""Settings that give rows no columns. A recipe leaves newer ones out where they have their default."""


@dataclass(slots=True)
class Losses:
    """Examples so far that the file holds in part, that have no answer, that have several, that make no pair
    of answers, that have reasoning, and the scores of a judge.
    """

    cut: int = 0
    unanswered: int = 0
    more_answers: int = 0
    unpaired: int = 0
    reasoning: int = 0
    scores: ScoreCounts = field(default_factory=ScoreCounts)


def noticed(examples: Iterator[ExampleRow], source: Collection, shape: str, losses: Losses) -> Iterator[ExampleRow]:
    """The same examples; what the shape loses of them is counted in `losses`."""
    for example in examples:
        yield example  # one that cannot be read ends the export before it is counted
        losses.cut += is_cut(shape, example)
        losses.unanswered += not example["output"].strip()
        losses.more_answers += shape not in {"rows", *PAIRS} and bool(other_answers(example, source))
        losses.scores.take(example.get("scores"))
        losses.reasoning += REASONING in example


def shaped(examples: Iterator[ExampleRow], source: Collection, shape: Shape, kind: Kind) -> Iterator[Row]:
    """Examples as rows of this kind of file. Raises DataError where the shape cannot hold one."""
    for number, example in enumerate(examples, start=1):
        try:
            value = shape(example)
            value = calls_as_text(value) if kind is Kind.PARQUET else value
            yield Row(number, Kind.JSON_LINES, value, orjson.dumps(value))
        except (FieldError, TypeError) as error:
            raise DataError(f"{source.path}, example {example['id']}: {error}") from error


def kept_columns(source: Collection, keep: Sequence[str]) -> tuple[str, ...]:
    """The columns to keep. Raises ConfigError for one that no example has."""
    missing = set(keep) - {*OWN_COLUMNS, *MARK_COLUMNS}
    seen: dict[str, None] = dict.fromkeys(OWN_COLUMNS)
    if missing:
        for example in source.examples():
            seen |= dict.fromkeys(example)
            if not (missing := missing - example.keys()):
                break
    if missing:
        raise ConfigError(f"--keep {min(missing)}: no example has this column; there are {', '.join(seen)}")
    return tuple(dict.fromkeys(keep))


def with_more(shape: Shape, keep: Sequence[str], marks: Marks) -> Shape:
    """The shape with the columns to keep and the marks beside it."""
    if not keep and not marks:
        return shape

    def shape_with_more(example: Mapping[str, Any]) -> dict[str, Any]:
        marked = with_mark(dict(example), marks) if marks else example
        return {**{name: marked.get(name) for name in keep}, **shape(marked)}

    return shape_with_more


def flat_columns(source: Collection, rows: Iterator[Row], path: Path, keep: Sequence[str]) -> list[str]:
    """The columns of rows that a table can hold. Raises DataError, with the number of rows, where it cannot. `keep`:
    columns that the user named beside those of the format.
    """
    columns: dict[str, None] = {}
    nested: Counter[str] = Counter()
    for row in rows:
        columns |= dict.fromkeys(row.value)
        nested.update(name for name, value in row.value.items() if isinstance(value, list | dict))
    if nested:
        found = ", ".join(f"{name} ({count:,} rows)" for name, count in nested.most_common())
        named = [f"--keep {name}" for name in keep if name in nested]
        flat = ["take a flat format (--format alpaca)"] if nested.keys() - {*keep} else []
        advice = " and ".join([*flat, *([f"leave out {', '.join(named)}"] if named else [])])
        raise DataError(
            f"{path}: a table holds no lists and no objects, and there are some in {found} of {source.path}; "
            f"write .jsonl, or {advice}"
        )
    return list(columns)


def schema_of(
    name: str,
    source: Collection,
    examples: Iterator[ExampleRow],
    shape: Shape,
    keep: Sequence[str] = (),
    *,
    reasoning: bool = False,
) -> Any:
    """The Arrow schema of examples of the source in this shape, with the columns to `keep`, with reasoning or without;
    by reading all of them unless they are known to have our own columns alone.
    """
    try:
        import pyarrow as pa
    except ImportError as error:
        raise ConfigError("Parquet needs pyarrow: pip install 'explore-async[parquet]'") from error
    string = pa.string()
    more = {REASONING: string} if reasoning else {}
    messages = pa.list_(pa.struct({"role": string, "content": string, **more}))
    said = pa.struct({"from": string, "value": string})
    columns: dict[str, dict[str, Any]] = {
        "alpaca": {"instruction": string, "input": string, "output": string},
        "sharegpt": {"id": string, "conversations": pa.list_(said)},
        "messages": {"messages": messages},
        "prompt-completion": {"prompt": messages, "completion": messages},
        "preference": {"prompt": messages, "chosen": messages, "rejected": messages},
        "preference-sharegpt": {"id": string, "conversations": pa.list_(said), "chosen": said, "rejected": said},
        "kto": {"prompt": messages, "completion": messages, "label": pa.bool_()},
    }
    ours = {name: pa.list_(string) if name == "task_path" else string for name in (*OWN_COLUMNS, *MARK_COLUMNS)}
    if source.is_run:
        columns["rows"] = {**{name: ours[name] for name in OWN_COLUMNS}, **more}
        if source.marks:
            columns["rows"] |= {name: ours[name] for name in MARK_COLUMNS}
    kept = {name: ours[name] for name in keep if name in ours}
    known = pa.schema({**kept, **columns[name]}) if name in columns else None
    if known is not None and len(kept) == len(keep) and source.is_run and _has_plain_rows(source):
        return known
    from explore_async.curation.files import parquet

    schema = None
    for batch in batches(examples, BATCH, characters_in):
        values = [row.value for row in shaped(iter(batch), source, shape, Kind.PARQUET)]
        try:
            schema = parquet.schema_with(schema, values, widen=True)
        except parquet.MisfitError as error:
            raise DataError(f"{source.path}, example {batch[error.place]['id']}: {error}") from error
    expected = pa.schema(more) if known is None else known
    with suppress(pa.ArrowException):  # contents that are lists of parts
        return expected if schema is None else parquet.common_schema(expected, schema, widen=True)
    return schema


def _has_plain_rows(run: Collection) -> bool:
    """True where the rows of the run have its own columns and no others."""
    recipe = run.recipe
    return recipe.keys() <= _PLAIN and all(domain.keys() <= _PLAIN_DOMAIN for domain in recipe.get("domains", ()))
