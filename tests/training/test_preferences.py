"""Preference pairs that `judge` made, in TRL's DPOTrainer: run by `make test-train`."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.cli import environment, explore
from support.misbehaving import Behaviour, MisbehavingServer, answer

SMALL = os.environ.get("EXPLORE_ASYNC_TRAIN_MODEL", "")
"""A folder with SmolLM2-135M-Instruct for transformers."""

pytestmark = [
    pytest.mark.train,
    pytest.mark.skipif(not SMALL, reason="`make test-train` has what this needs"),
]

DPO = """
import json, sys
from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

pairs, model, out = sys.argv[1:]
settings = DPOConfig(
    out, max_steps=6, per_device_train_batch_size=2, learning_rate=1e-3, logging_steps=1, max_length=128, use_cpu=True,
    bf16=False, gradient_checkpointing=False, report_to="none", save_strategy="no", lr_scheduler_type="constant",
)
data = load_dataset("json", data_files=pairs, split="train")
trainer = DPOTrainer(
    AutoModelForCausalLM.from_pretrained(model), args=settings, train_dataset=data,
    processing_class=AutoTokenizer.from_pretrained(model), peft_config=LoraConfig(r=8, target_modules="all-linear"),
)
trainer.train()
print(json.dumps([line for line in trainer.state.log_history if "loss" in line]))
"""


def write(path: Path, name: str, count: int) -> Path:
    lines = ({"instruction": f"What is {n} and {n}?", "output": f"{name} It makes {2 * n}."} for n in range(count))
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def prefer_short(body: dict[str, Any], _number: int) -> Behaviour:
    """The judge takes the answer of the first set, in both orders."""
    shown = body["messages"][1]["content"]
    first = shown.partition("<first_answer>")[2].lstrip()
    text = json.dumps({"reason": "It is to the point.", "verdict": "first" if first.startswith("Sure.") else "second"})
    return Behaviour(body=answer(text))


@pytest.mark.timeout(900)
async def test_judged_pairs_train_in_trls_dpo_trainer(tmp_path: Path) -> None:
    """What `judge` and `export --format preference` write is taken by DPOTrainer as it is: the loss begins where model
    and reference agree, at the logarithm of 2, and falls, and the chosen answers gain on the rejected ones.
    """
    good, bad = (
        write(tmp_path / "good.jsonl", "Sure.", 12),
        write(tmp_path / "bad.jsonl", "I would rather not say.", 12),
    )
    async with MisbehavingServer(prefer_short) as server:
        judged = await explore("judge", good, bad, "--out", tmp_path / "judged", "--endpoint", server.url, "--quiet")
    assert judged.code == 0, judged.stderr
    pairs = tmp_path / "pairs.jsonl"
    exported = await explore("export", tmp_path / "judged", "--out", pairs, "--format", "preference")
    assert exported.code == 0, exported.stderr
    rows = [json.loads(line) for line in pairs.read_text().splitlines()]
    assert len(rows) == 12
    assert all(row["chosen"][0]["content"].startswith("Sure.") for row in rows)
    assert all(row["rejected"][0]["content"].startswith("I would") for row in rows)
    done = subprocess.run(
        [sys.executable, "-c", DPO, pairs, SMALL, tmp_path / "dpo"],
        env={**environment(OMP_NUM_THREADS="2"), "PYTHONWARNINGS": "ignore", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    steps = json.loads(done.stdout.splitlines()[-1])
    assert len(steps) == 6
    assert steps[0]["loss"] == pytest.approx(math.log(2), abs=1e-3)
    assert steps[-1]["loss"] < steps[0]["loss"] - 0.05
    assert steps[-1]["rewards/margins"] > 0
