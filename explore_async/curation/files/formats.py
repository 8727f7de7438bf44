"""The formats of files of rows; the name of a file gives its format."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from explore_async.errors import ConfigError


class Kind(Enum):
    """The layout of rows in a file; the value is its name in messages."""

    JSON_LINES = "JSON lines"
    JSON_LIST = "a JSON list"
    PARQUET = "Parquet"
    TEXT = "text"


JSON = (Kind.JSON_LINES, Kind.JSON_LIST)

_KINDS = {
    ".jsonl": Kind.JSON_LINES,
    ".ndjson": Kind.JSON_LINES,
    ".json": Kind.JSON_LIST,
    ".parquet": Kind.PARQUET,
    ".txt": Kind.TEXT,
}


@dataclass(frozen=True, slots=True)
class Format:
    kind: Kind
    gzipped: bool


def format_of(path: Path) -> Format:
    """The format that the name gives; ConfigError where it gives no format."""
    name = path.name.lower()
    gzipped = name.endswith(".gz")
    kind = _KINDS.get(Path(name.removesuffix(".gz")).suffix)
    if kind is None or (gzipped and kind is Kind.PARQUET):
        raise ConfigError(
            f"{path}: the name tells the format: .jsonl, .ndjson, .json or .txt, each also with .gz, or .parquet"
        )
    return Format(kind, gzipped)
