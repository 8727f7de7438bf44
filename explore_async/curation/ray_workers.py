"""The processes of a Ray cluster as workers of data commands."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeVar

Part = TypeVar("Part")
Shared = TypeVar("Shared")
Result = TypeVar("Result")
_AHEAD = 2


class Workers(Protocol):
    """Processes, which may be on other machines, that work on the parts of something."""

    @property
    def count(self) -> int: ...

    def results(
        self, work: Callable[[Part, Shared], Result], parts: Iterable[Part], shared: Shared
    ) -> Iterator[Result]:
        """The result for each part, in order; every part is worked on with the same `shared`."""


class RayWorkers:
    """A worker for each processor of the cluster."""

    @property
    def count(self) -> int:
        import ray

        return max(1, int(ray.cluster_resources().get("CPU", 1)))

    def results(
        self, work: Callable[[Part, Shared], Result], parts: Iterable[Part], shared: Shared
    ) -> Iterator[Result]:
        import ray

        working, (task, handle) = ray.remote(_result), map(ray.put, (work, shared))
        pending: deque[Any] = deque()
        for part in parts:
            pending.append(working.remote(task, part, handle))
            if len(pending) > _AHEAD * self.count:
                yield ray.get(pending.popleft())
        while pending:
            yield ray.get(pending.popleft())


def _result(work: Callable[[Part, Shared], Result], part: Part, shared: Shared) -> Result:
    return work(part, shared)
