"""A training script for TRL, for an exported folder. Pure."""

from __future__ import annotations

FOR_SHAPES = ("messages", "prompt-completion")
"""The shapes that TRL's SFTTrainer takes as they are."""

_SCRIPT = '''\
"""Fine-tune a chat model on the data beside this file: pip install "trl[peft]>=1.0", then

    python train.py --model_name_or_path MODEL --output_dir OUT
    python train.py --model_name_or_path MODEL --only_count true      # says what is too long, and trains nothing
    python train.py --model_name_or_path MODEL --output_dir OUT --use_peft true --learning_rate 2e-4

Every option of TRL's SFTConfig and ModelConfig can be given; --help lists them. The defaults below are those of the
Explore-Instruct paper (learning rate 2e-5, batches of 128, 3 epochs, 512 tokens, cosine with a warm-up of 3 %). The
model learns the answers alone. On processors a batch of 128 takes long: --gradient_accumulation_steps 1 makes it 8.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # else TRL tells a server about each training

import torch
from datasets import Dataset, load_dataset
from transformers import AutoTokenizer
from trl import ModelConfig, SFTConfig, SFTTrainer, TrlParser, get_peft_config, get_quantization_config


@dataclass
class Training(SFTConfig):
    output_dir: str = "trained"
    learning_rate: float = 2e-5
    num_train_epochs: float = 3
    per_device_train_batch_size: int = 8
    gradient_accumulation_steps: int = 16
    max_length: int = 512
    lr_scheduler_type: str = "cosine"
    warmup_steps: float = 0.03  # below 1: a share of all steps
    eval_strategy: str = "no"
    use_cpu: bool = not torch.accelerator.is_available()
    bf16: bool = torch.cuda.is_available()
    gradient_checkpointing: bool = torch.accelerator.is_available()
    only_count: bool = field(default=False, metadata={"help": "Say what is too long for max_length, and stop."})


def answers_of(row):
    """A row for each answer in a conversation, with all that was said before it as the prompt."""
    more = {name: value for name, value in row.items() if name != "messages"}
    return [
        {"prompt": row["messages"][:at], "completion": [turn], **more}
        for at, turn in enumerate(row["messages"])
        if turn["role"] == "assistant"
    ]


def by_answers(data):
    """The same rows with a prompt and a completion each."""
    if "messages" not in data.column_names:
        return data
    return Dataset.from_list([answer for row in data for answer in answers_of(row)])


def count_tokens(row, tokenizer):
    """Tokens of the prompt of a row, and of all of it."""
    messages, at = [*row["prompt"], *row["completion"]], len(row["prompt"])

    def tokens(part, prompting):
        text = tokenizer.apply_chat_template(
            part, tools=row.get("tools"), tokenize=False, add_generation_prompt=prompting
        )
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    return tokens(messages[:at], True), tokens(messages, False)


def report_cuts(counts, max_length):
    """A text on the rows that are longer than max_length."""
    total = len(counts)
    cut = sum(whole > max_length for _, whole in counts)
    lost = sum(prompt >= max_length for prompt, _ in counts)
    if not cut:
        return f"All {total:,} rows fit into max_length {max_length:,}."
    lines = [
        f"{cut:,} of {total:,} rows are longer than max_length {max_length:,}. Their end is cut off, and with it the",
        "mark that ends the answer, so that the model does not learn to stop there.",
    ]
    if lost:
        lines.append(f"{lost:,} of them have no token of their answer left: TRL leaves these out.")
    longest, length, others = max(whole for _, whole in counts), max_length, []
    while length < longest:
        length *= 2
        others.append(f"--max_length {length} cuts {sum(whole > length for _, whole in counts):,}")
    return "\\n".join([*lines, f"The longest row has {longest:,} tokens: {', '.join(others)}."])


if __name__ == "__main__":
    training, model = TrlParser((Training, ModelConfig)).parse_args_and_config()
    data = {name: by_answers(rows) for name, rows in load_dataset(str(Path(__file__).parent)).items()}
    template = training.chat_template_path or model.model_name_or_path
    revision = None if training.chat_template_path else model.model_revision
    trust = any(getattr(options, "trust_remote_code", False) for options in (training, model))  # TRL has moved it
    tokenizer = AutoTokenizer.from_pretrained(template, revision=revision, trust_remote_code=trust)
    if tokenizer.chat_template is None:
        raise SystemExit(f"{template} has no chat template: take a chat model, or give --chat_template_path CHAT_MODEL")
    if training.max_length is not None:
        for name, rows in data.items():
            counts = [count_tokens(row, tokenizer) for row in rows]
            print(f"{name}: {report_cuts(counts, training.max_length)}", flush=True)
    if training.only_count:
        raise SystemExit(0)
    quantization = get_quantization_config(model)
    training.model_init_kwargs = {
        "revision": model.model_revision,
        "trust_remote_code": trust,
        "attn_implementation": model.attn_implementation,
        "dtype": model.dtype,
        **({} if quantization is None else {"quantization_config": quantization}),
        **(training.model_init_kwargs or {}),
    }
    trainer = SFTTrainer(
        model=model.model_name_or_path,
        args=training,
        train_dataset=data["train"],
        eval_dataset=data.get("validation"),
        peft_config=get_peft_config(model),
    )
    trainer.train()
    trainer.save_model(training.output_dir)
    (Path(training.output_dir) / "training_args.bin").unlink(missing_ok=True)  # code of Python, which no server needs
'''


def training_script(*, validated: bool) -> str:
    """The script. `validated`: there is a validation part to evaluate on after each epoch."""
    if not validated:
        return _SCRIPT
    return _SCRIPT.replace('eval_strategy: str = "no"', 'eval_strategy: str = "epoch"')
