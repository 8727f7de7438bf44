"""How every kernel here is compiled: on its first call, without the GIL, and kept on disk for the next process."""

import os
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba import njit

F = TypeVar("F", bound=Callable[..., object])
config: Any = numba.config


def _cache_folder() -> str:
    """Where the machine code of exactly these sources is kept; below `NUMBA_CACHE_DIR` or the user's cache folder.

    numba looks only at the file a kernel stands in to tell whether its machine code is stale, not at the kernels it
    calls, and fails on the code of an earlier version whose types are gone. So each state of the sources has a folder
    of its own, and so has each version of numba: two environments would throw away one another's code.
    """
    digest = blake2b(numba.__version__.encode(), digest_size=8)
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    above = config.CACHE_DIR or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return str(Path(above) / "rouge_kernels" / digest.hexdigest())


def jit(function: F) -> F:
    """`function` as a kernel. Where its machine code cannot be kept it is compiled anew in each process."""
    before = config.CACHE_DIR
    config.CACHE_DIR = _FOLDER
    try:
        return cast("F", njit(cache=True, nogil=True)(function))
    except (RuntimeError, OSError):  # "no locator available"
        return cast("F", njit(nogil=True)(function))
    finally:
        config.CACHE_DIR = before


try:
    _FOLDER = _cache_folder()
except (OSError, RuntimeError):  # no home, or sources within an archive: numba finds a place, or none
    _FOLDER = ""
