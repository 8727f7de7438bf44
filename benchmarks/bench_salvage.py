"""Question: how many stored completions does `doctor --repair` save from a damaged completions.sqlite?

    python benchmarks/bench_salvage.py --rows 20000

Each kind of damage is done to a copy of one store, a number of times at random places; the least and the mean share of
the completions that are saved are shown. The ceiling is 100 %, less the completions that lay in the damaged bytes.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from corpora import machine, report

from explore_async.errors import StorageError
from explore_async.exploration.values import ChatRequest, Completion, Prompt, Request
from explore_async.storage.completions import CompletionStore
from explore_async.storage.salvage import salvage

PAGE = 4096
ROWS_AT_ONCE = 500

Damage = Callable[[bytearray, random.Random], None]


def zeroed(share: float = 0.0) -> Damage:
    """Zeroes one page, or this share of all pages, but neither the first nor the table's root."""

    def damage(body: bytearray, rng: random.Random) -> None:
        pages = range(2, len(body) // PAGE)
        for page in rng.sample(pages, max(1, int(share * len(pages)))):
            body[page * PAGE : (page + 1) * PAGE] = bytes(PAGE)

    return damage


def flipped(bits: int) -> Damage:
    def damage(body: bytearray, rng: random.Random) -> None:
        for _ in range(bits):
            body[rng.randrange(2 * PAGE, len(body))] ^= 1 << rng.randrange(8)

    return damage


def cut(share: float) -> Damage:
    def damage(body: bytearray, rng: random.Random) -> None:
        del body[int(len(body) * share) + rng.randrange(PAGE) :]

    return damage


def page(number: int) -> Damage:
    def damage(body: bytearray, rng: random.Random) -> None:
        body[number * PAGE : (number + 1) * PAGE] = rng.randbytes(PAGE)

    return damage


DAMAGES: dict[str, tuple[Damage, int]] = {
    "one page zeroed": (zeroed(), 20),
    "1 % of the pages zeroed": (zeroed(0.01), 5),
    "10 % of the pages zeroed": (zeroed(0.1), 3),
    "one bit flipped": (flipped(1), 20),
    "100 bits flipped": (flipped(100), 5),
    "cut at 90 %": (cut(0.9), 3),
    "cut at 50 %": (cut(0.5), 3),
    "first page overwritten": (page(0), 3),
    "root page of the table overwritten": (page(1), 3),
}


async def fill(path: Path, rows: int, rng: random.Random) -> None:
    question = ChatRequest("m", ({"role": "user", "content": "why? " * 150},), {"temperature": 1.0}, 7)
    async with CompletionStore(path) as store:
        for start in range(0, rows, ROWS_AT_ONCE):
            await asyncio.gather(
                *(
                    store.put(
                        rng.randbytes(16).hex(),
                        Request(n, 0, "generate", "0", 0, Prompt("generate", {}), 7),
                        question,
                        Completion("x" * rng.choice((300, 1500, 3000, 6000)), "stop", 1, 1),
                    )
                    for n in range(start, min(rows, start + ROWS_AT_ONCE))
                )
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole.sqlite"
        asyncio.run(fill(whole, arguments.rows, random.Random(arguments.seed)))
        print(f"{arguments.rows:,} completions, {whole.stat().st_size / 2**20:,.0f} MiB")
        print(f"{'damage':<36} {'times':>5} {'least saved':>11} {'mean saved':>10} {'seconds':>7}")
        for name, (damage, times) in DAMAGES.items():
            rng, shares, began = random.Random(arguments.seed), [], time.monotonic()
            for _ in range(times):
                body = bytearray(whole.read_bytes())
                damage(body, rng)
                place = Path(folder) / "damaged" / "completions.sqlite"
                place.parent.mkdir()
                place.write_bytes(body)
                try:
                    shares.append(salvage(place, lambda _: None).saved / arguments.rows)
                except StorageError:
                    shares.append(0.0)
                shutil.rmtree(place.parent)
            seconds = (time.monotonic() - began) / times
            results[name] = {"times": times, "least": min(shares), "mean": statistics.mean(shares), "seconds": seconds}
            print(f"{name:<36} {times:>5} {min(shares):>11.2%} {results[name]['mean']:>10.2%} {seconds:>7.1f}")
    report({"machine": machine(), "rows": arguments.rows, "results": results}, arguments.out)


if __name__ == "__main__":
    main()
