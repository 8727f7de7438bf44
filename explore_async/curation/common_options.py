"""Options that several commands have in common: their checks, and the default for their progress."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeAlias

from explore_async.config.given import as_list
from explore_async.errors import ConfigError
from explore_async.storage.places import place
from rouge_kernels import TOKENIZERS, Tokenizer

Paths: TypeAlias = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
"""One path, or several."""


def as_paths(paths: Paths) -> list[Path]:
    """The paths as a list, of one where a single path is given."""
    return [place(paths)] if isinstance(paths, str | os.PathLike) else [place(path) for path in paths]


def as_names(names: str | Iterable[str], option: str) -> tuple[str, ...]:
    """The names as a tuple, of one where a single name is given. Raises ConfigError, with the option, for none."""
    if not (given := tuple(as_list(names))):
        raise ConfigError(f"{option}: give at least one")
    return given


def fields_of_files(names: Sequence[str], paths: Sequence[Path], option: str) -> list[tuple[str, ...]]:
    """The fields of each file: those that are named for it as FILE=FIELD, else those that are named for all files.

    FILE is the path or the name of the file. Raises ConfigError, with the option, where a file is left without a field.
    """
    for_all = not_for_one(names, paths)
    found = []
    for path in paths:
        own = [field for name in names if (field := _names_file(name, path)) is not None]
        if not own and not for_all:
            raise ConfigError(f"{option}: no field for {path}; give {option} FIELD for all files, or {path.name}=FIELD")
        found.append(tuple(own or for_all))
    return found


def not_for_one(names: Sequence[str], paths: Sequence[Path]) -> list[str]:
    """The names of fields that are not given for one of these files alone."""
    return [name for name in names if not any(_names_file(name, path) for path in paths)]


def _names_file(name: str, path: Path) -> str | None:
    """The field that `name` gives for this file; None where it gives none."""
    for file in (str(path), path.name):
        if name.startswith(f"{file}=") and len(name) > len(file) + 1:
            return name.removeprefix(f"{file}=")
    return None


def nothing_to_compare(path: Path, rows: int, fields: Sequence[str], tokenizer: str, option: str) -> str:
    """The message about a file of known texts none of which can be compared, so that everything would pass."""
    if not rows:
        return f"{path}: it has no rows"
    return (
        f"{path}: none of its {rows:,} rows has a text to compare in {', '.join(fields)} ({option} names the field, "
        f"--tokenizer the letters that count: {tokenizer} here)"
    )


def check_threshold(threshold: float, option: str = "--threshold") -> None:
    if not 0 < threshold <= 1:
        raise ConfigError(f"{option} {threshold}: it must be above 0 and at most 1")


def tokenizer_named(name: str) -> Tokenizer:
    """Raises ConfigError where there is no tokenizer of this name."""
    tokenizer = TOKENIZERS.get(name)
    if tokenizer is None:
        raise ConfigError(f"--tokenizer {name}: it must be one of {', '.join(TOKENIZERS)}")
    return tokenizer


def silent(_count: int) -> None:
    """Shows no progress."""
