"""Finds the bottleneck of each level, by a rule simple enough to check by hand. Pure.

The first line that holds:

- client: this process used nine tenths of a core, or the p99 of its event loop's lateness was 100 ms or more;
- queue: requests waited at the server while the level was in flight, so the engine is full;
- room: the next higher level brought at least a tenth more tokens a second (the highest level: than the one below it);
- engine: it brought less.
"""

from __future__ import annotations

from collections.abc import Sequence

from explore_async.measuring.figures import Diagnosis, LevelFigures

BUSY_SHARE = 0.9
LATE_MS = 100.0
SOME_WAIT = 0.5
"""Mean of waiting requests: fewer are merely on their way into the batch."""
WORTH = 1.1
ENOUGH = 0.95


def diagnose(levels: Sequence[LevelFigures]) -> list[Diagnosis]:
    """Finds the bottleneck of each level of concurrency. `levels` must be in rising order."""
    return [_diagnose(levels, index) for index in range(len(levels))]


def recommended(levels: Sequence[LevelFigures]) -> LevelFigures | None:
    """The lowest level with nearly the most output tokens a second; None where no level had a completion."""
    most = max((level.output_tokens_per_s for level in levels), default=0.0)
    return next((level for level in levels if 0 < most * ENOUGH <= level.output_tokens_per_s), None)


def _diagnose(levels: Sequence[LevelFigures], index: int) -> Diagnosis:
    level = levels[index]
    if not level.completed:
        return Diagnosis("unknown", "no request was answered")
    client, server = level.client, level.server
    if client.cpu_share >= BUSY_SHARE:
        return Diagnosis("client", f"this process used {client.cpu_share:.0%} of a core")
    if client.loop_lag_p99_ms >= LATE_MS:
        return Diagnosis("client", f"this process's event loop was late by {client.loop_lag_p99_ms:.0f} ms (p99)")
    if server is not None and server.waiting is not None and server.waiting.mean >= SOME_WAIT:
        running = f" beside {server.running.mean:.0f} running" if server.running is not None else ""
        return Diagnosis("queue", f"{server.waiting.mean:.0f} requests waited{running}: the engine is full")
    rates = [other.output_tokens_per_s for other in levels]
    if index + 1 < len(levels) and levels[index + 1].completed:
        gain = rates[index + 1] / rates[index]
        comparison = f"concurrency {levels[index + 1].concurrency} brought {gain:.2f} times the tokens"
    elif index > 0 and levels[index - 1].completed:
        gain = rates[index] / rates[index - 1]
        comparison = f"{gain:.2f} times the tokens of concurrency {levels[index - 1].concurrency}"
    else:
        return Diagnosis("unknown", "there is no other level to compare with")
    return Diagnosis("room" if gain >= WORTH else "engine", comparison)
