"""A script for TRL that goes with an exported folder. Pure."""

from __future__ import annotations

FOR_SHAPES = ("messages", "prompt-completion")
"""The shapes that TRL's SFTTrainer takes as they are."""

_SCRIPT = '''\
"""Fine-tune a model on the data beside this file: pip install "trl>=0.20", then

    python train.py --model_name_or_path MODEL --output_dir OUT

Every option of TRL's SFTConfig and ModelConfig can be given; --help lists them. The settings below are those of the
Explore-Instruct paper (learning rate 2e-5, batches of 128, 3 epochs, 512 tokens, cosine with a warm-up of 3 %).
"""

from pathlib import Path

from datasets import load_dataset
from trl import ModelConfig, SFTConfig, SFTTrainer, TrlParser

if __name__ == "__main__":
    parser = TrlParser((SFTConfig, ModelConfig))
    parser.set_defaults(
        learning_rate=2e-5,
        num_train_epochs=3,
        per_device_train_batch_size=8,
        gradient_accumulation_steps=16,
        max_length=512,
        lr_scheduler_type="cosine",
        warmup_ratio=0.03,
    )
    training, model = parser.parse_args_and_config()
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
    """`validated`: whether there is a validation part to evaluate on after each epoch."""
    if not validated:
        return _SCRIPT
    return _SCRIPT.replace("        warmup_ratio", '        eval_strategy="epoch",\n        warmup_ratio')
