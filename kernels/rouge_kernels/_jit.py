"""The compiler of every kernel here: on the first call, without the GIL, with a cache on disk for the next process."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba import njit
from numba.core.event import Event, Listener, install_listener

F = TypeVar("F", bound=Callable[..., object])
config: Any = numba.config


def _cache_folder() -> str:
    """The cache folder for exactly these sources, below `NUMBA_CACHE_DIR` or the user's cache folder.

    numba checks only the file of a kernel to decide that its machine code is stale, not the kernels that it calls, and
    it fails on the code of an earlier version whose types no longer exist. So each state of the sources has its own
    folder. Each version of numba has its own, too: otherwise two environments would delete each other's code.
    """
    digest = blake2b(numba.__version__.encode(), digest_size=8)
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    above = config.CACHE_DIR or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return str(Path(above) / "rouge_kernels" / digest.hexdigest())


class _Compilations(Listener):
    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell: Callable[[], None] | None = tell

    def on_start(self, event: Event) -> None:  # noqa: ARG002 - numba calls it
        if (tell := self._tell) is not None:
            self._tell = None
            tell()

    def on_end(self, event: Event) -> None:
        """The kernel is compiled."""


@contextmanager
def compilation_told(tell: Callable[[], None]) -> Iterator[None]:
    """Calls `tell` when a kernel is compiled in the block, before the first one; not where all come from the cache."""
    with install_listener("numba:compile", _Compilations(tell)):
        yield


def jit(function: F) -> F:
    """`function` as a kernel. If no folder can be written for its machine code, each process compiles it again."""
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
except (OSError, RuntimeError):  # no home, or sources in an archive: numba chooses a folder, if it can
    _FOLDER = ""
