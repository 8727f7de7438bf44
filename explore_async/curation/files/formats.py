"""The formats of files of rows, told by their names."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from explore_async.errors import ConfigError


class Kind(Enum):
    """How rows stand in a file; the value is how messages call it."""

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
    """The format that the name promises; ConfigError where it promises none."""
    name = path.name.lower()
    gzipped = name.endswith(".gz")
    kind = _KINDS.get(Path(name.removesuffix(".gz")).suffix)
    if kind is None or (gzipped and kind is Kind.PARQUET):
        raise ConfigError(
            f"{path}: the name tells the format: .jsonl, .ndjson, .json or .txt, each also with .gz, or .parquet"
        )
    return Format(kind, gzipped)
