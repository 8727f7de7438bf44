"""Vectors of texts by meaning: for a second opinion on texts that share few words. They need the extra `embed`.

In a run they decide nothing: ROUGE-L is exact, and vectors differ in their last digits from machine to machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from explore_async.errors import ConfigError
from explore_async.serving.servers.download import Progress
from explore_async.serving.servers.models import fetch_files
from explore_async.serving.servers.registry import REGISTRY

Vectors = npt.NDArray[np.float32]

MINILM: Final = "all-minilm-l6-v2"
_DIMENSIONS = 384
_MOST_TOKENS = 256
"""Of a longer text only the beginning is read, as the model was trained."""
_BATCH = 32
_CONFIG: Final = {
    "hidden_size": _DIMENSIONS,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
    "vocab_size": 30522,
    "max_position_embeddings": 512,
}
_NOT_USED = ("pooler.", "embeddings.position_ids")
"""Weights in the file that mean pooling has no need of."""


class Embedder(Protocol):
    """Turns texts into vectors whose inner products say how near the texts are in meaning."""

    @property
    def name(self) -> str:
        """The name of the model, for the evidence."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        """A row of length 1 for each text."""


def embedder_of(semantic: bool | Embedder, report: Callable[[Progress], None] | None = None) -> Embedder:
    """MiniLM for True."""
    return MiniLM(report) if isinstance(semantic, bool) else semantic


class MiniLM:
    """all-MiniLM-L6-v2 (Wang et al. 2020; sentence-transformers), in float32 on the CPU: English, 384 dimensions.

    Batches follow the order of the texts, so that the same texts give the same bytes on a machine.
    """

    name = MINILM

    def __init__(self, report: Callable[[Progress], None] | None = None) -> None:
        """Downloads the model unless it is there. Raises ConfigError where the extra is not installed."""
        try:
            from safetensors.torch import load_file
            from tokenizers import Tokenizer
            from transformers import BertConfig, BertModel
        except ImportError as error:
            raise ConfigError(
                f"a semantic comparison needs {error.name or 'torch'}: pip install 'explore-async[embed]'"
            ) from error
        weights, tokenizer = fetch_files(REGISTRY[MINILM], report=report)
        self._tokenizer: Any = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.enable_truncation(_MOST_TOKENS)
        self._tokenizer.enable_padding()
        self._model: Any = BertModel(BertConfig(**_CONFIG), add_pooling_layer=False).eval()
        state = {name: value for name, value in load_file(weights).items() if not name.startswith(_NOT_USED)}
        self._model.load_state_dict(state)

    def embed(self, texts: Sequence[str]) -> Vectors:
        vectors = [self._embed(texts[at : at + _BATCH]) for at in range(0, len(texts), _BATCH)]
        return np.concatenate(vectors) if vectors else np.zeros((0, _DIMENSIONS), dtype=np.float32)

    def _embed(self, texts: Sequence[str]) -> Vectors:
        """Mean pooling over the tokens of each text (Reimers and Gurevych 2019)."""
        import torch

        encoded = self._tokenizer.encode_batch(list(texts))
        ids = torch.tensor([one.ids for one in encoded])
        mask = torch.tensor([one.attention_mask for one in encoded])
        with torch.inference_mode():
            states = self._model(input_ids=ids, attention_mask=mask).last_hidden_state
            sums = (states * mask[:, :, None]).sum(dim=1)
            vectors: Vectors = torch.nn.functional.normalize(sums, dim=1).numpy()
        return vectors
