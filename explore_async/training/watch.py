"""What a training tells those who watch it, and what it asks of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """The functions that a training calls."""

    say: Callable[[str], None]
    progress: Callable[[str, int, int], None]
    """The state in words, the steps done, and all steps."""
    is_stopping: Callable[[], bool]
