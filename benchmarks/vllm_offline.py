"""vLLM's offline engine for bench_vllm: settings as JSON in the first argument, then a line of questions in, a line out
with the output tokens a second.

A script of its own, since vLLM looks through all modules that its workers have loaded and stumbles over llvmlite's.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def main(setting: dict[str, Any], flags: list[str]) -> None:
    from vllm import LLM, SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    eager = "--enforce-eager" in flags
    engine = LLM(**setting, enforce_eager=eager, scheduling_policy="priority")
    print("answer ready", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        sampling = [
            SamplingParams(
                temperature=one["sampling"]["temperature"],
                top_p=one["sampling"]["top_p"],
                max_tokens=one["sampling"]["max_tokens"],
                seed=one["seed"],
                structured_outputs=StructuredOutputsParams(json=one["answer_schema"]["schema"]),
            )
            for one in asked
        ]
        began = time.perf_counter()
        outputs = engine.chat([list(one["messages"]) for one in asked], sampling, use_tqdm=False)
        seconds = time.perf_counter() - began
        tokens = sum(len(output.outputs[0].token_ids) for output in outputs)
        print(f"answer {tokens / seconds:.2f}", flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), sys.argv[2:])
