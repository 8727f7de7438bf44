"""How many completions per second does one process receive, and what does each cost?

A server in a process of its own answers each request after 0.2 s with one example or with ten. The clients:

- bare: aiohttp and orjson in a loop, completions are discarded. This is the ceiling.
- openai: `openai.AsyncOpenAI`, completions are discarded too.
- ours: a whole run with all features. Every completion is stored, parsed, filtered against a corpus of 100,000 texts,
  and written to the dataset with its evidence.

The main figure is CPU seconds per completion (all threads of the client), because client and server share this
machine. The methods take turns; the table shows medians of several rounds. All completions must have arrived before
anything is reported.

    python benchmarks/bench_client.py [--out results/client.json]    (needs openai and matplotlib: the extra `bench`)
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
from corpora import drawn, machine, report
from minimal_endpoint import WORDS

KEPT_BEFORE = 100_000
ANSWER_S = 0.2


class Server(asyncio.Protocol):
    """Just enough of HTTP/1.1: one request after the other on a connection, with a Content-Length."""

    examples = 1
    answered = 0

    def connection_made(self, transport: Any) -> None:
        self.transport, self.buffer = transport, b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
            if len(self.buffer) < end + 4 + length:
                return
            path = self.buffer.split(b" ", 2)[1]
            self.buffer = self.buffer[end + 4 + length :]
            if path.endswith(b"/models"):
                self.send(b'{"data":[{"id":"m","owned_by":"bench"}]}')
            elif path.endswith(b"/chat/completions"):
                asyncio.get_running_loop().call_later(ANSWER_S, self.send, self.answer())
            else:
                self.transport.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

    def answer(self) -> bytes:
        Server.answered += 1
        rng = random.Random(Server.answered)

        def words(count: int) -> str:
            return " ".join(rng.choices(WORDS, k=count))

        made = [{"instruction": words(12), "input": "", "output": words(25)} for _ in range(self.examples)]
        message = {"role": "assistant", "content": orjson.dumps({"examples": made}).decode()}
        return orjson.dumps(
            {
                "id": "1",
                "object": "chat.completion",
                "created": 1,
                "model": "m",
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 300, "completion_tokens": 60, "total_tokens": 360},
            }
        )

    def send(self, body: bytes) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        self.transport.write(head % len(body) + body)


def serve(port: Any, examples: int) -> None:
    async def main() -> None:
        Server.examples = examples
        server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0, backlog=4096)
        port.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


class Spent:
    """Seconds of the clock and of all threads, from `begin` to `end`."""

    def begin(self) -> None:
        self.clock, self.cpu = time.perf_counter(), time.process_time()

    def end(self, completions: int) -> dict[str, float]:
        clock, cpu = time.perf_counter() - self.clock, time.process_time() - self.cpu
        return {"per_second": completions / clock, "cpu_us": 1e6 * cpu / completions}


BODY = {
    "model": "m",
    "messages": [{"role": "user", "content": "word " * 600}],
    "temperature": 1.0,
    "max_tokens": 512,
    "seed": 7,
}


async def asked(ask: Callable[[], Awaitable[str]], at_once: int, completions: int) -> dict[str, float]:
    left, got, spent = completions, 0, Spent()

    async def keep_asking() -> None:
        nonlocal left, got
        while left > 0:
            left -= 1
            text = await ask()
            got += bool(text)

    spent.begin()
    await asyncio.gather(*(keep_asking() for _ in range(at_once)))
    assert got == completions
    return spent.end(completions)


async def bare(url: str, at_once: int, completions: int) -> dict[str, float]:
    import aiohttp

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def ask() -> str:
            async with session.post(f"{url}/chat/completions", data=orjson.dumps(BODY)) as response:
                return orjson.loads(await response.read())["choices"][0]["message"]["content"]

        return await asked(ask, at_once, completions)


async def by_openai(url: str, at_once: int, completions: int) -> dict[str, float]:
    from openai import AsyncOpenAI

    async with AsyncOpenAI(base_url=url, api_key="none", max_retries=0, timeout=600) as client:

        async def ask() -> str:
            answer = await client.chat.completions.create(**BODY)
            return answer.choices[0].message.content or ""

        return await asked(ask, at_once, completions)


class Watch:
    """Observes a run, and measures from its first commit, with which it has indexed the corpus, to the last one. Until
    then nearly all are received, too. In the middle of a busy run more are received than committed.
    """

    def __init__(self, last: int) -> None:
        self.commits, self.last, self.spent, self.found = 0, last, Spent(), {}

    def phase(self, text: str) -> None: ...

    def tick(self) -> None: ...

    def fetching(self, progress: object) -> None: ...

    def began(self, _recipe: object, _run: object) -> None: ...

    def committed(self, _events: object) -> None:
        self.commits += 1
        if self.commits == 1:
            self.spent.begin()
        elif self.commits == self.last:
            self.found = self.spent.end(self.last - 1)


async def ours(url: str, at_once: int, completions: int, examples: int, before: list[str]) -> dict[str, float]:
    from explore_async.running.start import run
    from explore_async.settings.run_settings import RunSettings

    settings = RunSettings.model_validate(
        {
            "domains": [
                {
                    "name": "Answer questions",
                    "description": "word " * 450,
                    "examples": [{"instruction": text, "output": "fine"} for text in before],
                }
            ],
            "exploration": {"depth": 0},
            "generation": {"per_request": examples, "demonstrations": 2},
            "targets": {"per_task": completions * examples},
            "window": 4 * at_once,
            "operation": {"endpoints": [{"url": url, "concurrency": at_once}]},
        }
    )
    watch = Watch(completions)
    with tempfile.TemporaryDirectory() as folder:
        result = await run(settings, Path(folder, "run"), observer=watch, tune_collector=True)
        counts = result.stats.examples
        assert counts.kept > 0.5 * completions * examples, counts
        assert result.stats.endpoints is not None
        assert result.stats.endpoints.failed_attempts == 0
    return watch.found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--in-flight", type=int, nargs="+", default=[64, 512, 2048])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    import numpy as np

    from rouge_kernels import warm_up

    warm_up()  # while they are loaded answers would come that nothing counts
    before = drawn(np.random.default_rng(0), KEPT_BEFORE)
    rows = []
    for examples in (1, 10):
        for at_once in arguments.in_flight:
            rows += compared(at_once, examples, arguments.rounds, before)
    if arguments.out:
        plot(rows, arguments.out.with_suffix(".svg"))
    report({"machine": machine("aiohttp", "openai"), "kept_before": KEPT_BEFORE, "rows": rows}, arguments.out)


def compared(at_once: int, examples: int, rounds: int, before: list[str]) -> list[dict[str, Any]]:
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(there, examples), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{here.recv()}/v1"
    completions = max(2000, 12 * at_once)
    few = max(600, 2 * at_once)  # of openai: it takes ten times as long
    methods: dict[str, Callable[[], Awaitable[dict[str, float]]]] = {
        "bare": lambda: bare(url, at_once, completions),
        "ours": lambda: ours(url, at_once, completions, examples, before),
        "openai": lambda: by_openai(url, at_once, few),
    }
    found: dict[str, list[dict[str, float]]] = {name: [] for name in methods}
    try:
        for _ in range(rounds):
            for name, method in methods.items():
                found[name].append(asyncio.run(method()))
    finally:
        server.terminate()
        server.join()
    rows = []
    for name, figures in found.items():
        ratio = statistics.median(b["cpu_us"] / a["cpu_us"] for a, b in zip(figures, found["bare"], strict=True))
        rows.append(
            {
                "examples": examples,
                "in_flight": at_once,
                "method": name,
                "per_second": round(statistics.median(one["per_second"] for one in figures)),
                "cpu_us": round(statistics.median(one["cpu_us"] for one in figures)),
                "cpu_us_range": [round(min(o["cpu_us"] for o in figures)), round(max(o["cpu_us"] for o in figures))],
                "share_of_bare": round(ratio, 3),
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    return rows


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    from plots import panels, save

    for axes, examples in zip(panels(2, "CPU time of the client for a completion"), (1, 10), strict=True):
        for offset, name in enumerate(("bare", "ours", "openai")):
            mine = [row for row in rows if (row["examples"], row["method"]) == (examples, name)]
            axes.bar([at + 0.27 * offset for at in range(len(mine))], [row["cpu_us"] for row in mine], 0.25, label=name)
        axes.set_xticks([at + 0.27 for at in range(len(mine))], [f"{row['in_flight']:,}" for row in mine])
        axes.set_yscale("log")
        axes.set_title(f"{examples} example{'s' if examples > 1 else ''} an answer", fontsize=9)
        axes.set_xlabel("requests in flight")
        axes.set_ylabel("microseconds")
        axes.legend()
    save(path)


if __name__ == "__main__":
    main()
