"""The texts kept so far, and the ROUGE-L decision about another text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from explore_async.exploration.ids import Ids
from explore_async.exploration.values import Verdict
from explore_async.settings.recipe import Filters
from rouge_kernels import TOKENIZERS

if TYPE_CHECKING:
    from rouge_kernels import DedupIndex

_TOKEN_IN_ANY_CASE = re.compile("[A-Za-z0-9]")  # part of a token for every tokenizer: spares most texts a second look
_ACCEPTED = Verdict(kept=True, reason="accepted")
_MOST_NOT_INDEXED = 1000


class Corpus:
    """Owns texts with their ids, and decides by ROUGE-L if another text is new.

    A text without tokens (under the tokenizer) has no ROUGE-L; it is a duplicate of an equal string only.
    """

    def __init__(self, threshold: float, tokenizer: str, known: Corpus | None = None) -> None:
        """`known`: a corpus that comes before this one; several may share it."""
        self.tokenize = TOKENIZERS[tokenizer]
        self._known = known
        self._threshold = threshold
        self._index: DedupIndex | None = None
        self._not_indexed: list[str] = []
        self._ids = Ids()
        self._bare: dict[str, str] = {}

    def add(self, texts: Sequence[tuple[str, str]]) -> None:
        """Adds texts, each with its id, without a comparison."""
        for text, text_id in texts:
            if self._is_bare(text):
                self._bare.setdefault(text, text_id)
        tokenized = [(text, text_id) for text, text_id in texts if not self._is_bare(text)]
        self._not_indexed += [text for text, _ in tokenized]
        self._ids.extend(text_id for _, text_id in tokenized)
        if len(self._not_indexed) > _MOST_NOT_INDEXED:
            self._indexed()

    def _indexed(self) -> DedupIndex:
        """The index of all texts, made for the first comparison: a run asks before its kernels are loaded."""
        if self._index is None:
            from rouge_kernels import DedupIndex

            self._index = DedupIndex(self._threshold, self.tokenize)
        if self._not_indexed:
            self._index.add(self._not_indexed)
            self._not_indexed.clear()
        return self._index

    def admit(self, text: str, text_id: str) -> Verdict:
        return self.admit_all([(text, text_id)])[0]

    def admit_all(self, texts: Sequence[tuple[str, str]]) -> list[Verdict]:
        """Decides about texts, each with its id, in order: each is compared with all that were kept before it."""
        if self._known is None:
            return self._admit_new(texts)
        verdicts = self._known.look_up([text for text, _ in texts])
        new = iter(self._admit_new([text for text, verdict in zip(texts, verdicts, strict=True) if verdict is None]))
        return [next(new) if verdict is None else verdict for verdict in verdicts]

    def look_up(self, texts: Sequence[str]) -> list[Verdict | None]:
        """The verdict on each text that is a duplicate, None for each that is new. Keeps no text."""
        matches = self._indexed().look_up(texts)
        near = zip(texts, matches.nearest.tolist(), matches.score.tolist(), strict=True)
        return [
            self._duplicate(self._bare.get(text)) if position < 0 else self._duplicate(self._ids[position], score)
            for text, position, score in near
        ]

    @staticmethod
    def _duplicate(nearest: str | None, score: float = 1.0) -> Verdict | None:
        return None if nearest is None else Verdict(kept=False, reason="duplicate", score=score, nearest=nearest)

    def _admit_new(self, texts: Sequence[tuple[str, str]]) -> list[Verdict]:
        bare = [self._is_bare(text) for text, _ in texts]
        admission = self._indexed().admit([text for (text, _), is_bare in zip(texts, bare, strict=True) if not is_bare])
        judged = zip(admission.kept.tolist(), admission.nearest.tolist(), admission.score.tolist(), strict=True)
        return [
            self._judge_bare(text, text_id) if is_bare else self._judge(text_id, *next(judged))
            for (text, text_id), is_bare in zip(texts, bare, strict=True)
        ]

    def _judge(self, text_id: str, kept: bool, nearest: int, score: float) -> Verdict:
        if kept:
            self._ids.append(text_id)
            return _ACCEPTED
        return Verdict(kept=False, reason="duplicate", score=score, nearest=self._ids[nearest])

    def _judge_bare(self, text: str, text_id: str) -> Verdict:
        nearest = self._bare.setdefault(text, text_id)
        if nearest == text_id:
            return _ACCEPTED
        return Verdict(kept=False, reason="duplicate", score=1.0, nearest=nearest)

    def _is_bare(self, text: str) -> bool:
        return _TOKEN_IN_ANY_CASE.search(text) is None and not self.tokenize(text)


class Corpora:
    """Owns the instructions of a run: one corpus for the run, or one for each domain or task, by the configured scope.

    Seeds are in every corpus of their domain, known texts in all.
    """

    def __init__(
        self, filters: Filters, tokenizer: str, seeds: Sequence[Sequence[str]], known: Sequence[tuple[str, str]] = ()
    ) -> None:
        """`seeds`: the seed instructions of each domain, in order; `known`: texts with their ids."""
        self._known = Corpus(filters.threshold, tokenizer) if known else None
        if self._known is not None:
            self._known.add(known)
        self._filters = filters
        self._tokenizer = tokenizer
        self._seeds = {
            str(domain): [(text, f"seed:{domain}.{index}") for index, text in enumerate(texts)]
            for domain, texts in enumerate(seeds)
        }
        self._corpora: dict[str, Corpus] = {}

    def scope_of(self, task_id: str) -> str:
        """The name of that corpus: the same for tasks that share it, empty for one of the run."""
        return {"run": "", "domain": task_id.partition(".")[0], "task": task_id}[self._filters.scope]

    def of(self, task_id: str) -> Corpus:
        """The corpus that instructions for the task are compared with."""
        domain = task_id.partition(".")[0]
        name = self.scope_of(task_id)
        corpus = self._corpora.get(name)
        if corpus is None:
            corpus = self._corpora[name] = Corpus(self._filters.threshold, self._tokenizer, self._known)
            for seeds in [self._seeds.get(domain, [])] if name else self._seeds.values():
                corpus.add(seeds)
        return corpus
