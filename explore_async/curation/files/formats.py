"""The formats of files of rows; the name of a file gives its format."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Literal, TypeAlias

from explore_async.errors import ConfigError


class Kind(Enum):
    """The layout of rows in a file; the value is its name in messages."""

    JSON_LINES = "JSON lines"
    JSON_LIST = "a JSON list"
    PARQUET = "Parquet"
    TEXT = "text"
    CSV = "CSV"
    TSV = "TSV"


Compression: TypeAlias = Literal["gzip", "zstd"]
JSON = (Kind.JSON_LINES, Kind.JSON_LIST)
TABLES = (Kind.CSV, Kind.TSV)

_KINDS = {
    ".jsonl": Kind.JSON_LINES,
    ".ndjson": Kind.JSON_LINES,
    ".json": Kind.JSON_LIST,
    ".parquet": Kind.PARQUET,
    ".txt": Kind.TEXT,
    ".csv": Kind.CSV,
    ".tsv": Kind.TSV,
}
_COMPRESSIONS: dict[str, Compression] = {".gz": "gzip", ".zst": "zstd"}


@dataclass(frozen=True, slots=True)
class Format:
    kind: Kind
    compression: Compression | None = None


def format_of(path: Path) -> Format:
    """The format that the name gives; ConfigError where it gives no format."""
    name = path.name.lower()
    compression = next((end for end in _COMPRESSIONS if name.endswith(end)), "")
    kind = _KINDS.get(Path(name.removesuffix(compression)).suffix)
    if kind is None or (compression and kind is Kind.PARQUET):
        raise ConfigError(
            f"{path}: the name tells the format: .jsonl, .ndjson, .json, .csv, .tsv or .txt, each also with .gz or "
            ".zst, or .parquet; the file of a run is its dataset.jsonl"
        )
    return Format(kind, _COMPRESSIONS.get(compression))
