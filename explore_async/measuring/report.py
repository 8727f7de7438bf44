"""Shows a sweep: its progress, tables at the end, and a document for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from explore_async import __version__
from explore_async.measuring.bottleneck import advice, diagnose, recommended
from explore_async.measuring.figures import Gauge, LevelFigures, Spread
from explore_async.measuring.sweep import Sweep
from explore_async.settings.recipe import SIMULATED
from explore_async.terminal.counts import counted
from explore_async.terminal.reporter import Reporter

_LATENCIES: Final = {
    "ttft_ms": "time to first token",
    "tpot_ms": "time per further token",
    "itl_ms": "between pieces of text",
    "e2e_ms": "whole completion",
}


class SweepProgress:
    """Observes a sweep and shows it with a reporter."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    def phase(self, text: str) -> None:
        self._reporter.update(text)

    def advanced(self, concurrency: int, ended: int, number: int, tokens_per_s: float) -> None:
        self._reporter.update(
            f"concurrency {concurrency}: {ended:,} of {number:,} requests, {_number(tokens_per_s)} output tokens/s"
        )

    def measured(self, level: LevelFigures) -> None:
        self._reporter.say(
            f"concurrency {level.concurrency}: {_number(level.rate)} output tokens/s, "
            f"{counted(level.completed, 'completion')} in {level.seconds:,.1f} s"
        )


def document(sweep: Sweep, config_name: str, *, finished: bool) -> dict[str, Any]:
    """All measurements, for JSON."""
    plan, best = sweep.plan, recommended(sweep.levels)
    diagnoses = diagnose(sweep.levels)
    return {
        "version": __version__,
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "finished": finished,
        "model": sweep.model,
        "simulated": sweep.model == SIMULATED,
        "config": config_name,
        "seed": plan.seed,
        "max_tokens": plan.max_tokens,
        "levels": [
            {**asdict(level), **asdict(diagnosis)} for level, diagnosis in zip(sweep.levels, diagnoses, strict=True)
        ],
        "recommended_concurrency": None if best is None else best.concurrency,
    }


def show(sweep: Sweep, console: Console) -> None:
    levels = sweep.levels
    if not levels:
        return
    if sweep.model == SIMULATED:
        console.print("a simulated server: its times come from a model and not from hardware", style="bold yellow")
    console.print(_rates(levels))
    console.print(_latencies(levels))
    for level, diagnosis in zip(levels, diagnose(levels), strict=True):
        line = f"concurrency {level.concurrency}: {diagnosis.bottleneck}: {diagnosis.reason}"
        console.print(Text(line), soft_wrap=True)
        for kind, error in level.first_errors.items():
            console.print(Text(f"  {level.errors[kind]} {kind}, the first: {error}", style="red"), soft_wrap=True)
    if any(level.without_usage for level in levels):
        console.print("the server does not count the tokens of streams; pieces of text are counted instead")
    if len(levels) > 1 and (line := advice(levels)):
        console.print(line, soft_wrap=True, highlight=False)


def _rates(levels: Sequence[LevelFigures]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=0)
    several = any(level.in_flight != level.concurrency for level in levels)
    heads = ["concur-\nrency", *(["in\nflight"] if several else []), "done", "failed", "output\ntok/s", "steady\ntok/s"]
    heads += ["req/s", "run-\nning", "wait-\ning", "KV", "prefix\nhits", "bottleneck"]
    for head in heads:
        table.add_column(head, justify="left" if head == "bottleneck" else "right")
    for level, diagnosis in zip(levels, diagnose(levels), strict=True):
        server = level.server
        table.add_row(
            str(level.concurrency),
            *([str(level.in_flight)] if several else []),
            f"{level.completed:,}",
            str(sum(level.errors.values()) or "-"),
            _number(level.output_tokens_per_s),
            "-" if level.steady_output_tokens_per_s is None else _number(level.steady_output_tokens_per_s),
            _number(level.requests_per_s),
            _mean(None if server is None else server.running),
            _mean(None if server is None else server.waiting),
            "-" if server is None or server.kv_usage is None else f"{server.kv_usage.most:.0%}",
            "-" if server is None or server.prefix_hit_share is None else f"{server.prefix_hit_share:.0%}",
            diagnosis.bottleneck,
        )
    return table


def _latencies(levels: Sequence[LevelFigures]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("milliseconds")
    for head in ("concurrency", "mean", "p50", "p90", "p99"):
        table.add_column(head, justify="right")
    for name, label in _LATENCIES.items():
        for index, level in enumerate(levels):
            spread: Spread | None = getattr(level, name)
            figures = ("-",) * 4 if spread is None else map(_number, (spread.mean, spread.p50, spread.p90, spread.p99))
            last = index == len(levels) - 1
            table.add_row("" if index else label, str(level.concurrency), *figures, end_section=last)
    return table


def _number(value: float) -> str:
    """The number with three digits, or with all digits before the point."""
    for least, digits in ((100, 0), (10, 1), (0, 2)):
        if value >= least:
            return f"{value:,.{digits}f}"
    return f"{value:,.2f}"


def _mean(gauge: Gauge | None) -> str:
    return "-" if gauge is None else _number(gauge.mean)
