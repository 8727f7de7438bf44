"""The texts kept so far, and the one question asked of them: is this new text a near-duplicate?"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from rouge_kernels import search
from rouge_kernels.bounds import bounds_for
from rouge_kernels.lcs import lcs_length, wrapping
from rouge_kernels.overlap import Nearest, best
from rouge_kernels.postings import FIRST, Postings
from rouge_kernels.prefixes import DEPTH, MOST_TEXTS
from rouge_kernels.ragged import RaggedRows, Texts, grown
from rouge_kernels.reductions import Positions
from rouge_kernels.scoring import fmeasure, least_duplicate_lcs
from rouge_kernels.search import Corpus, Findings, Rule
from rouge_kernels.threads import processors
from rouge_kernels.tokenizer import ROUGE_TOKENIZER, Tokenizer
from rouge_kernels.vocabulary import Vocabulary
from rouge_kernels.within import LONGEST, pairs_within

SHARED = 256
"""Texts of a batch from which on it is worth while to start threads for it."""
AT_ONCE = 1 << 14
"""Tokens of the texts that all threads compare with the index and with each other before any of them is kept."""


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
    threshold; at 1.0 nothing is, not even the same text again: `IDENTICAL` is for that. A text without tokens scores 0
    with every other and is always kept. The same texts in the same order give the same decisions, however they are cut
    into batches.

    Texts are found by the keys of `prefixes`, posted in a table that grows a little with every text; nothing is ever
    built anew.

    Not to be used by two threads at once; a call releases the GIL while it searches.
    """

    def __init__(self, threshold: float, tokenizer: Tokenizer = ROUGE_TOKENIZER) -> None:
        if not 0 < threshold <= 1:
            raise ValueError(f"the threshold must lie in (0, 1], not at {threshold!r}")
        self.threshold = float(threshold)
        self._vocabulary = Vocabulary(tokenizer)
        self._texts = RaggedRows()
        self._signatures: npt.NDArray[np.uint64] = np.zeros(FIRST, dtype=np.uint64)
        self._rows: npt.NDArray[np.int32] = np.zeros(1, dtype=np.int32)
        self._postings = Postings(DEPTH)

    def __len__(self) -> int:
        return len(self._texts)

    @property
    def _rule(self) -> Rule:
        return Rule(self.threshold, bounds_for(self.threshold).least)

    @property
    def _corpus(self) -> Corpus:
        return Corpus(self._texts.values, self._texts.starts, self._signatures)

    @property
    def tokens(self) -> int:
        """The tokens of all texts kept."""
        return int(self._texts.starts[len(self)])

    @property
    def nbytes(self) -> int:
        """The memory it has taken."""
        own = (self._texts.values, self._texts.starts, self._signatures, self._rows)
        return self._vocabulary.nbytes + self._postings.nbytes + sum(array.nbytes for array in own)

    def add(self, texts: Sequence[str]) -> None:
        """Keep all of these, duplicates or not."""
        self._take(texts, anyway=True)

    def admit(self, texts: Sequence[str], *, threads: int | None = None) -> Admission:
        """Keep each of these, in order, unless it is a duplicate of a text kept before it, here or in earlier calls.

        `threads`: how many to use at most, as many as there are processors if None; a small batch needs but one. They
        change nothing in what is decided.
        """
        found = self._take(texts, anyway=False, threads=threads or processors())
        return Admission(kept=found.nearest < 0, nearest=found.nearest, lcs=found.lcs, score=found.score)

    def look_up(self, texts: Sequence[str], *, threads: int | None = None) -> Admission:
        """Which of these are duplicates of a kept text, and of which. None is kept: `kept` tells which could be."""
        encoded, found = self._encoded(texts), _nothing_found(len(texts))
        threads = min(threads or processors(), 1 + len(texts) // SHARED)
        if threads == 1:
            self._look_up(encoded, 0, len(texts), found)
        else:
            cuts = np.linspace(0, len(texts), threads + 1).astype(int).tolist()
            with ThreadPoolExecutor(threads) as pool:
                for share in [pool.submit(self._look_up, encoded, begin, end, found) for begin, end in pairwise(cuts)]:
                    share.result()
        return Admission(kept=found.nearest < 0, nearest=found.nearest, lcs=found.lcs, score=found.score)

    def _take(self, texts: Sequence[str], *, anyway: bool, threads: int = 1) -> Findings:
        encoded, found = self._encoded(texts), _nothing_found(len(texts))
        with wrapping():
            if threads > 1 and len(texts) >= SHARED and np.diff(encoded.starts).max() <= LONGEST:
                with ThreadPoolExecutor(threads) as pool:
                    for first, last in _portions(encoded.starts):
                        part = Texts(encoded.ids, encoded.starts[first : last + 1])
                        here = Findings(found.nearest[first:last], found.lcs[first:last], found.score[first:last])
                        self._take_together(part, here, pool, threads)
            else:
                self._take_in_turn(encoded, found, anyway=anyway)
        return found

    def _take_in_turn(self, texts: Texts, found: Findings, *, anyway: bool) -> None:
        begin = 0
        while begin < len(texts):
            size, begin = search.admit(
                *(texts.ids, texts.starts, begin, self._rule, self._corpus, self._postings.table, self._rows),
                *(found, len(self), anyway),
            )
            self._texts.extend_to(size)
            self._make_room(texts, begin)

    def _take_together(self, part: Texts, found: Findings, pool: ThreadPoolExecutor, threads: int) -> None:
        """Look for duplicates among the kept texts and among these ones on all threads, and then decide in order."""
        cuts = np.linspace(0, len(part), threads + 1).astype(int).tolist()
        shares = [pool.submit(self._look_up, part, begin, end, found) for begin, end in pairwise(cuts)]
        own = Texts(part.ids[part.starts[0] : part.starts[-1]], part.starts - part.starts[0])
        pairs = pairs_within(own, self.threshold, self._rule.least, pool)
        for share in shares:
            share.result()
        positions = np.full(len(part), -1, dtype=np.int64)
        begin = 0
        while begin < len(part):
            size, begin = search.settle(
                *(part.ids, part.starts, begin, self._rule, self._corpus, self._postings.table),
                *(pairs, positions, found, len(self)),
            )
            self._texts.extend_to(size)
            self._make_room(part, begin)

    def _look_up(self, texts: Texts, begin: int, end: int, found: Findings) -> None:
        with wrapping():  # which a thread does not take over from another
            search.look_up(
                *(texts.ids, texts.starts, begin, end, self._rule, self._corpus, self._postings.table),
                *(np.zeros_like(self._rows), found),
            )

    def _make_room(self, texts: Texts, begin: int) -> None:
        """Make room in the postings for the text that was the first to find none, if there is one."""
        if begin < len(texts):
            length = int(texts.starts[begin + 1] - texts.starts[begin])
            self._postings.reserve(search.keys_at_most(length, len(self)), len(self))

    def pair_up(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """Keep all of these, and tell every duplicate of each that was kept before it, in the index or the batch.

        One row a pair: the position of the earlier text, that of the later one, the LCS in tokens; sorted by the
        later, then by the earlier.
        """
        encoded = self._encoded(texts)
        parts = [np.empty((0, 3), dtype=np.int64)]
        begin = 0
        with wrapping():
            while begin < len(texts):
                size, begin, pairs = search.pair_up(
                    *(encoded.ids, encoded.starts, begin, self._rule, self._corpus, self._postings.table, self._rows),
                    len(self),
                )
                parts.append(pairs)
                self._texts.extend_to(size)
                self._make_room(encoded, begin)
        return np.concatenate(parts)

    def nearest(self, positions: Positions | None = None, *, threads: int | None = None) -> Nearest:
        """The other kept text that each kept text scores highest with, before it or after it: for analysis.

        `positions`: which of them, all if None. It compares them with all that is kept, so its time grows with the
        product.
        """
        kept = Texts(self._texts.values[: self.tokens], self._texts.starts[: len(self) + 1])
        chosen = np.arange(len(self)) if positions is None else np.asarray(positions, dtype=np.int64)
        if len(chosen) and not 0 <= chosen.min() <= chosen.max() < len(self):
            raise ValueError(f"positions lie from 0 to {len(self) - 1}, the last text kept")
        return best(kept.of(chosen), kept, excluding=chosen, threads=threads)

    def _encoded(self, texts: Sequence[str]) -> Texts:
        """The texts as token ids, and room in every buffer but the postings for all of them."""
        if len(self) + len(texts) > MOST_TEXTS:
            raise OverflowError(f"an index holds no more than {MOST_TEXTS:,} texts")
        encoded = self._vocabulary.encode(texts)
        self._texts.reserve(len(texts), len(encoded.ids))
        self._signatures = grown(self._signatures, len(self) + len(texts))
        self._rows = grown(self._rows, len(self._vocabulary))
        return encoded


def _nothing_found(count: int) -> Findings:
    nowhere = np.full(count, -1, dtype=np.int64)
    return Findings(nowhere, nowhere.copy(), np.full(count, np.nan))


def _portions(starts: npt.NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Cut texts into parts of so many tokens that comparing each of a part with each takes little time."""
    first = 0
    while first < len(starts) - 1:
        last = int(np.searchsorted(starts, starts[first] + AT_ONCE, side="right")) - 1
        last = max(first + 1, last)
        yield first, last
        first = last


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
    index.add(["one", " ".join(map(str, range(FIRST)))])  # which has to make room everywhere
    index.admit(["one"] * SHARED, threads=2)
    lcs_length(["one"], ["one"])
    fmeasure(1, 1, 1)
    least_duplicate_lcs(1, 1, 0.5)
