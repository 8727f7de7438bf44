"""A small exploration by the real vLLM, wherever that runs: EXPLORE_ASYNC_VLLM_MODEL names the folder of a model."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

MODEL = "EXPLORE_ASYNC_VLLM_MODEL"


@pytest.mark.vllm
@pytest.mark.timeout(1800)
@pytest.mark.skipif(MODEL not in os.environ, reason=f"{MODEL} names no model")
def test_a_run_with_real_vllm(tmp_path: Path) -> None:
    """`run` starts vLLM, explores and generates with guided decoding, priorities and a limit that it finds itself, and
    stops it; the engine's own metrics, cached tokens and prefix hits are in the statistics. Run again, it asks nothing.
    """
    slots = 8
    arguments = os.environ.get("EXPLORE_ASYNC_VLLM_ARGS", "").split()
    server = {
        "engine": "vllm",
        "model": os.environ[MODEL],
        "slots": slots,
        "context_tokens": 2048,
        "vllm": {"dtype": "float32", "args": arguments},
    }
    command = [
        *(sys.executable, "-m", "explore_async", "run", "brainstorming", "--out", str(tmp_path / "run"), "--json"),
        *("--set", f"operation.server={orjson.dumps(server).decode()}", "--set", "exploration.breadth=[2,1]"),
        *("--set", "generation.per_request=2", "--set", "sampling.generation.max_tokens=160"),
        *("--set", "sampling.exploration.max_tokens=120", "--max-examples", "6", "--token-budget", "60000"),
    ]
    first = subprocess.run(command, capture_output=True, text=True, check=False)
    assert first.returncode in {0, 7}, first.stderr  # a small model may write nothing that is kept
    stats = orjson.loads(first.stdout.splitlines()[-1])
    (endpoint,) = stats["endpoints"]["endpoints"]
    assert endpoint["answered"] > 5
    assert endpoint["cached_tokens"] > 0
    assert endpoint["prefix_hits"] > 0
    assert endpoint["running"] is not None
    assert endpoint["peak_in_flight"] <= slots
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == first.returncode
    assert orjson.loads(again.stdout.splitlines()[-1])["this_time"]["asked"] == 0
