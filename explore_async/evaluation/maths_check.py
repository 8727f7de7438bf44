"""The check that `maths_equality` asks. Its process loads math-verify with this module, before it is asked anything."""

from __future__ import annotations

import resource
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from explore_async.evaluation.maths_equality import UNDECIDED, equal

_MEMORY: Final = 4 << 30
"""Bytes of address space of each process."""


def bounded_equal(pair: Mapping[str, str]) -> tuple[bool, str]:
    """`equal` in a process with the limit of memory."""
    _limit_memory()
    try:
        return equal(pair["reference"], pair["text"]), ""
    except (TimeoutError, MemoryError, RecursionError):
        return False, UNDECIDED


@lru_cache(maxsize=1)
def _limit_memory() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = _MEMORY if hard == resource.RLIM_INFINITY else min(_MEMORY, hard)
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))


equal("1", "1")  # loads all that the first pair needs: the time for a pair is none for loading
