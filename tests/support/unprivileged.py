"""Commands for which permissions count, whoever runs the tests: root, too, is refused what the owner may not do."""

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
    """Before the exec of a child. Without root there is nothing to drop, and it changes nothing."""
    for capability in _OVERRIDES:
        _libc.prctl(_DROP_FROM_BOUNDING_SET, capability, 0, 0, 0)


def without_override(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "explore_async", *map(str, arguments)]
    return subprocess.run(
        command, env=environment(), preexec_fn=drop_override, capture_output=True, text=True, check=False
    )
