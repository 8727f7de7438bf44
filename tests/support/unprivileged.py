"""Commands for which permissions count, also when root runs the tests: what the owner may not do fails."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

from support.cli import environment

_DROP_FROM_BOUNDING_SET = 24
_OVERRIDES = (1, 2)
"""CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH."""
_libc = ctypes.CDLL(None)


def drop_override() -> None:
    """Drops the rights of root over files. For the moment before a child's exec; changes nothing for other users."""
    for capability in _OVERRIDES:
        _libc.prctl(_DROP_FROM_BOUNDING_SET, capability, 0, 0, 0)


def without_override(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "explore_async", *map(str, arguments)]
    return subprocess.run(
        command, env=environment(), preexec_fn=drop_override, capture_output=True, text=True, check=False
    )
