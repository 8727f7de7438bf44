"""A training script for TRL, for an exported folder. Pure."""

from __future__ import annotations

FOR_SHAPES = ("messages", "prompt-completion")
"""The shapes that TRL's SFTTrainer takes as they are."""

_SCRIPT = '''\
"""Fine-tune a model on the data beside this file: pip install "trl>=1.0", then

    python train.py --model_name_or_path MODEL --output_dir OUT

Every option of TRL's SFTConfig and ModelConfig can be given; --help lists them. The defaults below are those of the
Explore-Instruct paper (learning rate 2e-5, batches of 128, 3 epochs, 512 tokens, cosine with a warm-up of 3 %).
"""

from dataclasses import dataclass
from pathlib import Path

from datasets import load_dataset
from trl import ModelConfig, SFTConfig, SFTTrainer, TrlParser


@dataclass
class Training(SFTConfig):
    learning_rate: float = 2e-5
    num_train_epochs: float = 3
    per_device_train_batch_size: int = 8
    gradient_accumulation_steps: int = 16
    max_length: int = 512
    lr_scheduler_type: str = "cosine"
    warmup_steps: float = 0.03  # below 1: a share of all steps
    eval_strategy: str = "no"


if __name__ == "__main__":
    training, model = TrlParser((Training, ModelConfig)).parse_args_and_config()
    data = load_dataset(str(Path(__file__).parent))
    trainer = SFTTrainer(
        model=model.model_name_or_path,
        args=training,
        train_dataset=data["train"],
        eval_dataset=data.get("validation"),
    )
    trainer.train()
    trainer.save_model(training.output_dir)
'''


def training_script(*, validated: bool) -> str:
    """The script. `validated`: there is a validation part to evaluate on after each epoch."""
    if not validated:
        return _SCRIPT
    return _SCRIPT.replace('eval_strategy: str = "no"', 'eval_strategy: str = "epoch"')
