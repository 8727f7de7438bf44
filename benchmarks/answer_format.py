"""Which answer format keeps more examples per second: JSON guided by a schema, or plain text with markers?

The demo's recipe runs with the real 1.5B model on the embedded server, once in each format, with the same seed and
target and without a cache. The table shows kept examples per second of the run, examples that were read and dropped,
and tokens written for each kept example. Each format has its own server, whose start is not counted.

    python benchmarks/answer_format.py [--examples 12] [--seed 0]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from pathlib import Path

from explore_async.config import load as config
from explore_async.running.start import run


class Clock:
    """Observes a run and notes when the first request can be sent."""

    def phase(self, text: str) -> None: ...

    def fetching(self, progress: object) -> None: ...

    def began(self, _recipe: object, _run: object) -> None:
        self.began_at = time.perf_counter()

    def committed(self, events: object) -> None: ...

    def tick(self) -> None: ...


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--examples", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rows = []
    for answer_format in ("json", "text"):
        settings = config.load(
            "quickstart", answer_format=answer_format, seed=arguments.seed, targets={"examples": arguments.examples}
        )
        clock = Clock()
        with tempfile.TemporaryDirectory() as folder:
            result = asyncio.run(run(settings, Path(folder, "run"), observer=clock))
        seconds = time.perf_counter() - clock.began_at
        examples = result.stats.examples
        unread = sum(examples.dropped.get(reason, 0) for reason in ("unparsable", "truncated", "missing_field"))
        rows.append(
            {
                "format": answer_format,
                "kept": result.kept,
                "seconds": round(seconds, 1),
                "kept_per_minute": round(60 * result.kept / seconds, 2),
                "read": examples.read,
                "unreadable": unread,
                "dropped": {"total": examples.total_dropped, **examples.dropped},
                "completion_tokens_per_kept": round(result.stats.tokens.completion / max(1, result.kept), 1),
            }
        )
    columns = ("format", "kept", "seconds", "kept_per_minute", "read", "unreadable", "completion_tokens_per_kept")
    print("  ".join(f"{name:>15}" for name in columns))
    for row in rows:
        print("  ".join(f"{row[name]!s:>15}" for name in columns))
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
