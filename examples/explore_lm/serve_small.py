"""Serves a folder with the small model, as it was or trained further, by llama.cpp: on processors many times as fast as
`transformers serve`. A GPU box has no need of it: vLLM serves the folder as it is.

    python examples/explore_lm/serve_small.py FOLDER --port PORT

The model file beside the folder has the fields of the published one (tokenizer, sizes, chat template) and the weights
of the folder, in 8 bits.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, LlamaFileType, get_tensor_name_map
from gguf.constants import MODEL_ARCH
from gguf.quants import quantize
from safetensors.torch import load_file

from explore_async.serving.servers.models import fetch

MODEL = "smollm2-135m"
SIZES = ("block_count", "attention.head_count", "attention.head_count_kv")
Q8 = GGMLQuantizationType.Q8_0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", required=True)
    arguments = parser.parse_args()
    file = arguments.folder.with_name(f"{arguments.folder.name}.gguf")
    if not file.exists():
        part = file.with_suffix(".part")
        convert(arguments.folder, fetch(MODEL), part)
        part.replace(file)
    options = ["--engine", "embedded", "--model", str(file), "--slots", "4", "--context", "2048", "--quiet"]
    os.execvp("explore-async", ["explore-async", "serve", *options, "--port", arguments.port])


def convert(folder: Path, published: Path, out: Path) -> None:
    reader = GGUFReader(published)
    writer = GGUFWriter(out, "llama")
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name not in {"general.architecture", "general.file_type"}:
            is_array = field.types[0] == GGUFValueType.ARRAY
            writer.add_key_value(name, field.contents(), field.types[0], field.types[-1] if is_array else None)
    writer.add_file_type(LlamaFileType.MOSTLY_Q8_0)
    sizes = {name: reader.fields[f"llama.{name}"].contents() for name in SIZES}
    names = get_tensor_name_map(MODEL_ARCH.LLAMA, sizes["block_count"])
    for name, weights in load_file(folder / "model.safetensors").items():
        found = names.get_name(name, try_suffixes=(".weight",))
        if found is None or found == "output.weight":  # tied to the embeddings
            continue
        values = weights.float().numpy()
        for part, heads in (("attn_q", "attention.head_count"), ("attn_k", "attention.head_count_kv")):
            if part in found:  # llama.cpp rotates neighbours, transformers the halves of a head
                values = values.reshape(sizes[heads], 2, -1, values.shape[1]).swapaxes(1, 2).reshape(values.shape)
        if values.ndim == 1:
            writer.add_tensor(found, values)
        else:
            writer.add_tensor(found, quantize(values, Q8), raw_dtype=Q8)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
