"""The live panel of a run: its phase with a bar, its rates, its endpoints, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from explore_async.running.endpoint_status import EndpointStatus, State
from explore_async.running.observer import Snapshot, Steps, in_flight
from explore_async.terminal.counts import counted
from explore_async.terminal.text import printable

_ENDPOINTS_SHOWN = 8
_WIDE = 100
_LONGEST_TROUBLE = 1_000
_COLOURS: dict[State, str] = {
    "ok": "green",
    "waiting": "dim",
    "spare": "green",
    "slow": "yellow",
    "silent": "yellow",
    "checking": "yellow",
    "out": "red",
    "left": "dim",
}
_URGENT: Sequence[State] = ("out", "silent", "checking", "slow", "waiting", "ok", "spare", "left")


def parts(snapshot: Snapshot, columns: int) -> Iterator[RenderableType]:
    """The lines of the panel below its head, on a terminal of so many columns."""
    bars = [snapshot.steps]
    if snapshot.phase == "exploring":
        bars.append(Steps(snapshot.tally.kept, snapshot.wanted, "examples kept"))
    yield bar(bars)
    yield Text(_state(snapshot))
    if waiting := ", ".join(filter(None, (snapshot.on_the_way, snapshot.not_judged))):
        yield Text(waiting)
    if snapshot.held_up and not snapshot.preparing:  # the head says that
        yield Text(printable(snapshot.held_up, _LONGEST_TROUBLE), style="yellow")
    if snapshot.faults:
        yield Text(snapshot.faults, style="yellow")
    if snapshot.endpoints:
        yield endpoint_table(snapshot.endpoints, is_wide=columns >= _WIDE)
    if snapshot.engines:
        yield Text(printable(snapshot.engines), style="dim")
    if snapshot.trouble:
        yield Text(printable(snapshot.trouble, _LONGEST_TROUBLE), style="yellow")


def _state(snapshot: Snapshot) -> str:
    tally = snapshot.tally
    tasks = f"{counted(tally.tasks.total(), 'task')}{'' if snapshot.explored else ' so far'}"
    words = [
        *([] if snapshot.of_questions else [tasks]),
        f"{tally.kept:,} {'judged' if snapshot.of_questions else 'kept'}",
        f"{tally.dropped.total():,} dropped",
    ]
    if snapshot.phase in {"replaying", "connecting"}:
        return "  ".join(words)
    words += [
        f"{snapshot.answers_per_s:,.1f} completions/s",
        f"{snapshot.tokens_per_s:,.0f} tokens/s",
        f"in flight: {in_flight(snapshot.in_flight, snapshot.limit)}",
        *([snapshot.left] if snapshot.left else []),
    ]
    return "  ".join(words)


def bar(steps: Sequence[Steps]) -> Progress:
    """A bar for each, below one another."""
    progress = Progress(TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[count]}"))
    for step in steps:
        progress.add_task(step.what, total=max(step.of, 1), completed=min(step.done, step.of), count=step.count)
    return progress


def endpoint_table(endpoints: Sequence[EndpointStatus], *, is_wide: bool) -> Table:
    """A row for each endpoint; of very many, those in trouble first, and the number of the others."""
    table = Table(box=None, padding=(0, 2 if is_wide else 1, 0, 0), header_style="dim")
    for name in ("endpoint", "state"):
        table.add_column(name, overflow="ellipsis", no_wrap=True)
    for name in ("tokens/s", *(("completions/s",) if is_wide else ()), "median s", "in flight", "failed"):
        table.add_column(name, justify="right", no_wrap=True)
    shown = list(endpoints)
    if len(endpoints) > _ENDPOINTS_SHOWN:
        shown = sorted(endpoints, key=lambda endpoint: _URGENT.index(endpoint.state))[:_ENDPOINTS_SHOWN]
    for endpoint in shown:
        table.add_row(
            printable(endpoint.url),
            Text(_state_of(endpoint), style=_COLOURS[endpoint.state]),
            f"{endpoint.tokens_per_s:,.0f}",
            *([f"{endpoint.answers_per_s:,.1f}"] if is_wide else []),
            "" if endpoint.latency_s is None else f"{endpoint.latency_s.p50:,.1f}",
            in_flight(endpoint.in_flight, endpoint.limit),
            f"{endpoint.failed_attempts:,}",
        )
    if more := len(endpoints) - len(shown):
        table.add_row(Text(f"and {more} more", style="dim"))
    return table


def _state_of(endpoint: EndpointStatus) -> str:
    if endpoint.state == "slow":
        return f"{endpoint.slower:.1f}× slower"
    if endpoint.checking_s >= 1:
        return f"{endpoint.state} {endpoint.checking_s:,.0f} s"
    return endpoint.state
