"""Checks before anything is written that rows of one format fit into another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from explore_async.curation.files.batching import batches
from explore_async.curation.files.formats import JSON, TABLES, Kind, format_of
from explore_async.curation.files.row import Row
from explore_async.curation.files.source import Source
from explore_async.errors import ConfigError, DataError

_ROWS_AT_ONCE = 4096


def check_conversion(sources: Sequence[Source], out: Path) -> None:
    """ConfigError where a row could not be written whole in the format of `out`."""
    kind = format_of(out).kind
    for source in sources:
        if kind is Kind.TEXT and source.format.kind is not Kind.TEXT:
            raise ConfigError(f"{out}: a line of text cannot hold a row of {source.path}; write .jsonl")
        if kind in TABLES and source.format.kind not in {*TABLES, Kind.TEXT}:
            raise ConfigError(f"{out}: {kind.value} holds nothing but texts, not a row of {source.path}; write .jsonl")
        if kind in JSON and source.format.kind is Kind.PARQUET:
            from explore_async.curation.files import parquet

            if column := parquet.unlike_json(parquet.schema_of(source.path)):
                raise ConfigError(f"{out}: JSON has no form for column {column} of {source.path}; write .parquet")


def columns_of(sources: Sequence[Source]) -> list[str]:
    """The columns of all tables and texts, in order; reads the first row of each."""
    first = (next((row.value for row in source if isinstance(row, Row)), {}) for source in sources)
    return list(dict.fromkeys(name for row in first for name in row))


def parquet_schema(sources: Sequence[Source]) -> Any:
    """The Arrow schema that holds every row: as Parquet declares it, or by reading all rows of other formats.

    Numbers of several types are widened only with other formats. DataError where no type holds all values of a column.
    """
    from explore_async.curation.files import parquet

    widen = any(source.format.kind is not Kind.PARQUET for source in sources)
    schema = None
    for source in sources:
        if source.format.kind is Kind.PARQUET:
            part = parquet.schema_of(source.path)
            with parquet.arrow_faults(source.path):
                schema = part if schema is None else parquet.common_schema(schema, part, widen=widen)
            continue
        rows = (row for row in source if isinstance(row, Row))
        for batch in batches(rows, _ROWS_AT_ONCE, Row.size):
            try:
                schema = parquet.schema_with(schema, [row.value for row in batch], widen=widen)
            except parquet.MisfitError as error:
                raise DataError(f"{source.place(batch[error.place].number)}: {error}") from error
    return parquet.schema_of_values([]) if schema is None else schema
