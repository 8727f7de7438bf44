"""Does the library always decide and score as its references do? No timing: the first difference ends the check.

1. F and the least LCS of a duplicate, for every two lengths up to `--tokens` and every LCS, against rouge_score's own
   arithmetic, at many thresholds.
2. LCS of random and adversarial pairs against RapidFuzz: few and many tokens, repeats, lengths around the widths of
   lanes and words, empty and long texts.
3. Pairs whose F is at the threshold or one token beside it, against rouge_score's own decision on text.
4. Whole corpora at several thresholds: each kept text, and for each dropped text the nearest kept text with its LCS and
   F, against a plain loop over all pairs (LCS by RapidFuzz, F in rouge_score's order of operations); in small batches,
   and in large ones on several threads.

    python benchmarks/check_equality.py [--corpus FILE ...] [--pairs 10000000] [--near 100000] [--out FILE]
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from corpora import drawn, machine, report
from rapidfuzz import process
from rapidfuzz.distance import LCSseq
from rouge_score import scoring
from rouge_score.rouge_scorer import RougeScorer

from rouge_kernels import (
    DedupIndex,
    RougeTokenizer,
    Texts,
    Vocabulary,
    fmeasure,
    lcs_matrix,
    least_duplicate_lcs,
    top_k,
)

THRESHOLDS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.9, 1.0)
LENGTHS = (0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 200)
ALPHABETS = (1, 2, 3, 8, 50, 5000)
ROWS = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--corpus", type=Path, nargs="*", default=[], help="one text per line, or JSONL; .gz or not")
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--pairs", type=int, default=10_000_000)
    parser.add_argument("--near", type=int, default=100_000)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    checks: dict[str, Any] = {}
    began = time.perf_counter()
    checks["scores"] = scores(arguments.tokens)
    checks["lcs_pairs"] = lcs_pairs(rng, arguments.pairs)
    checks["near_pairs"] = near_pairs(rng, arguments.near)
    corpora = {path.name: lines(path) for path in arguments.corpus} or {"drawn": drawn(rng, 3000)}
    checks["corpora"] = [whole(name, texts) for name, texts in corpora.items()]
    checks["seconds"] = round(time.perf_counter() - began)
    report({"machine": machine("rapidfuzz", "rouge-score"), "differences": 0, **checks}, arguments.out)


def lines(path: Path) -> list[str]:
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        texts = [line.strip() for line in file if line.strip()]
    if ".jsonl" not in path.name:
        return texts
    rows = [json.loads(line) for line in texts]
    return [" ".join(str(row.get(field) or "") for field in ("instruction", "input")).strip() for row in rows]


def must(same: bool, *evidence: object) -> None:
    if not same:
        raise SystemExit(f"differs: {evidence}")


def scores(most: int) -> int:
    """Returns the number of (length, length, LCS) compared."""
    thresholds = [number / 20 for number in range(1, 21)] + [1 / 3, 2 / 3, math.nextafter(1, 0), math.nextafter(0.7, 1)]
    compared = 0
    for first in range(1, most + 1):
        for second in range(first, most + 1):
            values = [scoring.fmeasure(lcs / first, lcs / second) for lcs in range(first + 1)]
            for lcs, value in enumerate(values):
                must(fmeasure(lcs, first, second) == value == fmeasure(lcs, second, first), lcs, first, second)
            for threshold in thresholds:
                least = sum(value <= threshold for value in values)
                must(least_duplicate_lcs(first, second, threshold) == least, first, second, threshold)
            compared += first + 1
    print(f"{compared:,} scores at {len(thresholds)} thresholds")
    return compared


def lcs_pairs(rng: np.random.Generator, wanted: int) -> int:
    """Returns the number of pairs compared."""
    compared = 0
    while compared < wanted:
        alphabet = int(rng.choice(ALPHABETS))
        texts = [shape(rng, alphabet) for _ in range(2 * ROWS)]
        packed = Texts(np.concatenate(texts).astype(np.int32), np.cumsum([0, *map(len, texts)], dtype=np.int64))
        characters = ["".join(chr(0x10000 + token) for token in text) for text in texts]
        queries = packed.of(np.arange(ROWS))
        expected = process.cdist(characters[:ROWS], characters, scorer=LCSseq.similarity, dtype=np.int32)
        found = lcs_matrix(queries, packed)
        for query, text in np.argwhere(found != expected):
            must(False, texts[query].tolist(), texts[text].tolist(), int(found[query, text]))
        nearest = top_k(queries, packed, 3)
        values = f_of(expected, np.diff(queries.starts)[:, None], np.diff(packed.starts)[None, :])
        order = np.argsort(-values, axis=1, kind="stable")[:, :3]
        must(bool((nearest.position == order).all()), "top_k", alphabet)
        must(bool((nearest.score == np.take_along_axis(values, order, 1)).all()), "top_k's scores", alphabet)
        compared += found.size
    print(f"{compared:,} LCS")
    return compared


def shape(rng: np.random.Generator, alphabet: int) -> npt.NDArray[np.int64]:
    """A text of tokens: random, one token repeated, a short piece repeated, or in order."""
    length, kind = int(rng.choice(LENGTHS)), int(rng.integers(5))
    text = rng.integers(alphabet, size=length)
    if kind == 0:
        text[:] = rng.integers(alphabet)
    elif kind == 1:
        text = np.resize(rng.integers(alphabet, size=int(rng.integers(1, 9))), length)
    elif kind == 2:
        text = np.sort(text)
    return text


def f_of(lcs: Any, first: Any, second: Any) -> npt.NDArray[np.float64]:
    """The F of rouge_score, for arrays."""
    with np.errstate(divide="ignore", invalid="ignore"):
        precision, recall = lcs / first, lcs / second
        value = 2 * precision * recall / (precision + recall)
    made: npt.NDArray[np.float64] = np.where(lcs > 0, value, 0.0)
    return made


def near_pairs(rng: np.random.Generator, wanted: int) -> int:
    """Returns the number of pairs decided."""
    reference = RougeScorer(["rougeL"])
    for number in range(wanted):
        threshold = float(rng.choice(THRESHOLDS[:-1]))
        first, second = (int(length) for length in rng.integers(2, 40, size=2))
        least = least_duplicate_lcs(first, second, threshold)
        common = min(max(least + int(rng.integers(-1, 2)), 0), first, second)
        # tokens of their own fill both up, among those that they share in order
        pair = []
        for mark, length in (("a", first), ("b", second)):
            shared = set(rng.choice(length, size=common, replace=False).tolist())
            words = iter(f"s{word}" for word in range(common))
            pair.append(" ".join(next(words) if at in shared else f"{mark}{at}" for at in range(length)))
        score = reference.score(*pair)["rougeL"].fmeasure
        index = DedupIndex(threshold)
        index.add(pair[:1])
        must(bool(index.admit(pair[1:]).kept[0]) == (score <= threshold), number, threshold, pair, score)
    print(f"{wanted:,} pairs near a threshold")
    return wanted


def whole(name: str, texts: list[str]) -> dict[str, Any]:
    kept_counts = {}
    for threshold, (kept, nearest, lcs, score) in zip(THRESHOLDS, greedy(texts), strict=True):
        for batch, threads in ((10, 1), (4096, 3)):
            index = DedupIndex(threshold)
            parts = [
                index.admit(texts[begin : begin + batch], threads=threads) for begin in range(0, len(texts), batch)
            ]
            for what, expected in (("kept", kept), ("nearest", nearest), ("lcs", lcs), ("score", score)):
                found = np.concatenate([getattr(part, what) for part in parts])
                for at in np.flatnonzero((found != expected) & ~((found != found) & (expected != expected)))[:1]:  # noqa: PLR0124
                    must(False, name, threshold, what, batch, texts[at], found[at], expected[at])
        kept_counts[str(threshold)] = int(kept.sum())
        print(f"{name}: {len(texts):,} texts, {int(kept.sum()):,} kept at {threshold}")
    return {"name": name, "texts": len(texts), "kept": kept_counts}


def greedy(texts: list[str]) -> Iterator[tuple[Any, ...]]:
    """The plain loop, at all thresholds at once: (kept, nearest position, LCS, F) for each."""
    encoded = Vocabulary(RougeTokenizer()).encode(texts)
    lengths = np.diff(encoded.starts)
    characters = [
        "".join(chr(0x10000 + token) for token in encoded.ids[begin:end])
        for begin, end in zip(encoded.starts[:-1], encoded.starts[1:], strict=True)
    ]
    size = len(texts)
    found = [(np.ones(size, bool), np.full(size, -1), np.full(size, -1), np.full(size, np.nan)) for _ in THRESHOLDS]
    for begin in range(0, size, ROWS):
        end = min(begin + ROWS, size)
        lcs = process.cdist(
            characters[begin:end], characters[:end], scorer=LCSseq.similarity, dtype=np.int32, workers=-1
        )
        values = f_of(lcs, lengths[begin:end, None], lengths[None, :end])
        for text in range(begin, end):
            row = values[text - begin, :text]
            for threshold, (kept, nearest, common, score) in zip(THRESHOLDS, found, strict=True):
                above = np.flatnonzero((row > threshold) & kept[:text])
                if len(above):
                    best = above[np.argmax(row[above])]
                    kept[text] = False
                    nearest[text], common[text], score[text] = best, lcs[text - begin, best], row[best]
    for kept, nearest, common, score in found:
        positions = np.cumsum(kept) - 1  # in the index, which counts what was kept
        yield kept, np.where(nearest >= 0, positions[nearest], -1), common, score


if __name__ == "__main__":
    main()
