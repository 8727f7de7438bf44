"""Parquet, through pyarrow, which only users of Parquet need."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import IO, Any

from explore_async.curation.files.batching import MOST_CHARACTERS
from explore_async.curation.files.fields import FieldError
from explore_async.curation.files.row import Row, reading
from explore_async.errors import ConfigError, DataError

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError as missing:
    raise ConfigError("Parquet needs pyarrow: pip install 'explore-async[parquet]'") from missing

_ROWS_AT_ONCE = 4096
_ROW_GROUP_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Record(Mapping[str, Any]):
    """A row of a batch. A column becomes a Python value when it is read; FieldError where Python has no such value, as
    for a year beyond 9999.
    """

    batch: pa.RecordBatch
    position: int
    nbytes: int
    """Its share of the memory of the batch."""

    def __getitem__(self, column: str) -> Any:
        values = self.batch.column(column)
        try:
            return values[self.position].as_py()
        except (ValueError, OverflowError) as error:
            raise FieldError(f"field {column}: {' '.join(str(error).split())}") from error

    def __iter__(self) -> Iterator[str]:
        return iter(self.batch.schema.names)

    def __len__(self) -> int:
        return int(self.batch.num_columns)


def records(file: IO[bytes], path: Path) -> Iterator[Record]:
    """The rows of an open file. Every value is checked before it is read: a damaged file would crash Arrow, which
    checks nothing.
    """
    with arrow_faults(path):
        parquet = pq.ParquetFile(file)
        _check_names(parquet.schema_arrow, path)
        for batch in parquet.iter_batches(_rows_at_once(parquet.metadata)):
            batch.validate(full=True)
            share = batch.nbytes // max(1, batch.num_rows)
            for position in range(batch.num_rows):
                yield Record(batch, position, share)


def _rows_at_once(metadata: pq.FileMetaData) -> int:
    """Fewer rows where they are long."""
    total = sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))
    return max(1, min(_ROWS_AT_ONCE, MOST_CHARACTERS * int(metadata.num_rows) // max(1, int(total))))


def schema_of(path: Path) -> pa.Schema:
    with reading(path), path.open("rb") as file, arrow_faults(path):
        schema = pq.read_schema(file)
    _check_names(schema, path)
    return schema


def _check_names(schema: pa.Schema, path: Path) -> None:
    names = schema.names
    twice = next((name for number, name in enumerate(names) if name in names[:number]), None)
    if twice is not None:
        raise DataError(f"{path}: two columns are called {twice!r}; rename one")


@contextmanager
def arrow_faults(path: Path) -> Iterator[None]:
    """Turns errors of Arrow, which cannot read or represent something, into DataErrors that name the file."""
    try:
        yield
    except (pa.ArrowException, OverflowError, UnicodeDecodeError) as error:
        # OverflowError for whole numbers of more than 63 bits, UnicodeDecodeError for names of columns
        raise DataError(f"{path}: {' '.join(str(error).split())}") from error


def unlike_json(schema: pa.Schema) -> str:
    """The first column with values that JSON has no form for, and its type; empty if there is none."""
    return next((f"{field.name} ({field.type})" for field in schema if not _in_json(field.type)), "")


_WITHOUT_JSON = (
    pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary, pa.types.is_binary_view,
    pa.types.is_duration, pa.types.is_interval, pa.types.is_decimal,
)  # fmt: skip


def _in_json(kind: pa.DataType) -> bool:
    types = pa.types
    if types.is_dictionary(kind) or types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _in_json(kind.value_type)
    if types.is_struct(kind):
        return all(_in_json(field.type) for field in kind)
    return any(
        is_type(kind)
        for is_type in (
            types.is_null, types.is_boolean, types.is_integer, types.is_floating,
            types.is_string, types.is_large_string, types.is_string_view,
        )
    )  # fmt: skip


def columns_without_json(schema: pa.Schema) -> dict[str, str]:
    """The columns whose values cannot be written as JSON, each with its type: bytes, spans of time, and decimals within
    lists or objects. A decimal of its own column can be its text.
    """
    return {
        field.name: str(field.type)
        for field in schema
        if _is_any_of(field.type, _WITHOUT_JSON) and not pa.types.is_decimal(field.type)
    }


def _is_any_of(kind: pa.DataType, are: Sequence[Callable[[pa.DataType], bool]]) -> bool:
    """True for a type, or a type within it, of which one of the functions is true."""
    if isinstance(kind, pa.DictionaryType):
        return _is_any_of(kind.value_type, are)
    inner = [kind.field(number).type for number in range(kind.num_fields)]
    return any(is_it(kind) for is_it in are) or any(_is_any_of(one, are) for one in inner)


def schema_of_values(values: Sequence[Mapping[str, Any]]) -> pa.Schema:
    """The columns of these rows in the order of their first use, each with the narrowest type for all its values."""
    names = dict.fromkeys(name for value in values for name in value)
    rows = pa.array(values).type  # a struct, its fields in another order
    return pa.schema([rows.field(name) for name in names])


class MisfitError(Exception):
    """A row has a value of a type that no type of Parquet has in common with the values before it.

    `place`: that of the row, from 0, among those that were to be added. The message names the column and the fault.
    """

    def __init__(self, message: str, place: int) -> None:
        super().__init__(message)
        self.place = place


def schema_with(schema: pa.Schema | None, values: Sequence[Mapping[str, Any]], *, widen: bool) -> pa.Schema:
    """The schema of these rows and of those before them, whose `schema` is None where there are none. Raises
    MisfitError. For `widen` see `common_schema`.
    """
    try:
        own = schema_of_values(values)
        return own if schema is None else common_schema(schema, own, widen=widen)
    except (pa.ArrowException, OverflowError) as error:
        raise _misfit(schema, values, error, widen=widen) from error


def _misfit(
    schema: pa.Schema | None, values: Sequence[Mapping[str, Any]], fault: Exception, *, widen: bool
) -> MisfitError:
    """The first value that does not fit, found one by one. `fault`: that of all of them together."""
    known = {} if schema is None else {field.name: pa.schema([field]) for field in schema}
    for place, value in enumerate(values):
        for name, one in value.items():
            try:
                own = pa.schema({name: pa.array([one]).type})
                known[name] = common_schema(known.get(name, own), own, widen=widen)
            except (pa.ArrowException, OverflowError) as error:
                return MisfitError(_in_words(name, error), place)
    return MisfitError(_in_words("", fault), len(values) - 1)


def _in_words(column: str, fault: Exception) -> str:
    of_column = f"column {column}: " if column else ""
    return f"{of_column}{' '.join(str(fault).split())}; a column of Parquet has one type, .jsonl holds any"


def common_schema(schema: pa.Schema, other: pa.Schema, *, widen: bool) -> pa.Schema:
    """The columns of both. With `widen`, numbers of two types get the wider type; no other types are reconciled."""
    return pa.unify_schemas([schema, other], promote_options="permissive" if widen else "default")


class ParquetWriter:
    """Writes rows in row groups of about 64 MiB. Rows from Parquet never become Python values, so their types stay."""

    def __init__(self, file: IO[bytes], path: Path, schema: pa.Schema) -> None:
        self._path = path
        self._schema = schema
        self._tables: list[pa.Table] = []
        with arrow_faults(path):
            self._writer = pq.ParquetWriter(file, schema)

    def write(self, rows: Sequence[Row]) -> None:
        with arrow_faults(self._path):
            self._tables += [self._table(list(run)) for _, run in groupby(rows, key=_batch_of)]
            if sum(table.nbytes for table in self._tables) >= _ROW_GROUP_BYTES:
                self._flush()

    def close(self) -> None:
        with arrow_faults(self._path):
            self._flush()
            self._writer.close()

    def _table(self, rows: Sequence[Row]) -> pa.Table:
        """Rows of one batch, or rows that are from no batch, in the schema."""
        records = [row.value for row in rows if isinstance(row.value, Record)]
        if not records:
            return pa.Table.from_pylist([row.value for row in rows], schema=self._schema)
        positions = pa.array([record.position for record in records])
        taken = pa.Table.from_batches([records[0].batch.take(positions)])
        if taken.schema == self._schema:
            return taken
        return pa.concat_tables([self._schema.empty_table(), taken], promote_options="permissive")

    def _flush(self) -> None:
        if self._tables:
            self._writer.write_table(pa.concat_tables(self._tables))
            self._tables = []


def _batch_of(row: Row) -> int:
    return id(row.value.batch) if isinstance(row.value, Record) else 0
