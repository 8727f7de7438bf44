"""The texts kept so far, and the one question asked of them: is this new text a near-duplicate?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rouge_kernels import scan
from rouge_kernels.lcs import lcs_length, wrapping
from rouge_kernels.ragged import RaggedRows, grown
from rouge_kernels.scoring import fmeasure, least_duplicate_lcs
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

    Not to be used by two threads at once; a call releases the GIL while it scans.
    """

    def __init__(self, threshold: float, tokenizer: Tokenizer = ROUGE_TOKENIZER) -> None:
        if not 0 < threshold <= 1:
            raise ValueError(f"the threshold must lie in (0, 1], not at {threshold!r}")
        self.threshold = float(threshold)
        self._tokenizer = tokenizer
        self._vocabulary = Vocabulary()
        self._texts = RaggedRows()
        self._signatures: npt.NDArray[np.uint64] = np.zeros(0, dtype=np.uint64)
        self._rows: npt.NDArray[np.int32] = np.zeros(1, dtype=np.int32)
        self._longest = 0

    def __len__(self) -> int:
        return len(self._texts)

    def add(self, texts: Sequence[str]) -> None:
        """Keep all of these, duplicates or not."""
        ids, starts = self._encoded(texts)
        size = scan.add_all(ids, starts, self._texts.values, self._texts.starts, self._signatures, len(self))
        self._texts.extend_to(size)

    def admit(self, texts: Sequence[str]) -> Admission:
        """Keep each of these, in order, unless it is a duplicate of a text kept before it, here or in earlier calls."""
        ids, starts = self._encoded(texts)
        nearest = np.empty(len(texts), dtype=np.int64)
        lcs = np.empty(len(texts), dtype=np.int64)
        score = np.empty(len(texts), dtype=np.float64)
        with wrapping():
            size = scan.admit_in_order(
                ids,
                starts,
                self._texts.values,
                self._texts.starts,
                self._signatures,
                len(self),
                self._longest,
                self._rows,
                self.threshold,
                nearest,
                lcs,
                score,
            )
        self._texts.extend_to(size)
        return Admission(kept=nearest < 0, nearest=nearest, lcs=lcs, score=score)

    def _encoded(self, texts: Sequence[str]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """The texts as token ids, and room in every buffer for all of them."""
        ids, starts = self._vocabulary.encode(map(self._tokenizer, texts))
        self._texts.reserve(len(texts), len(ids))
        self._signatures = grown(self._signatures, len(self._texts.starts))
        self._rows = grown(self._rows, len(self._vocabulary))
        self._longest = max(self._longest, int(np.diff(starts).max(initial=0)))
        return ids, starts


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
