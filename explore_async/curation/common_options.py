"""Options that several commands have in common: their checks, and the default for their progress."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

from explore_async.errors import ConfigError
from rouge_kernels import TOKENIZERS, Tokenizer

Paths: TypeAlias = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
"""One path, or several."""


def as_paths(paths: Paths) -> list[Path]:
    """The paths as a list, of one where a single path is given."""
    return [Path(paths)] if isinstance(paths, str | os.PathLike) else [Path(path) for path in paths]


def as_names(names: str | Iterable[str], option: str) -> tuple[str, ...]:
    """The names as a tuple, of one where a single name is given. Raises ConfigError, with the option, for none."""
    listed = (names,) if isinstance(names, str) else tuple(names)
    if not listed:
        raise ConfigError(f"{option}: give at least one")
    return listed


def check_threshold(threshold: float) -> None:
    if not 0 < threshold <= 1:
        raise ConfigError(f"--threshold {threshold}: it must be above 0 and at most 1")


def tokenizer_named(name: str) -> Tokenizer:
    """Raises ConfigError where there is no tokenizer of this name."""
    tokenizer = TOKENIZERS.get(name)
    if tokenizer is None:
        raise ConfigError(f"--tokenizer {name}: it must be one of {', '.join(TOKENIZERS)}")
    return tokenizer


def silent(_count: int) -> None:
    """Shows no progress."""
