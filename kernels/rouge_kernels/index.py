"""The index of the texts kept so far. It decides for each new text if it is a near-duplicate of one of them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from rouge_kernels import search
from rouge_kernels._jit import compilation_told
from rouge_kernels.bounds import bounds_for
from rouge_kernels.comparison import Progress, new_progress
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
from rouge_kernels.threads import Crew, processors
from rouge_kernels.tokenizer import ROUGE_TOKENIZER, Tokenizer
from rouge_kernels.vocabulary import Vocabulary
from rouge_kernels.within import pairs_within

SHARED = 256
"""Texts. Only batches of at least this size start threads; for smaller batches threads cost more than they save."""
AT_ONCE = 1 << 14
"""Tokens of the texts that a kernel judges in one call. All threads compare them with the index and each other before
the index keeps any of them."""
LONG = 1 << 10
"""Tokens. Longer texts are judged one by one, because comparing all pairs of a few long texts at once saves nothing."""
STEPS = 1 << 23
"""Steps of one call of a kernel, a few hundredths of a second, or a tenth where a text's tokens are everywhere in the
other: about as long as a signal such as Ctrl-C waits."""


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

    Two threads must not use an index at the same time. A call releases the GIL while it searches. A signal that ends a
    call, such as Ctrl-C, leaves an index with the texts that the call has kept by then.
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
        return Corpus(self._texts.values, self._texts.starts, self._signatures, self._texts.count)

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
        findings = self._take(texts, anyway=False, threads=1 if len(texts) < SHARED else threads or processors())
        return Admission(kept=findings.nearest < 0, nearest=findings.nearest, lcs=findings.lcs, score=findings.score)

    def look_up(self, texts: Sequence[str], *, threads: int | None = None) -> Admission:
        """Find the duplicates of kept texts among these, and keep none. `kept` is true for texts that could be kept."""
        encoded, findings = self._encode(texts), _empty_findings(len(texts))
        threads = min(threads or processors(), 1 + len(texts) // SHARED)
        portions = list(_portions(encoded.starts))
        with Crew(threads) as crew:
            crew.share(lambda begin, end: self._look_up(encoded, begin, end, findings, crew), portions)
        return Admission(kept=findings.nearest < 0, nearest=findings.nearest, lcs=findings.lcs, score=findings.score)

    def _take(self, texts: Sequence[str], *, anyway: bool, threads: int = 1) -> Findings:
        encoded, findings = self._encode(texts), _empty_findings(len(texts))
        progress = new_progress(len(encoded.ids), STEPS)
        with wrapping(), Crew(threads) as crew:
            for first, last in _portions(encoded.starts):
                is_taken = (
                    threads > 1
                    and last - first > threads
                    and self._take_together(
                        Texts(encoded.ids, encoded.starts[first : last + 1]), findings.of(first, last), crew
                    )
                )
                if not is_taken:
                    self._take_in_turn(encoded, first, last, findings, progress, anyway=anyway)
        return findings

    def _take_in_turn(
        self, texts: Texts, first: int, last: int, findings: Findings, progress: Progress, *, anyway: bool
    ) -> None:
        part = texts.starts[: last + 1]
        begin = first
        while begin < last:
            begin = search.admit(
                *(texts.ids, part, begin, self._rule, self._corpus, self._postings.table, self._rows),
                *(findings, progress, anyway),
            )
            self._make_room(part, begin)

    def _take_together(self, part: Texts, findings: Findings, crew: Crew) -> bool:
        """Look for duplicates among the kept texts and within the part on all threads, and then decide in order.

        Returns False, with nothing decided, if the part has so many duplicates that one after another is quicker.
        """
        cuts = np.linspace(0, len(part), crew.threads + 1).astype(int).tolist()
        crew.share(lambda begin, end: self._look_up(part, begin, end, findings, crew), list(pairwise(cuts)))
        own = Texts(part.ids[part.starts[0] : part.starts[-1]], part.starts - part.starts[0])
        pairs = pairs_within(own, findings.nearest < 0, self.threshold, self._rule.least, crew.pool)
        if pairs is None:
            findings.clear()
            return False
        positions = np.full(len(part), -1, dtype=np.int64)
        begin = 0
        while begin < len(part):
            begin = search.admit_looked_up(
                *(part.ids, part.starts, begin, self._rule, self._corpus, self._postings.table),
                *(pairs, positions, findings),
            )
            self._make_room(part.starts, begin)
        return True

    def _look_up(self, texts: Texts, begin: int, end: int, findings: Findings, crew: Crew) -> None:
        progress, rows = new_progress(len(texts.ids), STEPS), np.zeros_like(self._rows)
        with wrapping():  # each thread needs its own context
            while begin < end and not crew.has_ended:
                begin = search.look_up(
                    *(texts.ids, texts.starts, begin, end, self._rule, self._corpus, self._postings.table),
                    *(rows, findings, progress),
                )

    def _make_room(self, starts: npt.NDArray[np.int64], begin: int) -> None:
        """Make room in the postings for the text at `begin`, at which a kernel stopped, if there is one."""
        if begin < len(starts) - 1:
            length = int(starts[begin + 1] - starts[begin])
            self._postings.reserve(keys_at_most(length, len(self)), len(self))

    def pair_up(self, texts: Sequence[str] | Texts) -> npt.NDArray[np.int64]:
        """Keep all these texts, and report every duplicate before each of them, in the index or the batch.

        `texts` may also be the token ids of an encoder of your own; then all texts of the index have to be. The search
        is quickest where rare tokens have high ids.

        One row for each pair: position of the earlier text, position of the later text, LCS in tokens. Rows are sorted
        by the later text, then by the earlier text.
        """
        encoded = self._encode(texts)
        parts = [np.empty((0, 3), dtype=np.int64)]
        progress = new_progress(len(encoded.ids), STEPS)
        begin = 0
        with wrapping():
            while begin < len(encoded):
                begin, pairs = search.pair_up(
                    *(encoded.ids, encoded.starts, begin, self._rule, self._corpus, self._postings.table, self._rows),
                    progress,
                )
                parts.append(pairs)
                self._make_room(encoded.starts, begin)
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

    def _encode(self, texts: Sequence[str] | Texts) -> Texts:
        """Encode the texts as token ids, and make room for them in every buffer except the postings."""
        if len(self) + len(texts) > MOST_TEXTS:
            raise OverflowError(f"an index holds at most {MOST_TEXTS:,} texts: use several indexes")
        encoded = texts if isinstance(texts, Texts) else self._vocabulary.encode(texts)
        self._texts.reserve(len(texts), len(encoded.ids))
        self._signatures = grown(self._signatures, len(self) + len(texts))
        self._rows = grown(self._rows, int(encoded.ids.max(initial=-1)) + 1)
        return encoded


def _empty_findings(count: int) -> Findings:
    findings = Findings(np.empty(count, np.int64), np.empty(count, np.int64), np.empty(count))
    findings.clear()
    return findings


def _portions(starts: npt.NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Cut texts into parts of about `AT_ONCE` tokens, so that comparing all pairs within a part is quick; a long text
    is a part of its own.
    """
    first = 0
    if len(starts) > 1 and starts[-1] <= LONG:
        yield 0, len(starts) - 1
        return
    for stop in [*np.flatnonzero(np.diff(starts) > LONG).tolist(), len(starts) - 1]:
        while first < stop:
            last = int(np.searchsorted(starts, starts[first] + AT_ONCE, side="right")) - 1
            last = min(max(first + 1, last), stop)
            yield first, last
            first = last
        if stop < len(starts) - 1:
            yield stop, stop + 1
            first = stop + 1


def similar_pairs(
    texts: Sequence[str] | Texts, threshold: float, tokenizer: Tokenizer = ROUGE_TOKENIZER
) -> npt.NDArray[np.int64]:
    """All pairs of texts with a ROUGE-L above the threshold: rows of (i, j, LCS) with i < j. `texts`: see `pair_up`."""
    return DedupIndex(threshold, tokenizer).pair_up(texts)


def warm_up(on_compilation: Callable[[], None] | None = None) -> None:
    """Compile every kernel of an index, or load it from the disk cache, so that later calls do not wait for it.

    The first call of an installation takes about half a minute, and `on_compilation` is called as it begins to compile.
    Any thread may call it, more than once.
    """
    with nullcontext() if on_compilation is None else compilation_told(on_compilation):
        index = DedupIndex(0.5)
        index.add(["one", " ".join(map(str, range(FIRST)))])  # long enough that every buffer must grow
        index.admit(["one"] * SHARED, threads=2)
        lcs_length(["one"], ["one"])
        fmeasure(1, 1, 1)
        least_duplicate_lcs(1, 1, 0.5)
