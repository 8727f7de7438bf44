"""Options that several commands have in common: their checks, and the default for their progress."""

from __future__ import annotations

from explore_async.errors import ConfigError
from rouge_kernels import TOKENIZERS, Tokenizer


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
