"""Threads that work for one call, and their default number."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Self


def processors() -> int:
    """The number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Crew:
    """Threads that work for one call; with one thread, the caller works by itself. A crew ends with its block, also
    when an exception comes, such as Ctrl-C.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.has_ended = False
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """What has begun stops soon, and nothing else begins."""
        self.has_ended = True
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    @property
    def pool(self) -> ThreadPoolExecutor:
        """Made when there is work for it: that takes longer than to judge a short text."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.threads)
        return self._pool

    def share(self, work: Callable[[int, int], None], portions: Sequence[tuple[int, int]]) -> None:
        """Do the work on each portion, and return when all are done."""
        if self.threads == 1:
            for portion in portions:
                work(*portion)
        else:
            for share in [self.pool.submit(work, *portion) for portion in portions]:
                share.result()
