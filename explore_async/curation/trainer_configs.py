"""Configs of Axolotl and LLaMA-Factory for an exported folder: both run in it, once the model is named. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import orjson
import yaml

from explore_async.curation.export_files import AXOLOTL, DATASET_INFO, LLAMA_FACTORY, TRAIN, VALIDATION
from explore_async.curation.trainer_formats import PAIRS

_MODEL: Final = "MODEL"
"""Stands where a user names the model."""
_EPOCHS: Final = 3
_TAGS: Final = {
    "role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant",
    "system_tag": "system", "observation_tag": "tool",
}  # fmt: skip


def trainer_configs(shape: str, columns: Collection[str], *, validated: bool) -> dict[str, str]:
    """The texts of the configs by the names of their files; empty for a shape that these trainers do not read.

    `columns`: those of the rows. `validated`: there is a validation part to evaluate on after each epoch.
    """
    configs = {}
    if (reading := _axolotl_reads(shape, columns)) is not None:
        configs[AXOLOTL] = _yaml(_axolotl(reading, validated=validated))
    if (described := _described(shape, columns)) is not None:
        parts = {"train": TRAIN, **({"validation": VALIDATION} if validated else {})}
        info = {name: {"file_name": path, **described} for name, path in parts.items()}
        configs[DATASET_INFO] = orjson.dumps(info, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()
        configs[LLAMA_FACTORY] = _yaml(_llama_factory(pairs=shape in PAIRS, validated=validated))
    return configs


def left_out(shape: str, columns: Collection[str]) -> str:
    """A sentence where a config is missing because of the rows; else empty."""
    if shape != "alpaca" or _axolotl_reads(shape, columns) is not None:
        return ""
    return f"no {AXOLOTL}: Axolotl drops the system prompts of {shape} rows; --format messages keeps them, and has one"


def _axolotl_reads(shape: str, columns: Collection[str]) -> dict[str, Any] | None:
    """Its settings for rows of the shape. Its type for Alpaca's columns would drop a system prompt."""
    match shape:
        case "messages":
            return {"type": "chat_template", "field_messages": "messages"}
        case "sharegpt":
            mapping = {"role": "from", "content": "value"}
            return {"type": "chat_template", "field_messages": "conversations", "message_property_mappings": mapping}
        case "alpaca" if "system" not in columns:
            return {"type": "alpaca"}
    return None


def _axolotl(reading: dict[str, Any], *, validated: bool) -> dict[str, Any]:
    def part(path: str) -> list[dict[str, Any]]:
        return [{"path": path, "ds_type": "parquet", "split": "train", **reading}]

    return {
        "base_model": _MODEL,
        "datasets": part(TRAIN),
        **({"test_datasets": part(VALIDATION)} if validated else {}),
        "sequence_len": 2048,
        "adapter": "lora",
        "lora_r": 16,
        "lora_alpha": 32,
        "lora_target_linear": True,
        "micro_batch_size": 4,
        "gradient_accumulation_steps": 4,
        "num_epochs": _EPOCHS,
        "learning_rate": 0.0002,
        "lr_scheduler": "cosine",
        "bf16": "auto",
        "output_dir": "./trained",
    }


def _described(shape: str, columns: Collection[str]) -> dict[str, Any] | None:
    """The entry of dataset_info.json for rows of the shape: a column that it does not name is not read."""
    more = {name: name for name in ("tools", "system", "images") if name in columns}
    match shape:
        case "messages":
            return {"formatting": "sharegpt", "columns": {"messages": "messages", **more}, "tags": _TAGS}
        case "sharegpt":
            return {"formatting": "sharegpt", "columns": {"messages": "conversations", **more}}
        case "preference-sharegpt":
            pair = {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"}
            return {"formatting": "sharegpt", "ranking": True, "columns": {**pair, **more}}
        case "alpaca":
            return {"columns": {"prompt": "instruction", "query": "input", "response": "output", **more}}
    return None


def _llama_factory(*, pairs: bool, validated: bool) -> dict[str, Any]:
    return {
        "model_name_or_path": _MODEL,
        "template": "TEMPLATE",
        **({"stage": "dpo", "pref_beta": 0.1} if pairs else {"stage": "sft"}),
        "do_train": True,
        "finetuning_type": "lora",
        "lora_target": "all",
        "dataset_dir": ".",
        "dataset": "train",
        **({"eval_dataset": "validation", "eval_strategy": "epoch"} if validated else {}),
        "cutoff_len": 2048,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 4,
        "num_train_epochs": float(_EPOCHS),
        "learning_rate": 0.000005 if pairs else 0.0001,
        "lr_scheduler_type": "cosine",
        "bf16": True,
        "output_dir": "trained",
    }


def _yaml(document: dict[str, Any]) -> str:
    return yaml.safe_dump(document, sort_keys=False)
