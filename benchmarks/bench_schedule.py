"""How near is our scheduling to a scheduler that knows everything in advance?

A run with the real explorer, driver, performer and pool asks modelled engines (8B on an H100, see
`explore_async/serving/simulated/engine.py`) on a virtual clock, without HTTP. It must find out how many requests an
endpoint takes. Its requests, with their true lengths, are then scheduled again on the same engines:

- clairvoyant: knows the tree and every length. A request may start when its task exists; one about sub-tasks when the
  one before it is answered, and a backtrack when a child is explored; one for examples when the first examples of the
  parent task are there. The request with the longest chain behind it goes first. This is the yardstick.
- stages: explores level by level, then generates, with a barrier after each stage.
- gather: explores one request after the other, generates behind a semaphore, in the order of arrival.
- sequential: one request at a time, as the published code does.

"whole" is the clairvoyant's time over ours. "steady" is the share of busy slots between the first and the last moment
with more requests than slots. With faulty endpoints both are measured against healthy engines, which shows the cost of
the faults; "of what was available" is the time of the clairvoyant's work at the speed that was available, over ours.
"lost" is the time of all slots that went unused: before the first moment with more requests than slots, until the last
one, and after it. "in vain" counts the requests for examples that brought none that was kept.
For the HTTP ceiling of one process see `bench_client.py`.

    python benchmarks/bench_schedule.py [--fleets 1 8 64] [--per-task 500] [--out results/schedule.json]
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from corpora import machine, report

from explore_async.errors import ConnectionFailed, EndpointUnavailable
from explore_async.exploration.kinds import KINDS
from explore_async.exploration.values import ChatRequest, Completion
from explore_async.planning.fleet import Fleet, ModelledClient
from explore_async.planning.rehearsal import Rehearsal, Step, rehearse
from explore_async.serving.simulated.engine import Engine, Profile
from explore_async.serving.simulated.profiles import PROFILES
from explore_async.settings.operation import WINDOW_PER_SLOT, EndpointSettings
from explore_async.settings.run_settings import AUTO_WINDOW, RecipeConfig

PROFILE = PROFILES["h100-qwen3-8b"]
FOLLOWS_NONE: tuple[int, ...] = ()
DIES_AT, FLAPS, GONE_S, SLOWER = 60, 60, 20, 3
IN_TROUBLE = 8
"""Engines of the fleet that is also measured with three of them in trouble."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--fleets", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--domains-per-engine", type=float, default=1.0, help="at least one domain in all")
    parser.add_argument("--per-task", type=int, default=500, help="examples")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows = []
    for engines in arguments.fleets:
        domains = max(1, round(engines * arguments.domains_per_engine))
        for trouble in ("none", "one slow, one dying, one flapping") if engines == IN_TROUBLE else ("none",):
            rows.append(compared(engines, domains, arguments.per_task, trouble))
            print_row(rows[-1])
    if arguments.out:
        plot(rows, arguments.out.with_suffix(".svg"))
    report({"machine": machine(), "profile": "h100-qwen3-8b", "rows": rows}, arguments.out)


