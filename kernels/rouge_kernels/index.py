"""The index of the texts kept so far. It decides for each new text if it is a near-duplicate of one of them."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from rouge_kernels import search
from rouge_kernels.bounds import bounds_for
from rouge_kernels.lcs import lcs_length, wrapping
from rouge_kernels.overlap import Nearest, best
from rouge_kernels.placement import keys_at_most
from rouge_kernels.postings import FIRST, Postings
from rouge_kernels.prefixes import DEPTH, MOST_TEXTS
from rouge_kernels.query import Corpus, Rule
from rouge_kernels.ragged import RaggedRows, Texts, grown
from rouge_kernels.reductions import Positions
from rouge_kernels.scoring import fmeasure, least_duplicate_lcs
from rouge_kernels.search import Findings
from rouge_kernels.threads import processors
from rouge_kernels.tokenizer import ROUGE_TOKENIZER, Tokenizer
from rouge_kernels.vocabulary import Vocabulary
from rouge_kernels.within import LONGEST, pairs_within

SHARED = 256
"""Texts. Only batches of at least this size start threads; for smaller batches threads cost more than they save."""
AT_ONCE = 1 << 14
"""Tokens of the texts that a kernel judges in one call. All threads compare them with the index and each other before
the index keeps any of them; and a signal such as Ctrl-C waits no longer than for them."""


@dataclass(frozen=True, slots=True, eq=False)
class Admission:
    """The decision on each text of a batch, with its evidence: every array has one entry for each text."""

    kept: npt.NDArray[np.bool_]
    nearest: npt.NDArray[np.int64]
    """Position in the index of the kept text with the highest score, the earliest of equals; -1 if kept itself."""
    lcs: npt.NDArray[np.int64]
    """The LCS with that text in tokens; -1 if kept itself."""
    score: npt.NDArray[np.float64]
    """ROUGE-L's F with that text; nan if kept itself."""


