"""The history of a run: when and where it was started, what each start asked of which endpoint, and the totals.

It is kept in starts.json, apart from what the completions lead to: neither a replay nor another recipe erases it.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import orjson

from explore_async import __version__
from explore_async.running.endpoint_speeds import LatencyCounts
from explore_async.serving.endpoints.values import PoolStatistics
from explore_async.storage.whole_files import write_state

_LISTED = 20
_ADDED_UP = ("answered", "failed_attempts", "retries", "prompt_tokens", "completion_tokens", "cached_tokens")


def now_in_utc() -> str:
    """The time of the wall clock, in seconds, as ISO 8601 has it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(slots=True)
class EndpointRecord:
    """Counts of one endpoint over one start or over several. `engines` in the order in which they were seen."""

    url: str
    engines: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    latencies: LatencyCounts = field(default_factory=LatencyCounts)

    def add(self, other: EndpointRecord) -> None:
        self.engines = list(dict.fromkeys([*self.engines, *other.engines]))
        self.counts.update(other.counts)
        self.latencies.add(other.latencies)

    def document(self) -> dict[str, Any]:
        return {
            "url": self.url,
            "engines": self.engines,
            **{name: self.counts[name] for name in _ADDED_UP},
            "latency_s": self.latencies.figures(),
        }

    def state(self) -> dict[str, Any]:
        """The document with what `read` needs besides."""
        latencies = self.latencies
        return {
            **self.document(),
            "latency_counts": {str(step): count for step, count in sorted(latencies.counts.items())},
            "latency_total_s": round(latencies.total_s, 4),
            "latency_longest_s": round(latencies.longest_s, 4),
        }

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Self:
        latencies = LatencyCounts(
            {int(step): int(count) for step, count in document["latency_counts"].items()},
            float(document["latency_total_s"]),
            float(document["latency_longest_s"]),
        )
        counts = Counter({name: int(document[name]) for name in _ADDED_UP})
        return cls(str(document["url"]), [str(engine) for engine in document["engines"]], counts, latencies)


@dataclass(slots=True, kw_only=True)
class Start:
    """One start that asked for completions. `ending` None: it goes on, or it was killed."""

    begin: str
    end: str
    seconds: float
    host: str
    ending: str | None
    replayed: int
    asked: int
    asked_twice: int
    endpoints: list[EndpointRecord]

    @classmethod
    def now(
        cls,
        *,
        begin: str,
        seconds: float,
        ending: str | None,
        replayed: int,
        asked: int,
        asked_twice: int,
        pool: PoolStatistics,
        latencies: Mapping[str, LatencyCounts],
    ) -> Self:
        endpoints = [
            EndpointRecord(
                endpoint.url,
                [endpoint.engine] if endpoint.engine else [],
                Counter({name: getattr(endpoint, name) for name in _ADDED_UP}),
                latencies[endpoint.url],
            )
            for endpoint in pool.endpoints
        ]
        return cls(
            begin=begin,
            end=now_in_utc(),
            seconds=round(seconds, 3),
            host=platform.node(),
            ending=ending,
            replayed=replayed,
            asked=asked,
            asked_twice=asked_twice,
            endpoints=endpoints,
        )

    def document(self) -> dict[str, Any]:
        return {
            "explore_async": __version__,
            "begin": self.begin,
            "end": self.end,
            "seconds": self.seconds,
            "host": self.host,
            "ending": self.ending,
            "replayed": self.replayed,
            "asked": self.asked,
            "asked_twice": self.asked_twice,
            "endpoints": [endpoint.document() for endpoint in self.endpoints],
        }


@dataclass(slots=True, kw_only=True)
class Total:
    """All starts together, those that were killed up to a few seconds before. Starts that asked nothing do not count.
    `seconds` are of the process, without the time between starts; `stored_before`: completions that were stored before
    there was a history.
    """

    starts: int = 0
    begin: str = ""
    end: str = ""
    seconds: float = 0.0
    hosts: list[str] = field(default_factory=list)
    asked: int = 0
    asked_twice: int = 0
    stored_before: int = 0
    endpoints: list[EndpointRecord] = field(default_factory=list)

    def plus(self, start: Start) -> Total:
        endpoints = {
            endpoint.url: EndpointRecord.read(endpoint.state()) for endpoint in self.endpoints
        }  # copies: the records of `self` stay as they are
        for endpoint in start.endpoints:
            endpoints.setdefault(endpoint.url, EndpointRecord(endpoint.url)).add(endpoint)
        return Total(
            starts=self.starts + 1,
            begin=self.begin or start.begin,
            end=start.end,
            seconds=round(self.seconds + start.seconds, 3),
            hosts=list(dict.fromkeys([*self.hosts, start.host])),
            asked=self.asked + start.asked,
            asked_twice=self.asked_twice + start.asked_twice,
            stored_before=self.stored_before,
            endpoints=list(endpoints.values()),
        )

    @property
    def answered(self) -> int:
        """Completions that came."""
        return sum(endpoint.counts["answered"] for endpoint in self.endpoints)

    def document(self) -> dict[str, Any]:
        return self._with([endpoint.document() for endpoint in self.endpoints])

    def state(self) -> dict[str, Any]:
        return self._with([endpoint.state() for endpoint in self.endpoints])

    def _with(self, endpoints: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return {
            "starts": self.starts,
            "begin": self.begin,
            "end": self.end,
            "seconds": self.seconds,
            "hosts": self.hosts,
            "asked": self.asked,
            "asked_twice": self.asked_twice,
            **({"stored_before": self.stored_before} if self.stored_before else {}),
            "endpoints": endpoints,
        }

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Self:
        return cls(
            starts=int(document["starts"]),
            begin=str(document["begin"]),
            end=str(document["end"]),
            seconds=float(document["seconds"]),
            hosts=[str(host) for host in document["hosts"]],
            asked=int(document["asked"]),
            asked_twice=int(document["asked_twice"]),
            stored_before=int(document.get("stored_before", 0)),
            endpoints=[EndpointRecord.read(endpoint) for endpoint in document["endpoints"]],
        )


class History:
    """Owns starts.json while a run is on. It is a record and never an input: one that cannot be read begins anew."""

    def __init__(self, path: Path, *, stored: int) -> None:
        """Reads the file. `stored`: completions that are stored already."""
        self._path = path
        self._before, self._earlier = Total(stored_before=stored), list[Mapping[str, Any]]()
        with suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
            document = orjson.loads(path.read_bytes())
            self._before, self._earlier = Total.read(document["total"]), list(document["starts"])

    def write(self, start: Start | None) -> None:
        """Writes the history with this start as the latest; None leaves the file as it is. It touches the disk."""
        if start is not None:
            starts = [*self._earlier[1 - _LISTED :], start.document()]
            write_state(self._path, {"total": self.total(start).state(), "starts": starts})

    def total(self, start: Start | None) -> Total:
        return self._before if start is None else self._before.plus(start)
