"""Finds the bottleneck of each level, and the level to run at, by rules simple enough to check by hand. Pure.

The first line that holds:

- client: this process used nine tenths of a core, or the p99 of its event loop's lateness was 100 ms or more;
- queue: requests waited at the server while the level was in flight, so the engine is full;
- room: a higher level brought at least a tenth more tokens a second (the highest level: than the one below it);
- engine: none did.

The rates compared are those of the steady part of each level. The level to run at is the lowest that no other beats by
a tenth: the rule of `room`, so that the two never contradict each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from explore_async.measuring.figures import Diagnosis, LevelFigures

BUSY_SHARE = 0.9
LATE_MS = 100.0
SOME_WAIT = 0.5
"""Mean of waiting requests: fewer are merely on their way into the batch."""
WORTH = 1.1
FAR_APART = 2
"""Levels are measured between two that differ by this factor or more."""


def diagnose(levels: Sequence[LevelFigures]) -> list[Diagnosis]:
    """Finds the bottleneck of each level of concurrency. `levels` must be in rising order."""
    return [_diagnose(levels, index) for index in range(len(levels))]


def recommended(levels: Sequence[LevelFigures]) -> LevelFigures | None:
    """The lowest level that no other beats by a tenth of its output tokens a second; None where no level had any."""
    most = max((level.rate for level in levels), default=0.0)
    return next((level for level in levels if most and most < WORTH * level.rate), None)


def between(levels: Sequence[LevelFigures]) -> int | None:
    """A level worth measuring below the recommended one: the requests that a full engine runs at once, else halfway.

    None where the recommended level is the lowest, is near the one below, or may be too low itself.
    """
    best = recommended(levels)
    if best is None or (index := levels.index(best)) == 0:
        return None
    below, found = levels[index - 1].concurrency, _diagnose(levels, index).bottleneck
    if best.concurrency < FAR_APART * below or found in {"client", "room"}:
        return None
    level = round(math.sqrt(below * best.concurrency))
    if found == "queue" and best.server is not None and best.server.running is not None:
        level = round(best.server.running.mean * best.concurrency / best.in_flight)
    return level if below < level < best.concurrency else None


def advice(levels: Sequence[LevelFigures]) -> str:
    """The concurrency to run with, and how sure that is; empty where no level had a completion."""
    best = recommended(levels)
    if best is None:
        return ""
    said = f"run --concurrency {best.concurrency}: {best.rate:,.0f} output tokens/s"
    match _diagnose(levels, levels.index(best)).bottleneck:
        case "client":
            return f"{said}, as many as this process can measure: the engine may do more"
        case "queue":
            level = between(levels)
            measure = f": measure --concurrency {level}, too" if level is not None else ""
            return f"{said}; some requests wait there, so fewer may bring as much{measure}"
        case "room":
            return f"{said}; more requests may bring more: measure with --most {4 * best.concurrency}"
        case "engine":
            return f"{said}; more requests bring less than a tenth more"
        case _:
            return said


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
    above = [other for other in levels[index + 1 :] if other.completed]
    if above:
        other = max(above, key=lambda level: level.rate)
        gain = other.rate / level.rate
        comparison = f"concurrency {other.concurrency} brought {gain:.2f} times the tokens"
    elif index > 0 and levels[index - 1].completed:
        other = levels[index - 1]
        gain = level.rate / other.rate
        comparison = f"{gain:.2f} times the tokens of concurrency {other.concurrency}"
    else:
        return Diagnosis("unknown", "there is no other level to compare with")
    return Diagnosis("room" if gain >= WORTH else "engine", comparison)
