"""The end of a run: how it ended, and its statistics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from explore_async import __version__
from explore_async.errors import EXIT_NOTHING_KEPT, EXIT_SIGINT, EXIT_SIGTERM
from explore_async.running.endpoint_speeds import LatencyFigures
from explore_async.running.own_time import OwnTimeFigures
from explore_async.running.starts import Total
from explore_async.running.tally import Counts, ExampleCounts, ReasoningCounts, RequestCounts, TaskCounts, TokenCounts
from explore_async.running.window_use import WindowFigures
from explore_async.serving.endpoints.values import PoolStatistics
from explore_async.settings.recipe import Kind
from explore_async.terminal.counts import counted

Ending = Literal["target", "complete", "token_budget", "wall_time", "interrupted", "terminated", "offline", "error"]
"""target, complete, token_budget: the run is over. It has its examples, no task brings more, or its tokens are spent.
wall_time, interrupted (Ctrl-C), terminated (SIGTERM), offline (the next completion is not stored): it can be resumed.
error: a fault ended it. Only stats.json says so, as `run` raises the fault.
"""

FINISHED: frozenset[Ending] = frozenset({"target", "complete", "token_budget"})
"""Endings of a run that has nothing left to do."""


@dataclass(frozen=True, slots=True)
class RequestsThisTime:
    """Requests of this start alone."""

    replayed: int
    """Requests whose completion was stored already."""
    asked: int
    asked_twice: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStats:
    """The statistics of a run. `counts` and `all_starts` are of all its starts, the times and the endpoints of this
    one.
    """

    digest: str
    """Digest of the recipe, in hexadecimal."""
    model: str
    models: Mapping[Kind, str]
    """Other models, by the kind of request that goes to them."""
    simulated: bool
    """True when a simulated server made any of the data."""
    ending: Ending | None
    """None while the run goes on, and where it was killed."""
    counts: Counts
    not_judged: int
    """Completions that this start has and has not judged. The next start judges them, if the run is not over."""
    begin: str
    """Of this start, in UTC, as ISO 8601 has it; `end` likewise."""
    end: str
    seconds: float
    own_time: OwnTimeFigures
    this_time: RequestsThisTime | None
    """None where the run ended before it looked for any completion."""
    endpoints: PoolStatistics | None
    """None where nothing was asked."""
    window: WindowFigures
    cut_advice: str
    """The settings to change where many completions were cut at their limit of tokens; empty where few were."""
    usage_advice: str
    """Said where servers counted no tokens of completions; else empty."""
    language_advice: str
    """Said where most of the first examples are in another language than the recipe's; else empty."""
    latencies: Mapping[str, LatencyFigures]
    """Of the completions of this start, by the URL of the endpoint."""
    times_median: Mapping[str, float]
    """Of an endpoint's latencies the median, in medians of the others that served the same models."""
    target: int | None
    """Examples that the run has to keep; None where no number of them is given."""
    nothing_to_do: bool = False
    """True where the run is a shard that no examples fall to, as there are fewer tasks than planned."""
    all_starts: Total | None
    """Times, hosts, and what was asked of which endpoint; None where the run ended before it looked."""

    @property
    def requests(self) -> RequestCounts:
        return self.counts.requests

    @property
    def tokens(self) -> TokenCounts:
        return self.counts.tokens

    @property
    def reasoning(self) -> ReasoningCounts:
        return self.counts.reasoning

    @property
    def tasks(self) -> TaskCounts:
        return self.counts.tasks

    @property
    def examples(self) -> ExampleCounts:
        return self.counts.examples

    @property
    def misses_target(self) -> bool:
        """True where the run is over and has fewer examples than it was to have."""
        return self.ending == "complete" and self.target is not None and self.examples.kept < self.target

    def line(self) -> str:
        """The end of the run in a line."""
        failed = (
            f", {counted(self.requests.total_failed, 'request')} failed for good" if self.requests.total_failed else ""
        )
        missed = f" of {self.target:,}" if self.misses_target else ""
        return (
            f"ended after {self.seconds:,.0f} s ({self.ending}): {counted(self.tasks.total, 'task')}, "
            f"{counted(self.examples.kept, 'example')} kept{missed}, {self.examples.total_dropped:,} dropped{failed}"
            + (f", {counted(self.not_judged, 'completion')} stored and not judged" if self.not_judged else "")
        )

    def document(self) -> dict[str, Any]:
        """The content of stats.json, for orjson."""
        document = {
            "explore_async": __version__,
            "digest": self.digest,
            "model": self.model,
            "simulated": self.simulated,
            **({"models": self.models} if self.models else {}),
            "ending": self.ending,
            **self.counts.document(),
            "stored_not_judged": self.not_judged,
            "begin": self.begin,
            "end": self.end,
            "seconds_this_time": self.seconds,
            "own_time": self.own_time,
        }
        if self.this_time is not None:
            document["this_time"] = self.this_time
        if self.endpoints is not None:
            endpoints = [
                {**asdict(endpoint), "latency_s": self.latencies.get(endpoint.url)}
                for endpoint in self.endpoints.endpoints
            ]
            document["endpoints"] = {**asdict(self.endpoints), "endpoints": endpoints}
            document["window"] = self.window
        if self.all_starts is not None:
            document["all_starts"] = self.all_starts.document()
        return document


@dataclass(frozen=True, slots=True)
class RunResult:
    """The run directory, how the run ended, and its statistics."""

    directory: Path
    stats: RunStats
    bad_rows: int = 0
    """Rows of the source of `answer`, `rate` or `judge` that could not be read, and were skipped."""

    @property
    def ending(self) -> Ending:
        assert self.stats.ending is not None
        return self.stats.ending

    @property
    def kept(self) -> int:
        """Examples in the dataset."""
        return self.stats.examples.kept

    @property
    def is_over(self) -> bool:
        """True when there are examples and no user has stopped the run before its time."""
        return bool(self.kept) and self.ending in FINISHED | {"wall_time", "offline"}

    def document(self) -> dict[str, Any]:
        """The content of stats.json, and the rows that were skipped, for orjson."""
        return {**self.stats.document(), **({"bad_rows": self.bad_rows} if self.bad_rows else {})}

    @property
    def exit_code(self) -> int:
        if self.ending == "interrupted":
            return EXIT_SIGINT
        if self.ending == "terminated":
            return EXIT_SIGTERM
        if self.kept or self.ending == "wall_time" or self.stats.nothing_to_do:
            return 0
        return EXIT_NOTHING_KEPT