def compared(engines: int, domains: int, per_task: int, trouble: str) -> dict[str, Any]:
    recipe = RecipeConfig.model_validate(
        {
            "domains": [{"name": f"Look after garden number {number}"} for number in range(domains)],
            "exploration": {"depth": 2, "breadth": [8, 6]},
            "targets": {"per_task": per_task},
            "window": max(AUTO_WINDOW, WINDOW_PER_SLOT * engines * PROFILE.slots),  # as `plan` advises
        }
    ).resolved(model="simulated")
    fleet = Fleet([PROFILE] * engines) if trouble == "none" else TroubledFleet([PROFILE] * engines)
    began = time.perf_counter()
    ours = rehearse(recipe, fleet)
    python_s = time.perf_counter() - began
    slots = engines * PROFILE.slots
    needs = chains(ours.steps)
    known = scheduled(ours.steps, needs, by_what_hangs_on_it(ours.steps, needs), engines)
    return {
        "engines": engines,
        "domains": domains,
        "trouble": trouble,
        "window": recipe.window,
        "requests": len(ours.steps),
        "kept": ours.kept,
        "seconds": round(ours.seconds, 1),
        "explored_s": round(ours.explored_at, 1),
        "steady": steady(ours, slots),
        "lost_s": lost(ours, slots),
        "in_vain": sum(step.kind == "generate" and not step.kept for step in ours.steps),
        "clairvoyant_s": round(known, 1),
        "whole": round(known / ours.seconds, 3),
        **({"whole_of_available": of_available(ours, engines, known)} if trouble != "none" else {}),
        "times_faster_than": {
            "stages": round(staged(ours.steps, engines) / ours.seconds, 2),
            "gather": round(gathered(ours.steps, engines) / ours.seconds, 2),
            "sequential": round(sequential(ours.steps) / ours.seconds, 1),
        },
        "python_s_a_request": round(python_s / len(ours.steps), 5),
    }


def steady(ours: Rehearsal, slots: int) -> float | None:
    busy = [sample.at for sample in ours.samples if sample.runnable > slots]
    if not busy:
        return None
    pairs = [(a, b) for a, b in pairwise(ours.samples) if busy[0] <= a.at and b.at <= busy[-1]]
    total = sum(b.at - a.at for a, b in pairs)
    return round(sum(a.running * (b.at - a.at) for a, b in pairs) / (slots * total), 3) if total else None


def lost(ours: Rehearsal, slots: int) -> dict[str, float]:
    """Seconds of the whole fleet that went unused: at the beginning, in the middle and at the end."""
    busy = [sample.at for sample in ours.samples if sample.runnable > slots] or [ours.seconds]
    seconds = {"beginning": 0.0, "middle": 0.0, "end": 0.0}
    for a, b in pairwise(ours.samples):
        part = "beginning" if b.at <= busy[0] else "middle" if b.at <= busy[-1] else "end"
        seconds[part] += (1 - a.running / slots) * (b.at - a.at)
    return {part: round(value, 1) for part, value in seconds.items()}


def of_available(ours: Rehearsal, engines: int, known: float) -> float:
    """The clairvoyant's work at the available speed, over our time. `known`: its seconds with healthy engines."""
    work, now = known * engines, 0
    while work > 0:  # in steps of a second
        work -= engines - (now > DIES_AT) - is_flapped(now) - (1 - 1 / SLOWER)
        now += 1
    return round(now / ours.seconds, 3)


# -- the same requests, scheduled otherwise


def explores(steps: Sequence[Step]) -> list[bool]:
    """Lookaheads, backtracks, and the first generate request of each task."""
    opened: set[str] = set()
    found = []
    for step in steps:
        found.append(KINDS[step.kind].holds_up_tree or step.task_id not in opened)
        if KINDS[step.kind].brings == "examples":
            opened.add(step.task_id)
    return found


def chains(steps: Sequence[Step]) -> list[tuple[int, ...]]:
    """For each step, by its position, the positions of the steps whose completions it needs."""
    created: dict[str, int] = {}
    opened: dict[str, int] = {}
    latest: dict[str, int] = {}
    last_below: dict[str, dict[str, int]] = defaultdict(dict)  # of each task: its children, and their trees' last step
    needs: list[tuple[int, ...]] = []
    for at, step in enumerate(steps):
        task, parent = step.task_id, step.task_id.rpartition(".")[0]
        before = {created[task]} if task in created else set()
        if not KINDS[step.kind].holds_up_tree:
            if parent:
                before.add(opened[parent])
            opened.setdefault(task, at)
        else:
            if task in latest:
                before.add(latest[task])
            if step.kind == "backtrack" and last_below[task]:
                before.add(min(last_below[task].values()))
            latest[task] = at
            path = task.split(".")
            for depth in range(1, len(path)):
                last_below[".".join(path[:depth])][".".join(path[: depth + 1])] = at
            for child in step.new_tasks:
                created[child] = last_below[task][child] = at
        needs.append(tuple(before) or FOLLOWS_NONE)
    return needs


