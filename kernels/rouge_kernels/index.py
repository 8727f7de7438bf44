"""The texts kept so far, and the one question asked of them: is this new text a near-duplicate?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rouge_kernels import search
from rouge_kernels.bounds import bounds_for
from rouge_kernels.lcs import lcs_length, wrapping
from rouge_kernels.postings import Postings
from rouge_kernels.prefixes import DEPTH
from rouge_kernels.ragged import RaggedRows, grown
from rouge_kernels.scoring import fmeasure, least_duplicate_lcs
from rouge_kernels.search import Corpus, Findings, Rule
from rouge_kernels.tokenizer import RougeTokenizer, Tokenizer
from rouge_kernels.vocabulary import Vocabulary

ROUGE_TOKENIZER = RougeTokenizer()


@dataclass(frozen=True, slots=True, eq=False)
class Admission:
    """What became of each text of a batch, and why: one entry a text in every array."""

    kept: npt.NDArray[np.bool_]
    nearest: npt.NDArray[np.int64]
    """Position in the index of the kept text it scores highest with, the earliest of equals; -1 if it was kept."""
    lcs: npt.NDArray[np.int64]
    """The length in tokens of what it has in common with that text; -1 if it was kept."""
    score: npt.NDArray[np.float64]
    """ROUGE-L's F with that text; nan if it was kept."""


class DedupIndex:
    """Owns the kept texts, as token ids in the order of their admission.

    Of two texts the later is a duplicate when ROUGE-L's F, as `rouge_score` computes it, lies strictly above the
    threshold; at 1.0 nothing is, not even the same text again. A text without tokens scores 0 with every other and is
    always kept. The same texts in the same order give the same decisions, however they are cut into batches.

    Texts are found by the keys of `prefixes`, posted in a table that grows a little with
    every text; nothing is ever built anew.

    Not to be used by two threads at once; a call releases the GIL while it searches.
    """

    def __init__(self, threshold: float, tokenizer: Tokenizer = ROUGE_TOKENIZER) -> None:
        if not 0 < threshold <= 1:
            raise ValueError(f"the threshold must lie in (0, 1], not at {threshold!r}")
        self.threshold = float(threshold)
        self._rule: Rule | None = None
        self._vocabulary = Vocabulary(tokenizer)
        self._texts = RaggedRows()
        self._rows: npt.NDArray[np.int32] = np.zeros(1, dtype=np.int32)
        self._postings = Postings(DEPTH)

    def __len__(self) -> int:
        return len(self._texts)

    @property
    def tokens(self) -> int:
        """The tokens of all texts kept."""
        return int(self._texts.starts[len(self)])

    @property
    def nbytes(self) -> int:
        """The memory it has taken."""
        own = (self._texts.values, self._texts.starts, self._rows)
        return self._vocabulary.nbytes + self._postings.nbytes + sum(array.nbytes for array in own)

    def add(self, texts: Sequence[str]) -> None:
        """Keep all of these, duplicates or not."""
        self._take(texts, anyway=True)

    def admit(self, texts: Sequence[str]) -> Admission:
        """Keep each of these, in order, unless it is a duplicate of a text kept before it, here or in earlier calls."""
        found = self._take(texts, anyway=False)
        return Admission(kept=found.nearest < 0, nearest=found.nearest, lcs=found.lcs, score=found.score)

    def _take(self, texts: Sequence[str], *, anyway: bool) -> Findings:
        ids, starts = self._encoded(texts)
        found = Findings(
            np.full(len(texts), -1, dtype=np.int64),
            np.full(len(texts), -1, dtype=np.int64),
            np.full(len(texts), np.nan),
        )
        rule = Rule(self.threshold, bounds_for(self.threshold).least)
        corpus = Corpus(self._texts.values, self._texts.starts)
        begin = 0
        with wrapping():
            while True:
                size, begin = search.admit(
                    ids, starts, begin, rule, corpus, self._postings.table, self._rows, found, len(self), anyway
                )
                self._texts.extend_to(size)
                if begin == len(texts):
                    return found
                self._postings.reserve(search.keys_at_most(int(starts[begin + 1] - starts[begin]), size), size)

    def pair_up(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """Keep all of these, and tell every duplicate of each that was kept before it, in the index or the batch.

        One row a pair: the position of the earlier text, that of the later one, the LCS in tokens; sorted by the
        later, then by the earlier.
        """
        ids, starts = self._encoded(texts)
        rule = Rule(self.threshold, bounds_for(self.threshold).least)
        corpus = Corpus(self._texts.values, self._texts.starts)
        parts = [np.empty((0, 3), dtype=np.int64)]
        begin = 0
        with wrapping():
            while True:
                size, begin, pairs = search.pair_up(
                    ids, starts, begin, rule, corpus, self._postings.table, self._rows, len(self)
                )
                parts.append(pairs)
                self._texts.extend_to(size)
                if begin == len(texts):
                    return np.concatenate(parts)
                self._postings.reserve(search.keys_at_most(int(starts[begin + 1] - starts[begin]), size), size)

    def _encoded(self, texts: Sequence[str]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """The texts as token ids, and room in every buffer for all of them."""
        encoded = self._vocabulary.encode(texts)
        self._texts.reserve(len(texts), len(encoded.ids))
        self._rows = grown(self._rows, len(self._vocabulary))
        return encoded.ids, encoded.starts


def similar_pairs(
    texts: Sequence[str], threshold: float, tokenizer: Tokenizer = ROUGE_TOKENIZER
) -> npt.NDArray[np.int64]:
    """All pairs of texts whose ROUGE-L lies above the threshold, kept or not: rows of (i, j, LCS) with i < j."""
    return DedupIndex(threshold, tokenizer).pair_up(texts)


def warm_up() -> None:
    """Compile every kernel, or load it from the disk cache, so that no later call waits for it.

    Takes seconds the first time on a machine; safe to call from any thread, and more than once.
    """
    index = DedupIndex(0.5)
    index.add(["one"])
    index.admit(["one"])
    lcs_length(["one"], ["one"])
    fmeasure(1, 1, 1)
    least_duplicate_lcs(1, 1, 0.5)