class DedupIndex:
    """Owns the kept texts, as token ids in the order of their admission.

    A text is a duplicate of an earlier one when their ROUGE-L F, as `rouge_score` computes it, is strictly above the
    threshold. At 1.0 nothing is a duplicate, not even an equal text; use `IDENTICAL` to drop equal texts. A text
    without tokens scores 0 with every text and is always kept. The same texts in the same order give the same
    decisions, however the caller cuts them into batches.

    The index finds texts by the keys of `prefixes`, in a table that grows a little with every text and is never
    rebuilt.

    Two threads must not use an index at the same time. A call releases the GIL while it searches.
    """

    def __init__(self, threshold: float, tokenizer: Tokenizer = ROUGE_TOKENIZER) -> None:
        if not 0 < threshold <= 1:
            raise ValueError(f"the threshold must be above 0 and at most 1, not {threshold!r}")
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
        """The number of tokens of all kept texts together."""
        return int(self._texts.starts[len(self)])

    @property
    def nbytes(self) -> int:
        """The memory that the index uses, in bytes."""
        own = (self._texts.values, self._texts.starts, self._signatures, self._rows)
        return self._vocabulary.nbytes + self._postings.nbytes + sum(array.nbytes for array in own)

    def add(self, texts: Sequence[str]) -> None:
        """Keep all these texts, duplicates too."""
        self._take(texts, anyway=True)

    def admit(self, texts: Sequence[str], *, threads: int | None = None) -> Admission:
        """Keep each text, in order, unless it is a duplicate of a text kept before it, in this call or an earlier one.

        `threads`: the most threads to use; None means one for each processor. A small batch uses only one. The
        decisions do not depend on it.
        """
        findings = self._take(texts, anyway=False, threads=threads or processors())
        return Admission(kept=findings.nearest < 0, nearest=findings.nearest, lcs=findings.lcs, score=findings.score)

    def look_up(self, texts: Sequence[str], *, threads: int | None = None) -> Admission:
        """Find the duplicates of kept texts among these, and keep none. `kept` is true for texts that could be kept."""
        encoded, findings = self._encode(texts), _empty_findings(len(texts))
        threads = min(threads or processors(), 1 + len(texts) // SHARED)
        portions = list(_portions(encoded.starts))
        if threads == 1:
            for begin, end in portions:
                self._look_up(encoded, begin, end, findings)
        else:
            with _started(threads) as pool:
                for share in [pool.submit(self._look_up, encoded, begin, end, findings) for begin, end in portions]:
                    share.result()
        return Admission(kept=findings.nearest < 0, nearest=findings.nearest, lcs=findings.lcs, score=findings.score)

    def _take(self, texts: Sequence[str], *, anyway: bool, threads: int = 1) -> Findings:
        encoded, findings = self._encode(texts), _empty_findings(len(texts))
        with wrapping():
            if threads > 1 and len(texts) >= SHARED and np.diff(encoded.starts).max() <= LONGEST:
                with _started(threads) as pool:
                    for first, last in _portions(encoded.starts):
                        part = Texts(encoded.ids, encoded.starts[first : last + 1])
                        own = Findings(
                            findings.nearest[first:last], findings.lcs[first:last], findings.score[first:last]
                        )
                        self._take_together(part, own, pool, threads)
            else:
                self._take_in_turn(encoded, findings, anyway=anyway)
        return findings

    def _take_in_turn(self, texts: Texts, findings: Findings, *, anyway: bool) -> None:
        begin = 0
        for _, last in _portions(texts.starts):
            part = texts.starts[: last + 1]
            while begin < last:
                size, begin = search.admit(
                    *(texts.ids, part, begin, self._rule, self._corpus, self._postings.table, self._rows),
                    *(findings, len(self), anyway),
                )
                self._texts.extend_to(size)
                if begin < last:
                    self._make_room(texts, begin)

    def _take_together(self, part: Texts, findings: Findings, pool: ThreadPoolExecutor, threads: int) -> None:
        """Look for duplicates among the kept texts and within the part on all threads, and then decide in order."""
        cuts = np.linspace(0, len(part), threads + 1).astype(int).tolist()
        shares = [pool.submit(self._look_up, part, begin, end, findings) for begin, end in pairwise(cuts)]
        own = Texts(part.ids[part.starts[0] : part.starts[-1]], part.starts - part.starts[0])
        pairs = pairs_within(own, self.threshold, self._rule.least, pool)
        for share in shares:
            share.result()
        positions = np.full(len(part), -1, dtype=np.int64)
        begin = 0
        while begin < len(part):
            size, begin = search.admit_looked_up(
                *(part.ids, part.starts, begin, self._rule, self._corpus, self._postings.table),
                *(pairs, positions, findings, len(self)),
            )
            self._texts.extend_to(size)
            self._make_room(part, begin)

    def _look_up(self, texts: Texts, begin: int, end: int, findings: Findings) -> None:
        with wrapping():  # each thread needs its own context
            search.look_up(
                *(texts.ids, texts.starts, begin, end, self._rule, self._corpus, self._postings.table),
                *(np.zeros_like(self._rows), findings),
            )

    def _make_room(self, texts: Texts, begin: int) -> None:
        """Make room in the postings for the text at `begin`, at which a kernel stopped, if there is one."""
        if begin < len(texts):
            length = int(texts.starts[begin + 1] - texts.starts[begin])
            self._postings.reserve(keys_at_most(length, len(self)), len(self))

    def pair_up(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """Keep all these texts, and report every duplicate before each of them, in the index or the batch.

        One row for each pair: position of the earlier text, position of the later text, LCS in tokens. Rows are sorted
        by the later text, then by the earlier text.
        """
        encoded = self._encode(texts)
        parts = [np.empty((0, 3), dtype=np.int64)]
        begin = 0
        with wrapping():
            for _, last in _portions(encoded.starts):
                part = encoded.starts[: last + 1]
                while begin < last:
                    size, begin, pairs = search.pair_up(
                        *(encoded.ids, part, begin, self._rule, self._corpus, self._postings.table, self._rows),
                        len(self),
                    )
                    parts.append(pairs)
                    self._texts.extend_to(size)
                    if begin < last:
                        self._make_room(encoded, begin)
        return np.concatenate(parts)

    def nearest(self, positions: Positions | None = None, *, threads: int | None = None) -> Nearest:
        """The most similar other kept text of each kept text, before it or after it. This is for analysis.

        `positions`: the texts to ask for; None means all. The method compares each of them with every kept text, so its
        time grows with the product. Raises ValueError for a position that is not in the index.
        """
        kept = Texts(self._texts.values[: self.tokens], self._texts.starts[: len(self) + 1])
        chosen = np.arange(len(self)) if positions is None else np.asarray(positions, dtype=np.int64)
        if len(chosen) and not 0 <= chosen.min() <= chosen.max() < len(self):
            raise ValueError(f"positions must be from 0 to {len(self) - 1}, the last kept text")
        return best(kept.of(chosen), kept, excluding=chosen, threads=threads)

    def _encode(self, texts: Sequence[str]) -> Texts:
        """Encode the texts as token ids, and make room for them in every buffer except the postings."""
        if len(self) + len(texts) > MOST_TEXTS:
            raise OverflowError(f"an index holds at most {MOST_TEXTS:,} texts: use several indexes")
        encoded = self._vocabulary.encode(texts)
        self._texts.reserve(len(texts), len(encoded.ids))
        self._signatures = grown(self._signatures, len(self) + len(texts))
        self._rows = grown(self._rows, len(self._vocabulary))
        return encoded


@contextmanager
def _started(threads: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that end with what they do when an exception comes, such as Ctrl-C, and begin nothing else."""
    pool = ThreadPoolExecutor(threads)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _empty_findings(count: int) -> Findings:
    none = np.full(count, -1, dtype=np.int64)
    return Findings(none, none.copy(), np.full(count, np.nan))


def _portions(starts: npt.NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Cut texts into parts of about `AT_ONCE` tokens, so that comparing all pairs within a part is quick."""
    first = 0
    while first < len(starts) - 1:
        last = int(np.searchsorted(starts, starts[first] + AT_ONCE, side="right")) - 1
        last = max(first + 1, last)
        yield first, last
        first = last


def similar_pairs(
    texts: Sequence[str], threshold: float, tokenizer: Tokenizer = ROUGE_TOKENIZER
) -> npt.NDArray[np.int64]:
    """All pairs of texts with a ROUGE-L above the threshold: rows of (i, j, LCS) with i < j."""
    return DedupIndex(threshold, tokenizer).pair_up(texts)


def warm_up() -> None:
    """Compile every kernel of an index, or load it from the disk cache, so that later calls do not wait for it.

    The first call on a machine takes about half a minute. Any thread may call it, more than once.
    """
    index = DedupIndex(0.5)
    index.add(["one", " ".join(map(str, range(FIRST)))])  # long enough that every buffer must grow
    index.admit(["one"] * SHARED, threads=2)
    lcs_length(["one"], ["one"])
    fmeasure(1, 1, 1)
    least_duplicate_lcs(1, 1, 0.5)
