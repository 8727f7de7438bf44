"""Programs of others against the simulated server: `vllm bench serve`, GuideLLM and lm-evaluation-harness, in environments
that have them.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

VLLM = os.environ.get("EXPLORE_ASYNC_VLLM_PYTHON", sys.executable)
GUIDELLM = os.environ.get("EXPLORE_ASYNC_GUIDELLM_PYTHON", sys.executable)
LM_EVAL = os.environ.get("EXPLORE_ASYNC_LM_EVAL_PYTHON", sys.executable)
PAGE = Path(__file__).parents[1] / "docs" / "evaluation.md"
REQUESTS, PROMPT_TOKENS, OUTPUT_TOKENS = 40, 60, 30
BENCH_SERVE = """
from vllm.benchmarks.serve import add_cli_args, main
from vllm.utils.argparse_utils import FlexibleArgumentParser

parser = FlexibleArgumentParser()
add_cli_args(parser)
main(parser.parse_args())
"""
"""`vllm bench serve` without the command, which some builds for a CPU do not have."""
TOKENIZER = """
import sys
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

words = [f"word{number}" for number in range(2000)]
tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(["<unk>", *words])}, "<unk>"))
tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>").save_pretrained(sys.argv[1])
open(sys.argv[1] + "/config.json", "w").write('{"model_type": "gpt2"}')
"""
"""A tokenizer with a token for each word: both benchmarks want one to make prompts with, and none can be fetched."""


def has(python: str, module: str) -> bool:
    return subprocess.run([python, "-c", f"import {module}"], capture_output=True, check=False).returncode == 0


def run(python: str, *arguments: str | Path, folder: Path | None = None) -> str:
    """What the command says. The hub is out of bounds, so that nothing is fetched in silence."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "COLUMNS": "300", "PYTHONUNBUFFERED": "1"}
    done = subprocess.run(
        [python, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=600,
        cwd=folder,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def url() -> Iterator[str]:
    """The root of a simulated server that is quicker than any GPU, so that a benchmark takes seconds."""
    command = [sys.executable, "-m", "explore_async", "serve", "--engine", "simulated", "--port", "0"]
    command += ["--profile", "h100-qwen3-0.6b"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            yield next(found[1] for line in server.stderr if (found := re.search(r"(http://\S+)/v1", line)))
        finally:
            server.terminate()


@pytest.mark.clients
@pytest.mark.timeout(900)
@pytest.mark.parametrize("backend", ["openai-chat", "openai"])
def test_vllm_bench_serve(url: str, tmp_path: Path, backend: str) -> None:
    """Every request succeeds with the tokens that were asked for, and the times add up."""
    if not has(VLLM, "vllm.benchmarks.serve"):
        pytest.skip("EXPLORE_ASYNC_VLLM_PYTHON has no vLLM")
    run(VLLM, "-c", TOKENIZER, tmp_path / "tokenizer")
    path = {"openai-chat": "/v1/chat/completions", "openai": "/v1/completions"}[backend]
    said = run(
        VLLM,
        *("-c", BENCH_SERVE, "--backend", backend, "--endpoint", path, "--base-url", url, "--tokenizer", tmp_path / "tokenizer"),
        *("--dataset-name", "random", "--input-len", str(PROMPT_TOKENS), "--output-len", str(OUTPUT_TOKENS)),
        *("--num-prompts", str(REQUESTS), "--max-concurrency", "8", "--ignore-eos", "--save-result"),
        *("--result-dir", tmp_path, "--result-filename", "result.json"),
    )  # fmt: skip
    assert re.search("Failed requests: +0", said), said
    assert "unavailable" not in said, said  # of /tokenize, by which the prompts get their length
    result = orjson.loads((tmp_path / "result.json").read_bytes())
    assert (result["completed"], result["failed"]) == (REQUESTS, 0)
    assert result["total_output_tokens"] == REQUESTS * OUTPUT_TOKENS
    assert 0 < result["mean_ttft_ms"] < result["duration"] * 1000
    assert result["mean_tpot_ms"] > 0


@pytest.mark.clients
@pytest.mark.timeout(900)
def test_guidellm(url: str, tmp_path: Path) -> None:
    """Every request succeeds with the tokens that were asked for, and GuideLLM warns of nothing but its own delays."""
    if not has(GUIDELLM, "guidellm"):
        pytest.skip("EXPLORE_ASYNC_GUIDELLM_PYTHON has no GuideLLM")
    run(GUIDELLM, "-c", TOKENIZER, tmp_path / "tokenizer")
    run(
        GUIDELLM,
        *("-m", "guidellm", "run", "--backend", f"kind=openai_http,target={url},request_format=/v1/chat/completions"),
        *("--data", f"kind=synthetic_text,prompt_tokens={PROMPT_TOKENS},output_tokens={OUTPUT_TOKENS}"),
        *("--profile", "kind=concurrent,streams=4", "--constraint", f"kind=max_requests,count={REQUESTS}"),
        *("--tokenizer", f"kind=huggingface_auto,model={tmp_path / 'tokenizer'}"),
        *("--output", f"kind=json,path={tmp_path / 'result.json'}"),
    )
    (benchmark,) = orjson.loads((tmp_path / "result.json").read_bytes())["benchmarks"]
    metrics = benchmark["metrics"]
    assert all(warning["code"].startswith("generation_delay") for warning in benchmark["warnings"]), benchmark[
        "warnings"
    ]
    assert metrics["request_totals"] == {"successful": REQUESTS, "errored": 0, "incomplete": 0, "total": REQUESTS}
    assert metrics["output_token_count"]["successful"]["mean"] == OUTPUT_TOKENS
    assert 0 < metrics["time_to_first_token_ms"]["successful"]["mean"] < 1000 * benchmark["duration"]


@pytest.mark.clients
@pytest.mark.timeout(900)
def test_lm_evaluation_harness(url: str, tmp_path: Path) -> None:
    """The command and the task of docs/evaluation.md, as they stand there but for the address and the model: each question
    is asked, and the report has its accuracy.
    """
    if not has(LM_EVAL, "lm_eval"):
        pytest.skip("EXPLORE_ASYNC_LM_EVAL_PYTHON has no lm-evaluation-harness")
    page = PAGE.read_text()
    (task,) = re.findall(r"```yaml\n(task: .*?)```", page, re.DOTALL)
    (call,) = re.findall(r"^    (lm_eval (?:.*\\\n)*.*)$", page, re.MULTILINE)
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "plants.yaml").write_text(task)
    questions = [{"question": f"What does plant {n} need?", "answer": "Water."} for n in range(10)]
    (tmp_path / "questions.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in questions))
    words = call.replace("\\\n", " ").replace("http://localhost:8000", url).replace("NAME", "simulated").split()
    said = run(LM_EVAL, "-m", *words, folder=tmp_path)
    assert "exact_match" in said
    (report,) = (tmp_path / "report").rglob("results_*.json")
    document = orjson.loads(report.read_bytes())
    (results,) = document["results"].values()
    assert 0 <= results["exact_match,none"] <= 1
    assert document["n-samples"]["plants"]["effective"] == len(questions)
