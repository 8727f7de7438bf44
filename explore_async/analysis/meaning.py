"""The nearness in meaning of the instructions of a dataset, by the vectors of an embedder: ROUGE-L cannot see it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from explore_async.analysis.data_sample import NEAR, DataSample, distribution, spread
from explore_async.curation.collections.collection import below
from explore_async.curation.embeddings import Embedder, Vectors
from explore_async.curation.paraphrases import PARAPHRASE_THRESHOLD, neighbours, vendi_score
from rouge_kernels import TOKENIZERS, fmeasure, lcs_length

MOST_EMBEDDED = 10_000
"""Instructions that are compared by meaning; of more, this many, spread evenly."""
PAIRS_SHOWN = 20
_LONGEST_SHOWN = 1_000
_EMBEDDED_AT_ONCE = 512


def meaning(
    sample: DataSample, embedder: Embedder, tokenizer: str, on_progress: Callable[[int], None]
) -> dict[str, Any]:
    """Cosines with the nearest other, the Vendi score, and the nearest pairs that ROUGE-L takes for different; `names`
    has such pairs of the names of tasks.

    A run decides nothing by them: it would give other data where the extra is missing, and on other machines, whose
    floats differ. `on_progress` gets the number of instructions embedded so far.
    """
    examples = list(spread(sample.examples, len(sample.examples), MOST_EMBEDDED))
    texts = [example["instruction"] for example in examples]
    parts = [embedder.embed([])]
    for at in range(0, len(texts), _EMBEDDED_AT_ONCE):
        on_progress(at)
        parts.append(embedder.embed(texts[at : at + _EMBEDDED_AT_ONCE]))
    vectors = np.concatenate(parts)
    instructions = _Compared([example["id"] for example in examples], texts, vectors, tokenizer)
    nodes = [node for root in sample.collection.trees() for node in below(root)][:MOST_EMBEDDED]
    named = [node["name"] for node in nodes]
    names = _Compared([node["id"] for node in nodes], named, embedder.embed(named), tokenizer)
    return {
        "model": embedder.name,
        "compared": len(texts),
        "threshold": PARAPHRASE_THRESHOLD,
        "near": len(instructions.near),
        "paraphrases": instructions.paraphrases,
        "nearest": distribution(np.maximum(instructions.cosines, 0) if len(texts) > 1 else []),
        "vendi": round(vendi_score(vectors), 2),
        "pairs": instructions.pairs(),
        "names": {"compared": len(nodes), "synonyms": names.paraphrases, "pairs": names.pairs()},
    }


class _Compared:
    """Texts with their ids and vectors, each compared with its nearest other."""

    def __init__(self, ids: Sequence[str], texts: Sequence[str], vectors: Vectors, tokenizer: str) -> None:
        self._ids, self._texts = ids, texts
        self._nearest, self.cosines = neighbours(vectors)
        self.near = np.flatnonzero(self.cosines > np.float32(PARAPHRASE_THRESHOLD))
        self._tokens = [TOKENIZERS[tokenizer](text) for text in texts]

    def _rouge(self, at: int) -> float:
        one, other = self._tokens[at], self._tokens[int(self._nearest[at])]
        return fmeasure(lcs_length(one, other), len(one), len(other))

    @property
    def paraphrases(self) -> int:
        """Texts near in meaning to another that ROUGE-L takes for different."""
        return sum(self._rouge(at) <= NEAR for at in self.near.tolist())

    def pairs(self) -> list[dict[str, Any]]:
        """The nearest pairs that ROUGE-L takes for different."""
        pairs: list[dict[str, Any]] = []
        seen: set[frozenset[int]] = set()
        for at in np.argsort(-self.cosines, kind="stable").tolist():
            other = int(self._nearest[at])
            pair = frozenset((at, other))
            if other < 0 or pair in seen or (score := self._rouge(at)) > NEAR:
                continue
            seen.add(pair)
            pairs.append(
                {
                    "cosine": round(float(self.cosines[at]), 4),
                    "rouge": round(score, 4),
                    "ids": [self._ids[one] for one in (at, other)],
                    "texts": [self._texts[one][:_LONGEST_SHOWN] for one in (at, other)],
                }
            )
            if len(pairs) == PAIRS_SHOWN:
                break
        return pairs
