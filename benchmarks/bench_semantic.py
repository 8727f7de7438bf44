"""Question: does the second opinion by meaning know a paraphrase from a look-alike, and does ROUGE-L?

    python benchmarks/bench_semantic.py --out benchmarks/results/semantic.json

paraphrases.jsonl has 200 pairs that say the same in other words, and 200 that say something else in nearly the same
words. All are one corpus of 800 texts, so that the other pairs show how often texts that are only on one subject are
called paraphrases. The best threshold (by F1 over planted and other pairs) is chosen on the pairs of even number and
reported on those of odd number, with the default and ROUGE-L's 0.7 beside it. "After ROUGE-L": what ROUGE-L keeps,
as `filter --semantic` sees them. Needs the extra `embed`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from corpora import machine, report

from explore_async.curation.embeddings import MiniLM
from explore_async.curation.paraphrases import PARAPHRASE_THRESHOLD
from rouge_kernels import TOKENIZERS, Vocabulary, lcs_matrix

PAIRS = Path(__file__).parent / "paraphrases.jsonl"
ROUGE_THRESHOLD = 0.7


class Half:
    """The pairs whose number leaves this remainder by two, and all other pairs of their texts."""

    def __init__(self, rows: list[dict[str, Any]], cosines: np.ndarray, rouge: np.ndarray, remainder: int) -> None:
        pairs = np.arange(remainder, len(rows), 2)
        self.same = np.array([rows[at]["paraphrase"] for at in pairs])
        first, second = pairs, pairs + len(rows)
        self.planted = {"cosine": cosines[first, second], "rouge": rouge[first, second]}
        texts = np.concatenate([first, second])
        others = np.triu(np.ones((len(texts), len(texts)), dtype=bool), 1)
        others[np.arange(len(pairs)), np.arange(len(pairs)) + len(pairs)] = False
        self.others = {
            "cosine": cosines[np.ix_(texts, texts)][others],
            "rouge": rouge[np.ix_(texts, texts)][others],
        }

    def figures(self, measure: str, threshold: float, *, after_rouge: bool = False) -> dict[str, Any]:
        called, others = self.planted[measure] > threshold, self.others[measure] > threshold
        if after_rouge:
            called &= self.planted["rouge"] <= ROUGE_THRESHOLD
            others &= self.others["rouge"] <= ROUGE_THRESHOLD
        right, of_planted = int((called & self.same).sum()), int(called.sum())
        everything = of_planted + int(others.sum())
        return {
            "threshold": threshold,
            "precision": round(right / of_planted, 3) if of_planted else None,
            "recall": round(right / int(self.same.sum()), 3),
            "paraphrases_called": right,
            "look_alikes_called": of_planted - right,
            "other_pairs_called": int(others.sum()),
            "f1_with_others": round(2 * right / (everything + int(self.same.sum())), 3),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = [orjson.loads(line) for line in PAIRS.read_bytes().splitlines()]
    texts = [row["first"] for row in rows] + [row["second"] for row in rows]
    model = MiniLM()
    vectors = model.embed(texts)
    cosines = np.round(vectors @ vectors.T, 4)
    encoded = Vocabulary(TOKENIZERS["rouge"]).encode(texts)
    lengths = np.array([len(TOKENIZERS["rouge"](text)) for text in texts])
    rouge = 2 * lcs_matrix(encoded, encoded) / (lengths[:, None] + lengths[None, :])
    chosen_on, reported_on = (Half(rows, cosines, rouge, remainder) for remainder in (0, 1))
    steps = [round(at / 100, 2) for at in range(30, 100)]
    best = max(steps, key=lambda step: chosen_on.figures("cosine", step)["f1_with_others"])
    results = {
        "best threshold of the other half": reported_on.figures("cosine", best),
        "the default": reported_on.figures("cosine", PARAPHRASE_THRESHOLD),
        "the default, after ROUGE-L": reported_on.figures("cosine", PARAPHRASE_THRESHOLD, after_rouge=True),
        "ROUGE-L": reported_on.figures("rouge", ROUGE_THRESHOLD),
    }
    print(f"{'':34}{'above':>7}{'precision':>11}{'recall':>8}{'same':>6}{'look-alike':>12}{'other pairs':>13}")
    for name, of in results.items():
        precision = "-" if of["precision"] is None else f"{of['precision']:.3f}"
        print(
            f"{name:34}{of['threshold']:>7}{precision:>11}{of['recall']:>8.3f}{of['paraphrases_called']:>6}"
            f"{of['look_alikes_called']:>12}{of['other_pairs_called']:>13}"
        )
    quantiles = {
        name: {
            measure: [round(float(at), 3) for at in np.quantile(of[is_same], (0.05, 0.25, 0.5, 0.75, 0.95))]
            for measure, of in (("cosine", pairs(cosines)), ("rouge", pairs(rouge)))
        }
        for name, is_same in (("paraphrases", same(rows)), ("look_alikes", ~same(rows)))
    }
    print("quantiles 5, 25, 50, 75, 95 %:", quantiles)
    document = {
        "machine": machine(),
        "model": model.name,
        "pairs": len(rows),
        "half_of": {"paraphrases": int(reported_on.same.sum()), "look_alikes": int((~reported_on.same).sum())},
        "results": results,
        "quantiles": quantiles,
    }
    report(document, options.out)


def pairs(matrix: np.ndarray) -> np.ndarray:
    half = len(matrix) // 2
    return matrix[np.arange(half), np.arange(half) + half]


def same(rows: list[dict[str, Any]]) -> np.ndarray:
    return np.array([row["paraphrase"] for row in rows])


if __name__ == "__main__":
    main()
