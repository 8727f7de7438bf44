"""How every kernel here is compiled: on its first call, without the GIL, and kept on disk for the next process."""

from collections.abc import Callable
from typing import TypeVar, cast

from numba import njit

F = TypeVar("F", bound=Callable[..., object])


def jit(function: F) -> F:
    """`function` as a kernel.

    The machine code goes to `__pycache__`, or where that cannot be written to the user's cache folder, or where
    `NUMBA_CACHE_DIR` says. Where none of these can be written numba refuses to cache at all; then the kernel is
    compiled anew in each process rather than not at all.

    numba looks only at the file a kernel stands in to tell whether its machine code is stale, not at the kernels it
    calls: after an edit to a kernel that others call, delete the `.nbi` files beside it.
    """
    try:
        return cast("F", njit(cache=True, nogil=True)(function))
    except RuntimeError:  # "no locator available"
        return cast("F", njit(nogil=True)(function))
