"""The nearness in meaning of the instructions of a data set, by the vectors of an embedder: ROUGE-L cannot see it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from explore_async.analysis.data_sample import NEAR, DataSample, distribution, spread
from explore_async.curation.embeddings import Embedder
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
    """Cosines with the nearest other, the Vendi score, and the nearest pairs that ROUGE-L takes for different.

    `on_progress` gets the number of instructions embedded so far.
    """
    examples = list(spread(sample.examples, len(sample.examples), MOST_EMBEDDED))
    texts = [example["instruction"] for example in examples]
    parts = [embedder.embed([])]
    for at in range(0, len(texts), _EMBEDDED_AT_ONCE):
        on_progress(at)
        parts.append(embedder.embed(texts[at : at + _EMBEDDED_AT_ONCE]))
    vectors = np.concatenate(parts)
    nearest, cosines = neighbours(vectors)
    near = np.flatnonzero(cosines > np.float32(PARAPHRASE_THRESHOLD))
    tokens = [TOKENIZERS[tokenizer](text) for text in texts]

    def rouge(at: int) -> float:
        one, other = tokens[at], tokens[int(nearest[at])]
        return fmeasure(lcs_length(one, other), len(one), len(other))

    pairs: list[dict[str, Any]] = []
    seen: set[frozenset[int]] = set()
    for at in np.argsort(-cosines, kind="stable").tolist():
        other = int(nearest[at])
        pair = frozenset((at, other))
        if other < 0 or pair in seen or (score := rouge(at)) > NEAR:
            continue
        seen.add(pair)
        pairs.append(
            {
                "cosine": round(float(cosines[at]), 4),
                "rouge": round(score, 4),
                "ids": [examples[one]["id"] for one in (at, other)],
                "texts": [texts[one][:_LONGEST_SHOWN] for one in (at, other)],
            }
        )
        if len(pairs) == PAIRS_SHOWN:
            break
    return {
        "model": embedder.name,
        "compared": len(texts),
        "threshold": PARAPHRASE_THRESHOLD,
        "near": len(near),
        "paraphrases": sum(rouge(at) <= NEAR for at in near.tolist()),
        "nearest": distribution(np.maximum(cosines, 0) if len(texts) > 1 else []),
        "vendi": round(vendi_score(vectors), 2),
        "pairs": pairs,
    }
