"""Makes a folder that vLLM serves of a model file in GGUF, which vLLM refuses: `make vllm-cpu` calls it.

The weights are what their quantization left of them, in bfloat16. Needs torch, transformers, gguf and accelerate.

    python benchmarks/convert_gguf.py MODEL.gguf FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from gguf import GGUFReader
from transformers import AutoModelForCausalLM, AutoTokenizer


def convert(file: Path, folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    read = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.bfloat16)
    fields = GGUFReader(file).fields
    config, generation = read.config, read.generation_config
    for name, key in {"eos": "eos_token_id", "bos": "bos_token_id", "pad": "padding_token_id"}.items():
        field = fields.get(f"tokenizer.ggml.{key}")
        token = field.contents() if field is not None else None
        setattr(config, f"{name}_token_id", token)
        setattr(generation, f"{name}_token_id", token)
    if not tokenizer.chat_template and "tokenizer.chat_template" in fields:
        tokenizer.chat_template = fields["tokenizer.chat_template"].contents()
    # transformers refuses to save what it read from GGUF, though these are plain numbers by now.
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    plain.load_state_dict(read.state_dict(), strict=True)
    plain.tie_weights()
    plain.generation_config = generation
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
