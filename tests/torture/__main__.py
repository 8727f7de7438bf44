"""`python -m torture`: every fault many times, a table of what happened, and the same as JSON."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from signal import SIGINT, SIGTERM, Signals

import orjson
from rich.console import Console
from rich.table import Table

from torture import faults, power
from torture.trial import STEPS, Ground, Row

Fault = Callable[[Ground, random.Random, float], Row]


def _some(share: float, times: int) -> int:
    return max(1, round(share * times))


def _kills(ground: Ground, rng: random.Random, share: float) -> Row:
    return faults.kills(ground, rng, faults.drawn(rng, _some(share, 200), a_run=25, last=faults.MANY))


def _kills_of_steps(ground: Ground, rng: random.Random, share: float) -> Row:
    folder = ground.room("steps")
    steps = Ground.prepare(folder, examples=300, concurrency=32, latency_s=0.15, recipe=STEPS)
    row = _kills(steps, rng, share / 4)
    return replace(row, fault="kill -9 amid answers, judgements and turns")


def _signals(*numbers: Signals) -> Fault:
    def fault(ground: Ground, rng: random.Random, share: float) -> Row:
        return faults.signals(ground, rng, faults.drawn(rng, _some(share, 5), a_run=5), numbers)

    return fault


FAULTS: dict[str, Fault] = {
    "kill": _kills,
    "kill-steps": _kills_of_steps,
    "sigint": _signals(SIGINT),
    "sigint-twice": _signals(SIGINT, SIGINT),
    "sigterm": _signals(SIGTERM),
    "sigterm-twice": _signals(SIGTERM, SIGTERM),
    "hang-up": lambda ground, rng, share: faults.hang_ups(ground, rng, faults.drawn(rng, _some(share, 5), a_run=5)),
    "clock": lambda ground, rng, share: faults.clock(ground, rng, _some(share, 3)),
    "restart": lambda ground, rng, share: faults.restarts(ground, rng, _some(share, 6)),
    "pause": lambda ground, rng, share: faults.pauses(ground, rng, _some(share, 6)),
    "name": lambda ground, rng, share: faults.names(ground, rng, _some(share, 2)),
    "intruder": lambda ground, rng, share: faults.intruders(ground, rng, _some(share, 8)),
    "power": lambda ground, rng, share: power.cuts(ground, rng, _some(share, 30)),
    "unsynced-normal": lambda ground, rng, share: power.unsynced(ground, rng, _some(share, 2), "normal"),
    "unsynced-full": lambda ground, rng, share: power.unsynced(ground, rng, _some(share, 3), "full"),
}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m torture", description=__doc__, epilog="Without strace the unsynced ones are left out."
    )
    parser.add_argument("--seed", type=int, default=0, help="another seed, other instants [default: 0]")
    parser.add_argument("--share", type=float, default=1.0, help="of how often each fault is tried [default: 1]")
    parser.add_argument("--jobs", type=int, default=2, help="faults tried at a time [default: 2]")
    parser.add_argument(
        "--only", nargs="+", choices=FAULTS, default=list(FAULTS), metavar="FAULT", help=", ".join(FAULTS)
    )
    parser.add_argument("--out", type=Path, help="a JSON file of the figures")
    given = parser.parse_args()
    if shutil.which("strace") is None:
        given.only = [name for name in given.only if not name.startswith("unsynced")]
    console, began = Console(stderr=True), time.monotonic()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(given.jobs) as jobs:
        ground = Ground.prepare(Path(folder), examples=1500, concurrency=32, latency_s=0.15)
        console.print(f"undisturbed: {ground.requests} requests")

        def suffer(name: str) -> Row:
            row = FAULTS[name](ground, random.Random(f"{given.seed} {name}"), given.share)
            console.print(f"{time.monotonic() - began:,.0f} s: {row.fault}: {'BROKEN' if row.broken else 'held'}")
            for promise in row.broken:
                console.print(promise, style="red", markup=False)
            return row

        rows = list(jobs.map(suffer, given.only))
    Console(width=160).print(table(rows))
    document = {
        "seed": given.seed,
        "requests": ground.requests,
        "concurrency": ground.concurrency,
        "seconds": round(time.monotonic() - began),
        "faults": [row.document() for row in rows],
    }
    if given.out:
        given.out.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    sys.stdout.write(orjson.dumps(document).decode() + "\n")
    return 1 if any(row.broken for row in rows) else 0


def table(rows: list[Row]) -> Table:
    made = Table()
    for head in (
        "fault",
        "tried",
        "hit live",
        "while",
        "in flight\nmean, most",
        "lost\nmean, most",
        "asked again",
        "starts with\na checkpoint",
        "equal",
    ):
        made.add_column(head)
    for row in rows:
        found = row.document()
        spread = ["" if (of := found[name]) is None else f"{of['mean']}, {of['max']}" for name in ("in_flight", "lost")]
        phases = ", ".join(f"{count} {phase}" for phase, count in found["phases"].items())
        again, equal = f"{row.repeated} of {row.requests}", f"{row.equal} of {row.runs}"
        made.add_row(row.fault, str(row.tried), str(row.hit), phases, *spread, again, str(row.checkpoints), equal)
    return made


if __name__ == "__main__":
    sys.exit(main())
