"""`explore-async export` and `sample`: examples of a run, or of a file, into what trainers read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from explore_async.curation.card import card
from explore_async.curation.conversion import parquet_schema
from explore_async.curation.fields import FieldError, text_of
from explore_async.curation.formats import Kind, format_of
from explore_async.curation.rows import Row, Source
from explore_async.curation.run_data import RunData, whole_rows
from explore_async.curation.sampling import CAP, METHODS, Method, sampled
from explore_async.curation.shapes import SHAPES
from explore_async.curation.writing import replacing, storing, writing
from explore_async.errors import ConfigError, DataError

_BATCH_ROWS = 4096
_ROWS_FILE = Path("data") / "train.parquet"
_CARD = "README.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """What is asked for. `out` without a suffix is a folder with Parquet and a card. `size` None takes all."""

    source: Path
    out: Path
    shape: str = "rows"
    size: int | None = None
    method: str = "proportional"
    cap: int = CAP
    seed: int = 0
    license_name: str = "other"


def export(asked: Export) -> int:
    """Writes the examples and returns how many; the files appear whole or not at all.

    ConfigError for what cannot be done, DataError for what is in the source, StorageError for what cannot be written.
    """
    shape = SHAPES.get(asked.shape)
    if shape is None:
        raise ConfigError(f"--format {asked.shape}: it is one of {', '.join(SHAPES)}")
    run, rows, source = _opened(asked.source)
    folder = not asked.out.suffix
    if folder and run is None:
        raise ConfigError(f"--out {asked.out}: a folder with a card is made of a run; give a file name for a file")
    target = asked.out / _ROWS_FILE if folder else asked.out
    kind = format_of(target).kind
    if kind is Kind.TEXT:
        raise ConfigError(f"--out {asked.out}: examples have several fields: .jsonl, .json or .parquet")
    chosen = None if asked.size is None else _chosen(asked, rows, source)
    schema = _schema(asked.shape, source, run) if kind is Kind.PARQUET else None
    outputs = [target, asked.out / _CARD] if folder else [target]
    with storing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    if asked.source.is_file() and target.exists() and target.samefile(asked.source):
        raise ConfigError(f"--out {asked.out}: it is the source")
    count = 0
    with replacing([path.resolve() for path in outputs]) as files:
        with writing(files[0], target, schema) as writer:
            shaped = _shaped(rows(), source, chosen, shape)
            while batch := list(islice(shaped, _BATCH_ROWS)):
                writer.write(batch)
                count += len(batch)
        if folder:
            assert run is not None
            how = "all that were kept" if asked.size is None else f"sampled {asked.method} (seed {asked.seed})"
            made = card(
                run,
                files=_ROWS_FILE.as_posix(),
                exported=count,
                shape=asked.shape,
                license_name=asked.license_name,
                how=how,
            )
            with storing(outputs[1]):
                files[1].write(made.encode())
    return count


def _opened(path: Path) -> tuple[RunData | None, Callable[[], Iterator[Row]], Source]:
    """The run, if it is one; its rows, as often as wanted; the file that they are in."""
    if path.is_dir():
        run = RunData.read(path)
        if not run.dataset.is_file():
            raise DataError(f"{run.dataset}: not there yet")
        return run, run.examples, Source(run.dataset)
    if not path.exists():
        raise DataError(f"{path}: there is no such run directory or file")
    source = Source(path)
    return None, lambda: whole_rows(source), source


def _chosen(asked: Export, rows: Callable[[], Iterator[Row]], source: Source) -> set[str]:
    method: Method | None = next((one for one in METHODS if one == asked.method), None)
    if method is None:
        raise ConfigError(f"--method {asked.method}: it is one of {', '.join(METHODS)}")
    assert asked.size is not None

    def pairs() -> Iterator[tuple[str, str]]:
        for row in rows():
            with _located(source, row):
                yield text_of(row.value, ["id"]), text_of(row.value, ["task_id"])

    return sampled(pairs(), asked.size, method, asked.seed, asked.cap)


def _shaped(
    rows: Iterator[Row], source: Source, chosen: set[str] | None, shape: Callable[[Any], dict[str, Any]]
) -> Iterator[Row]:
    for row in rows:
        if chosen is None or row.value["id"] in chosen:
            with _located(source, row):
                value = shape(row.value)
            yield Row(row.number, Kind.JSON_LINES, value, orjson.dumps(value))


@contextmanager
def _located(source: Source, row: Row) -> Iterator[None]:
    """A FieldError within becomes a DataError that names the row."""
    try:
        yield
    except FieldError as error:
        raise DataError(f"{source.place(row.number)}: {error}") from error


def _schema(shape: str, source: Source, run: RunData | None) -> Any:
    try:
        import pyarrow as pa
    except ImportError as error:
        raise ConfigError("Parquet needs pyarrow: pip install 'explore-async[parquet]'") from error
    string = pa.string()
    said = pa.list_(pa.struct({"role": string, "content": string}))
    columns: dict[str, dict[str, Any]] = {
        "alpaca": {"instruction": string, "input": string, "output": string},
        "sharegpt": {"id": string, "conversations": pa.list_(pa.struct({"from": string, "value": string}))},
        "messages": {"messages": said},
        "prompt-completion": {"prompt": said, "completion": said},
    }
    if shape in columns:
        return pa.schema(columns[shape])
    if run is None:
        return parquet_schema([source])
    names = ("id", "task_id", "task_path", "instruction", "input", "output", "request")
    return pa.schema({name: pa.list_(string) if name == "task_path" else string for name in names})
