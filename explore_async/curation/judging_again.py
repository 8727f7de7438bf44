"""Judges examples that are there: each gets its verdict by the filters and by those kept before it, and is written with
it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from explore_async.curation.candidates import Candidate
from explore_async.curation.collections.collection import ExampleRow
from explore_async.curation.collections.data_directory import DataDirectory
from explore_async.curation.files.batching import batches, characters_in
from explore_async.curation.paraphrases import Paraphrases
from explore_async.curation.tokenizers import UnseenLetters
from explore_async.exploration.corpus import Corpora
from explore_async.exploration.language_check import language_told
from explore_async.exploration.parsing import ExampleDraft
from explore_async.exploration.quality_filters import quality_check
from explore_async.exploration.values import Demonstration, Verdict
from explore_async.settings.recipe import MEANING, Filters
from rouge_kernels import TOKENIZERS

_BATCH = 8192
_NO_LIMIT = 2**40
ROUGE_ONLY = Filters(
    min_instruction_words=0,
    max_instruction_words=_NO_LIMIT,
    min_output_words=0,
    max_output_words=_NO_LIMIT,
    max_repetition=1,
    refusals=False,
    placeholders=False,
    missing_inputs=False,
    copies=False,
)
"""For data that was made elsewhere: no filter of quality, unless a setting asks for it."""


@dataclass(slots=True)
class Judge:
    """Owns the corpora of kept texts, and writes every candidate to the directory with its verdict.

    `compared`: the text of an example that is compared with those of others.
    """

    filters: Filters
    tokenizer: str
    seeds: Sequence[Sequence[str]]
    directory: DataDirectory
    compared: Callable[[ExampleRow], str]
    language: str = "English"
    meaning: int = MEANING
    paraphrases: Paraphrases | None = None
    """Drops what ROUGE-L keeps and says the same in other words, where that is asked for."""
    judged: int = 0
    duplicates_with_input: int = 0
    language_not_told: int = 0
    """Kept examples whose texts do not show that they are in the language; counted where it is checked."""
    shorter: int = 0
    """Kept conversations that end before a turn without a stored outcome."""
    unseen: UnseenLetters = field(init=False)
    _corpora: Corpora = field(init=False)
    _judges_quality: bool = field(init=False)
    _reason: Callable[[ExampleDraft, Sequence[Demonstration]], str | None] = field(init=False)
    _reason_alone: Callable[[ExampleDraft, Sequence[Demonstration]], str | None] = field(init=False)
    _is_told: Callable[[ExampleDraft], bool] | None = field(init=False)

    def __post_init__(self) -> None:
        self.unseen = UnseenLetters(self.tokenizer)
        self._corpora = Corpora(self.filters, self.tokenizer, self.seeds)
        compared = {"threshold", "task_threshold", "scope", "tokenizer"}
        self._judges_quality = self.filters.model_dump(exclude=compared) != ROUGE_ONLY.model_dump(exclude=compared)
        tokenize = TOKENIZERS[self.tokenizer]
        check = partial(quality_check, self.filters, tokenize, language=self.language, meaning=self.meaning)
        self._reason, self._reason_alone = check(), check(outputs=False)
        self._is_told = language_told(self.language) if self.filters.language else None

    def take(self, batch: Sequence[Candidate]) -> None:
        verdicts = [self._quality(candidate) for candidate in batch]
        groups: dict[int, list[int]] = {}
        for position, (candidate, verdict) in enumerate(zip(batch, verdicts, strict=True)):
            if verdict is None:
                groups.setdefault(id(self._corpora.of(candidate.task_id)), []).append(position)
        for members in groups.values():
            texts = [(self.compared(example), str(example["id"])) for _, example in _of(batch, members)]
            self.unseen.count([text for text, _ in texts])
            admitted = self._corpora.of(batch[members[0]].task_id).admit_all(texts)
            for position, verdict in zip(members, admitted, strict=True):
                verdicts[position] = verdict
        if self.paraphrases is not None:
            self._look_for_paraphrases(self.paraphrases, batch, verdicts)
        for candidate, verdict in zip(batch, verdicts, strict=True):
            assert verdict is not None
            late = verdict.kept and candidate.late
            self._write(candidate, Verdict(kept=False, reason=late) if late else verdict)
        self.judged += len(batch)

    def _look_for_paraphrases(
        self, paraphrases: Paraphrases, batch: Sequence[Candidate], verdicts: list[Verdict | None]
    ) -> None:
        """Changes the verdicts on what would be kept otherwise."""
        scopes: dict[str, list[int]] = {}
        for position, (candidate, verdict) in enumerate(zip(batch, verdicts, strict=True)):
            if verdict is not None and verdict.kept and not candidate.late:
                scopes.setdefault(self._corpora.scope_of(candidate.task_id), []).append(position)
        for scope, members in scopes.items():
            texts = [(self.compared(example), str(example["id"])) for _, example in _of(batch, members)]
            for position, verdict in zip(members, paraphrases.admit_all(texts, scope), strict=True):
                verdicts[position] = verdict

    def _quality(self, candidate: Candidate) -> Verdict | None:
        if candidate.example is None:
            return Verdict(kept=False, reason=candidate.reason)
        if not self._judges_quality:  # which takes longer than ROUGE-L
            return None
        draft = _draft(candidate.example)
        if candidate.alone:
            reason = self._reason_alone(replace(draft, output=""), candidate.shown)
        else:
            reason = self._reason(draft, candidate.shown)
        return None if reason is None else Verdict(kept=False, reason=reason)

    def _write(self, candidate: Candidate, verdict: Verdict) -> None:
        if verdict.kept:
            assert candidate.example is not None
            self.directory.keep(candidate.example)
            self.shorter += candidate.is_shorter
            if self._is_told is not None and not self._is_told(_draft(candidate.example)):
                self.language_not_told += 1
        else:
            self.directory.drop(candidate.task_id, verdict.reason)
            if candidate.example is not None and verdict.nearest is not None:
                self.duplicates_with_input += bool(candidate.example["input"])
        line: dict[str, Any] = {"what": "example", "id": None, "task_id": candidate.task_id}
        if candidate.example is None:
            line["excerpt"] = candidate.excerpt
        else:
            line["id"] = candidate.example["id"]
            if not verdict.kept:
                line["instruction"] = candidate.example["instruction"]
        line |= {"kept": verdict.kept, "reason": verdict.reason}
        if verdict.nearest is not None:
            line |= {"score": verdict.score, "nearest": verdict.nearest}
        if verdict.reason == candidate.late:
            line |= candidate.evidence
        line |= candidate.told
        self.directory.decide({**line, "request": candidate.request})


def _draft(example: ExampleRow) -> ExampleDraft:
    return ExampleDraft(example["instruction"], example["input"], example["output"])


def _of(batch: Sequence[Candidate], members: Sequence[int]) -> Iterator[tuple[int, ExampleRow]]:
    for position in members:
        example = batch[position].example
        assert example is not None
        yield position, example


def batches_of(candidates: Iterable[Candidate]) -> Iterator[list[Candidate]]:
    return batches(candidates, _BATCH, lambda candidate: characters_in(candidate.example))