def by_what_hangs_on_it(steps: Sequence[Step], needs: Sequence[tuple[int, ...]]) -> list[float]:
    """The rank of a step, smallest first: minus the longest chain of single latencies that begins with it."""
    rest = [alone_s(step) for step in steps]
    for at in range(len(steps) - 1, -1, -1):
        for before in needs[at]:
            rest[before] = max(rest[before], alone_s(steps[before]) + rest[at])
    return [-seconds for seconds in rest]


def alone_s(step: Step) -> float:
    read_s = (step.prompt_tokens - step.cached_tokens) * PROFILE.prefill_s
    return read_s + step.answer_tokens * (PROFILE.step_s + PROFILE.request_s)


def scheduled(steps: Sequence[Step], needs: Sequence[tuple[int, ...]], rank: Sequence[float], engines: int) -> float:
    """Seconds until all are answered, when a free slot goes to the step of the lowest rank that can start."""
    fleet = [Engine(PROFILE) for _ in range(engines)]
    missing = [len(before) for before in needs]
    followers: dict[int, list[int]] = defaultdict(list)
    for at, before in enumerate(needs):
        for one in before:
            followers[one].append(at)
    ready = [(rank[at], at) for at in range(len(steps)) if missing[at] == 0]
    heapq.heapify(ready)
    events: list[tuple[float, int, int]] = []  # when, which engine, and which of its events: only its latest counts
    latest = [0] * engines
    in_flight = [0] * engines  # not what runs: an engine whose cache is full would get all there is
    now, answered = 0.0, 0

    def expect(number: int) -> None:
        latest[number] += 1
        if (when := fleet[number].next_at()) is not None:
            heapq.heappush(events, (when, number, latest[number]))

    def settle(number: int) -> None:
        nonlocal answered
        for finished in fleet[number].advance(now):
            answered += 1
            in_flight[number] -= 1
            for at in followers[finished.number]:
                missing[at] -= 1
                if missing[at] == 0:
                    heapq.heappush(ready, (rank[at], at))

    while True:
        while ready:
            number = min(range(engines), key=in_flight.__getitem__)
            if in_flight[number] >= PROFILE.slots:
                break
            _, at = heapq.heappop(ready)
            step = steps[at]
            settle(number)
            in_flight[number] += 1
            fleet[number].submit(
                at,
                prompt_tokens=step.prompt_tokens,
                cached_tokens=step.cached_tokens,
                answer_tokens=step.answer_tokens,
            )
            expect(number)
        if not events:
            assert answered == len(steps)
            return now
        when, number, event = heapq.heappop(events)
        if event != latest[number]:  # more has come in since
            continue
        now = max(now, when)
        settle(number)
        expect(number)


def staged(steps: Sequence[Step], engines: int) -> float:
    stages: dict[tuple[int, ...], list[Step]] = defaultdict(list)
    turn: dict[str, int] = defaultdict(int)
    for step, exploring in zip(steps, explores(steps), strict=True):
        depth = step.task_id.count(".")
        stages[(0, depth, turn[step.task_id]) if exploring else (1,)].append(step)
        turn[step.task_id] += exploring
    return sum(
        scheduled(stage, [FOLLOWS_NONE] * len(stage), range(len(stage)), engines)
        for _, stage in sorted(stages.items(), key=lambda item: item[0])
    )


def gathered(steps: Sequence[Step], engines: int) -> float:
    needs, last = [], None
    created = {task: at for at, step in enumerate(steps) for task in step.new_tasks}
    for at, (step, exploring) in enumerate(zip(steps, explores(steps), strict=True)):
        before = {created[step.task_id]} if step.task_id in created else set()
        if exploring:
            if last is not None:
                before.add(last)
            last = at
        needs.append(tuple(before))
    return scheduled(steps, needs, range(len(steps)), engines)


