"""Training for real: run by `make test-train`, which has torch. A model of two layers with random weights shows what does
not depend on the size of a model; the small model of the suite shows that it learns.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from support.cli import ROOT, environment

SMALL = os.environ.get("EXPLORE_ASYNC_TRAIN_MODEL", "")
"""A folder with SmolLM2-135M-Instruct for transformers."""

pytestmark = [
    pytest.mark.train,
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # of libraries about each other
    pytest.mark.skipif(not SMALL, reason="`make test-train` has what this needs"),
]
QUICK = ("--batch-size", "4", "--learning-rate", "0.01", "--every", "3", "--validation", "0.1")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that takes milliseconds a step, with the tokenizer of the small one."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = AutoTokenizer.from_pretrained(SMALL)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=256, tie_word_embeddings=True, **sizes)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Instructions that share few words, with answers that share many."""
    path = tmp_path_factory.mktemp("data") / "rows.jsonl"
    lines = ({"instruction": f"say{n} tell{n} name{n} the colour", "output": f"The colour is {'red' if n % 2 else 'blue'}, and nothing else."} for n in range(80))  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def run(*arguments: object, prefix: tuple[str, ...] = (sys.executable, "-m")) -> subprocess.Popen[str]:
    command = [*prefix, "explore_async", *map(str, arguments)]
    env = {**environment(OMP_NUM_THREADS="2"), "PYTHONWARNINGS": "ignore"}
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def done(process: subprocess.Popen[str], code: int = 0) -> tuple[dict[str, Any], str]:
    stdout, stderr = process.communicate()
    assert "Traceback" not in stderr, stderr
    assert process.returncode == code, stderr
    return (json.loads(stdout.splitlines()[-1]) if stdout.strip() else {}), stderr


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture(scope="module")
def trained(tiny: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    """A training by LoRA that nothing disturbed."""
    out = tmp_path_factory.mktemp("trained") / "out"
    return out, *done(run("train", rows, "--model", tiny, "--out", out, "--steps", 12, *QUICK, "--json"))


def test_the_folder_is_a_model_with_a_card(trained: tuple[Path, dict[str, Any], str], tiny: Path) -> None:
    """It has what servers read and nothing that only Python can, no checkpoint is left, and the held-out loss, measured
    before, during and after, fell.
    """
    out, result, told = trained
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja", "README.md", "training.json"} <= contents(out).keys()  # fmt: skip
    assert not [path for path in out.rglob("*") if path.suffix in {".bin", ".pt", ".pth"} or path.is_dir()]
    held_out = result["held_out"]
    assert [line["step"] for line in held_out["during"]] == [0, 3, 6, 9, 12]
    assert held_out["after"]["value"] < held_out["before"]["value"] - 0.1
    assert held_out["difference"]["interval"][1] < 0
    assert "held-out loss at step 0 of 12" in told
    assert f"| 12 | {held_out['after']['value']:.4f} |" in (out / "README.md").read_text()
    assert json.loads((out / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]
    assert contents(out)["model.safetensors"] != contents(tiny)["model.safetensors"]


def test_likelihood_finds_what_the_training_measured(
    trained: tuple[Path, dict[str, Any], str], tiny: Path, rows: Path, tmp_path: Path
) -> None:
    """The merged model, read from its folder, has the loss that the training ended with, on the same rows; the model that
    it came from has the one before; their difference is that of the training.
    """
    out, result, _ = trained
    from explore_async.curation.collections.open import open_collection
    from explore_async.training.examples import training_rows

    held_out = training_rows(open_collection(rows), share=0.1, held_out=None, seed=0, marked="not-bad")[1]
    assert held_out is not None
    file = tmp_path / "held-out.jsonl"
    file.write_bytes(b"".join(turns.line for turns in held_out.turns))
    found, _ = done(run("likelihood", file, "--model", tiny, "--model", out, "--json"))
    before, after = (one["loss"] for one in found["models"])
    assert before["value"] == pytest.approx(result["held_out"]["before"]["value"], abs=2e-3)
    assert after["value"] == pytest.approx(result["held_out"]["after"]["value"], abs=2e-3)
    assert found["comparisons"][0]["loss"]["value"] == pytest.approx(
        result["held_out"]["difference"]["value"], abs=2e-3
    )
    assert found["rows"] == result["held_out"]["rows"]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_training_that_is_killed_goes_on_and_ends_with_the_same_bytes(
    how: signal.Signals, trained: tuple[Path, dict[str, Any], str], tiny: Path, rows: Path, tmp_path: Path
) -> None:
    """By kill -9 after a checkpoint, or by SIGTERM, which first saves one: the same command goes on from there."""
    command = ("train", rows, "--model", tiny, "--out", tmp_path / "out", "--steps", 12, *QUICK, "--json")
    process = run(*command)
    while not (tmp_path / "out" / "checkpoints" / "checkpoint-3" / "complete").exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    process.send_signal(how)
    _, stderr = process.communicate()
    assert process.returncode == (-9 if how == signal.SIGKILL else 143)
    if how == signal.SIGTERM:
        assert "the same command goes on from there" in stderr
    result, told = done(run(*command))
    assert "goes on from step" in told
    assert contents(tmp_path / "out")["model.safetensors"] == contents(trained[0])["model.safetensors"]
    assert result["held_out"] == trained[1]["held_out"]
    again, told = done(run(*command))
    assert "has ended before" in told
    assert again == result
    _, told = done(run(*command, "--seed", 1), code=2)
    assert "seed" in told


def test_only_answers_are_labels_for_the_trainer(tiny: Path, rows: Path) -> None:
    """What TRL's trainer gives to the model: labels are the tokens of answers with their end marks, and -100 elsewhere."""
    from trl import SFTConfig, SFTTrainer

    from explore_async.training import models
    from explore_async.training.examples import Turns
    from explore_async.training.tokens import encode
    from explore_async.training.tune import _dataset

    tokenizer = models.load_tokenizer(str(tiny), "")
    talks = [
        [("user", "Add 1 and 2, please."), ("assistant", "It is 3."), ("user", "And 3?"), ("assistant", "é 字 6")],
        [("system", "Be kind."), ("user", "Hi"), ("assistant", "Hello")],
    ]
    turns = [
        Turns([{"role": role, "content": text} for role, text in talk], tuple(n for n, (role, _) in enumerate(talk) if role == "assistant"))
        for talk in talks
    ]  # fmt: skip
    data = _dataset(list(encode(turns, tokenizer)))
    arguments = SFTConfig(output_dir="unused", max_length=None, use_cpu=True, bf16=False, report_to="none")
    trainer = SFTTrainer(
        model=models.load_model(str(tiny), "", "float32"),
        args=arguments,
        train_dataset=data,
        processing_class=tokenizer,
    )
    batch = trainer.data_collator([trainer.train_dataset[number] for number in range(2)])
    for ids, labels, talk in zip(batch["input_ids"], batch["labels"], talks, strict=True):
        learned = tokenizer.decode(ids[labels != -100])
        assert learned == "".join(f"{text}<|im_end|>\n" for role, text in talk if role == "assistant")
        assert (labels[labels != -100] == ids[labels != -100]).all()


def test_the_paper_preset_trains_all_weights_and_serves_its_template(tiny: Path, rows: Path, tmp_path: Path) -> None:
    """On a model without a chat template, which the chat preset refuses and likelihood says so of."""
    base = tmp_path / "base"
    base.mkdir()
    for name, body in contents(tiny).items():
        if name != "chat_template.jinja":
            (base / name).write_bytes(body)
    out = tmp_path / "out"
    _, told = done(run("train", rows, "--model", base, "--out", out), code=2)
    assert "has no chat template" in told
    options = ("--preset", "paper", "--steps", 2, "--every", 2, "--batch-size", 8, "--validation", 0)
    result, _ = done(run("train", rows, "--model", base, "--out", out, *options, "--json"))
    assert result["held_out"] is None
    assert "### Response:" in (out / "chat_template.jinja").read_text()
    _, told = done(run("likelihood", rows, "--model", base, "--model", out, "--json"))
    assert "has no chat template: Alpaca's is taken" in told


def test_an_adapter_is_saved_by_itself(tiny: Path, rows: Path, tmp_path: Path) -> None:
    """With the name of its model in it, as PEFT reads it."""
    from peft import AutoPeftModelForCausalLM

    out = tmp_path / "out"
    done(
        run(
            "train",
            rows,
            "--model",
            tiny,
            "--out",
            out,
            "--adapter",
            "--steps",
            1,
            "--validation",
            0,
            "--batch-size",
            2,
        )
    )
    assert "model.safetensors" not in contents(out)
    assert AutoPeftModelForCausalLM.from_pretrained(out).peft_config["default"].base_model_name_or_path == str(tiny)


def test_two_processes_train_one_model(trained: tuple[Path, dict[str, Any], str], tiny: Path, rows: Path, tmp_path: Path) -> None:  # fmt: skip
    """As `accelerate launch` starts them: they share each batch, measure the same loss, and write one folder."""
    launch = (
        *(sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1"),
        *("--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", str(free_port()), "-m"),
    )
    out = tmp_path / "out"
    command = ("train", rows, "--model", tiny, "--out", out, "--steps", 12, *QUICK, "--json")
    result, told = done(run(*command, prefix=launch))
    assert told.count("held-out loss at step 0 of 12") == 1
    assert result["held_out"]["before"] == trained[1]["held_out"]["before"]
    assert result["held_out"]["after"]["value"] == pytest.approx(trained[1]["held_out"]["after"]["value"], abs=0.05)
    assert "model.safetensors" in contents(out)
    assert done(run(*command, prefix=launch))[0] == result  # it has ended, and no process waits for another


def test_a_dry_run_counts_and_writes_nothing(tiny: Path, rows: Path, tmp_path: Path) -> None:
    """Steps by the rows that are left when those near to a held-out one are not."""
    held_out = tmp_path / "held-out.jsonl"
    held_out.write_text(rows.read_text().splitlines()[5] + "\n")
    command = ("train", rows, "--model", tiny, "--out", tmp_path / "out", "--held-out", held_out, "--batch-size", 79, "--epochs", 2)  # fmt: skip
    result, told = done(run(*command, "--dry-run", "--json"))
    assert "79 rows to train on, 1 held out; 1 left out: near to a held-out one" in told
    assert result["steps"] == 2
    assert not (tmp_path / "out").exists()


def test_wrong_settings_of_the_trainer_are_said(tiny: Path, rows: Path, tmp_path: Path) -> None:
    """A name that TRL does not have, one that an option sets, and rows that are too long: code 2 with the reason."""
    command = ("train", rows, "--model", tiny, "--out", tmp_path / "out", "--steps", 1)
    for options, said in (
        (("--set", "odd=1"), "no such setting"),
        (("--set", "max_steps=1"), "other options"),
        (("--max-length", 20), "are longer than --max-length 20"),
        (("--max-length", 2000), "the model takes 256 tokens at most"),
    ):
        _, told = done(run(*command, *options), code=2)
        assert said in told


@pytest.mark.parametrize("shape", ["messages", "prompt-completion"])
def test_the_exported_script_trains_on_this_machine(shape: str, tiny: Path, rows: Path, tmp_path: Path) -> None:
    """With no option that says that there is no GPU; with LoRA; it leaves no file that only Python reads."""
    folder, out = tmp_path / "data", tmp_path / "out"
    done(run("export", rows, "--out", folder, "--format", shape))
    options = ("--model_name_or_path", tiny, "--output_dir", out, "--max_steps", 1, "--use_peft", "true", "--gradient_accumulation_steps", 1, "--report_to", "none")  # fmt: skip
    command = [sys.executable, str(folder / "train.py"), *map(str, options)]
    told = subprocess.run(command, env=environment(OMP_NUM_THREADS="2"), capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    assert "All 80 rows fit into max_length 512." in told.stdout
    assert "adapter_model.safetensors" in contents(out)
    assert "training_args.bin" not in contents(out)


def test_the_rest_of_the_program_loads_no_torch() -> None:
    """Where it is installed, too: commands on data import neither torch nor what trains by it."""
    program = "import sys; from support.cli import in_process; in_process('stats', 'x'); in_process('export', 'x', '--out', 'y'); in_process('--help'); print(sorted({'torch', 'transformers', 'trl', 'peft'} & sys.modules.keys()))"  # fmt: skip
    path = os.pathsep.join(map(str, (ROOT, ROOT / "kernels", ROOT / "tests")))
    env = {**environment(), "PYTHONPATH": path}
    told = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


def test_the_small_model_learns_and_its_folder_answers(rows: Path, tmp_path: Path) -> None:
    """SmolLM2-135M after ten steps: the held-out loss fell beyond its interval, and `transformers serve` answers from the
    folder in the protocol that all of our commands speak.
    """
    out = tmp_path / "out"
    options = ("--steps", 10, "--every", 10, "--batch-size", 4, "--validation", 0.1)
    result, _ = done(run("train", rows, "--model", SMALL, "--out", out, *options, "--json"))
    assert result["held_out"]["difference"]["interval"][1] < 0
    port = free_port()
    command = [
        Path(sys.executable).with_name("transformers"),
        "serve",
        str(out),
        "--device",
        "cpu",
        "--port",
        str(port),
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            assert "colour" in answer(port, str(out), server)
        finally:
            server.terminate()


def answer(port: int, model: str, server: subprocess.Popen[bytes]) -> str:
    """The text of a completion, once the server is up."""
    asked = {"model": model, "max_tokens": 12, "temperature": 0, "messages": [{"role": "user", "content": "say81 tell81 name81 the colour"}]}  # fmt: skip
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions", json.dumps(asked).encode(), {"Content-Type": "application/json"}
    )
    while True:
        assert server.poll() is None
        try:
            with urllib.request.urlopen(request) as response:  # noqa: S310 - our own server
                return json.loads(response.read())["choices"][0]["message"]["content"]
        except urllib.error.URLError as error:
            if isinstance(error, urllib.error.HTTPError):
                raise
            time.sleep(0.2)