def sequential(steps: Sequence[Step]) -> float:
    return sum(map(alone_s, steps))


# -- endpoints in trouble


@dataclass
class TroubledClient:
    """An engine that is unreachable at some times."""

    inner: ModelledClient
    is_gone: Callable[[float], bool]
    url: str = field(init=False)

    def __post_init__(self) -> None:
        self.url, self.version = self.inner.url, self.inner.version
        self.catalogue, self.metrics = self.guarded(self.inner.catalogue), self.guarded(self.inner.metrics)
        self.version = self.inner.version

    def guarded(self, ask: Callable[..., Any]) -> Callable[..., Any]:
        async def guarded(*given: Any, **named: Any) -> Any:
            if self.is_gone(asyncio.get_running_loop().time()):
                raise ConnectionFailed(f"{self.url} is gone", endpoint=self.url)
            return await ask(*given, **named)

        return guarded

    async def ask(self, request: ChatRequest, **named: Any) -> Completion:
        completion = await self.guarded(self.inner.ask)(request, **named)
        if self.is_gone(asyncio.get_running_loop().time()):
            raise EndpointUnavailable(f"{self.url} ended the connection", endpoint=self.url)
        return completion


def is_flapped(now: float) -> bool:
    return now % FLAPS > FLAPS - GONE_S


class TroubledFleet(Fleet):
    """The first engine is three times slower, the second dies after 60 s, the third is gone for 20 s of every 60."""

    def __init__(self, profiles: Sequence[Profile]) -> None:
        slow = replace(profiles[0], step_s=SLOWER * profiles[0].step_s, request_s=SLOWER * profiles[0].request_s)
        super().__init__([slow, *profiles[1:]])

    async def _open_client(self, endpoint: EndpointSettings) -> Any:
        client = await super()._open_client(endpoint)
        gone: dict[int, Callable[[float], bool]] = {
            1: lambda now: now > DIES_AT,
            2: is_flapped,
        }
        number = list(self._profiles).index(endpoint.url)
        return TroubledClient(client, gone[number]) if number in gone else client


def print_row(row: dict[str, Any]) -> None:
    print(
        f"{row['engines']:>3} engines, {row['domains']} domains, trouble: {row['trouble']}: {row['requests']:,} "
        f"requests in {row['seconds']:,} s (trees after {row['explored_s']} s); steady {row['steady']}, whole "
        f"{row['whole']} of the clairvoyant's {row['clairvoyant_s']:,} s; lost {row['lost_s']} s, "
        f"in vain {row['in_vain']}"
        + (f" (of what was available: {row['whole_of_available']})" if "whole_of_available" in row else "")
        + f"; times faster than {row['times_faster_than']}",
        flush=True,
    )


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    from plots import panels, save

    shares, times = panels(2, "Scheduling, on a virtual clock")
    names = [f"{row['engines']} GPUs" + ("" if row["trouble"] == "none" else "\nin trouble") for row in rows]
    for offset, kind in enumerate(("steady", "whole")):
        shares.bar([at + 0.4 * offset for at in range(len(rows))], [row[kind] or 0 for row in rows], 0.38, label=kind)
    shares.set_xticks([at + 0.2 for at in range(len(rows))], names)
    shares.set_ylabel("share of slots; of the clairvoyant's speed")
    shares.set_ylim(0, 1.05)
    shares.legend(loc="lower right")
    for offset, other in enumerate(("stages", "gather", "sequential")):
        heights = [row["times_faster_than"][other] for row in rows]
        times.bar([at + 0.27 * offset for at in range(len(rows))], heights, 0.25, label=other)
    times.set_yscale("log")
    times.set_xticks([at + 0.27 for at in range(len(rows))], names)
    times.set_ylabel("times faster than")
    times.legend()
    save(path)


if __name__ == "__main__":
    main()
