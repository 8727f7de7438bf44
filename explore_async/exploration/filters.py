"""What is kept: quality filters over a single draft, and ROUGE-L against what is there already."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from explore_async.exploration.ids import Ids
from explore_async.exploration.parsing import ExampleDraft
from explore_async.exploration.patterns import (
    ASKS_FOR_A_COPY,
    ASKS_FOR_THE_REST,
    GAP_IN_BRACKETS,
    NO_ANSWER,
    PARTS_OF_POINTERS,
    PARTS_OF_STAND_INS,
    POINTER_AT_INPUT,
    REFUSAL,
    STAND_IN,
)
from explore_async.exploration.values import Demonstration, Verdict
from explore_async.settings.recipe import Filters
from rouge_kernels import TOKENIZERS, DedupIndex, Tokenizer

_UNFINISHED = re.compile(r"(?:[,:(\[{、，：；（]|(?<!\d)(?<!\d, )(?:\.\.\.|…))\s*$")  # code ends in ";", numbers go on…
_LONGEST_ENDING = 8
_SHORT = 5  # words: answers like "yes" or a label are the same for many questions
_AT_THE_ENDS = " .!?。！？\"'“”"
_LETTER = r"[^\W\u2e80-\u9fff]"  # of a script that puts spaces between words; Chinese and Japanese do not
_TOKEN_IN_ANY_CASE = re.compile("[A-Za-z0-9]")  # part of a token for every tokenizer: spares most texts a second look


def quality_check(
    filters: Filters, tokenize: Tokenizer
) -> Callable[[ExampleDraft, Sequence[Demonstration]], str | None]:
    """A function that gives the reason to drop a draft, or None, from the draft and the demonstrations it was shown."""
    banned = (
        re.compile(
            rf"(?<!{_LETTER})(?:" + "|".join(map(re.escape, filters.banned_words)) + rf")(?!{_LETTER})",
            re.IGNORECASE,
        )
        if filters.banned_words
        else None
    )

    def reason_to_drop(draft: ExampleDraft, shown: Sequence[Demonstration]) -> str | None:
        instruction, output = tokenize(draft.instruction), tokenize(draft.output)
        if len(instruction) < filters.min_instruction_words or len(output) < filters.min_output_words:
            return "too_short"
        if len(instruction) > filters.max_instruction_words or len(output) > filters.max_output_words:
            return "too_long"
        if _repetition(output) > filters.max_repetition and not ASKS_FOR_A_COPY.search(draft.instruction):
            return "repetitive"
        if filters.refusals and REFUSAL.search(draft.output):
            return "refusal"
        if filters.placeholders and any(map(_has_placeholder, (draft.input, draft.output, draft.instruction))):
            return "placeholder"
        if filters.placeholders and _is_unfinished(draft):
            return "unfinished"
        if filters.missing_inputs and not draft.input and _lacks_input(draft.instruction):
            return "missing_input"
        if filters.copies and (
            _copies(draft) or (len(output) > _SHORT and any(draft.output == one.output for one in shown))
        ):
            return "copied"
        if banned is not None and any(map(banned.search, (draft.instruction, draft.input, draft.output))):
            return "banned_word"
        return None

    return reason_to_drop


def _repetition(words: Sequence[str]) -> float:
    """The share of the runs of three words that occurred earlier in the text: near 1 where a model goes in circles."""
    runs = list(zip(words, words[1:], words[2:], strict=False))
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def _has_placeholder(text: str) -> bool:
    """The patterns are slow on the many texts that hold nothing of the kind: a few letters are looked for first."""
    if ("[" in text or "{" in text or "<" in text) and GAP_IN_BRACKETS.search(text):
        return True
    low = text.lower()
    if any(part in low for part in PARTS_OF_STAND_INS) and STAND_IN.search(text):
        return True
    return NO_ANSWER.match(text) is not None


def _is_unfinished(draft: ExampleDraft) -> bool:
    """The output breaks off, or the input does though the instruction does not ask for the rest of it."""
    cut_input = draft.input.rstrip().endswith(("...", "…")) and not ASKS_FOR_THE_REST.search(draft.instruction)
    return cut_input or _UNFINISHED.search(draft.output.rstrip()[-_LONGEST_ENDING:]) is not None


def _lacks_input(instruction: str) -> bool:
    """The instruction points at a text that is not there: no quotation, no line break, nothing behind a colon."""
    low = instruction.lower()
    pointing = POINTER_AT_INPUT.search(instruction) if any(part in low for part in PARTS_OF_POINTERS) else None
    if pointing is None:
        return False
    rest = instruction[pointing.end() :]
    return not re.search(r"[\"“'‘「『\n].+|[:：]\s*\S.+", rest, re.DOTALL)


def _copies(draft: ExampleDraft) -> bool:
    """The same text but for its ends. A comma or a capital more inside may be all that was asked for."""
    instruction, given, output = (
        " ".join(text.split()).strip(_AT_THE_ENDS) for text in (draft.instruction, draft.input, draft.output)
    )
    return bool(output) and output in (instruction, given) and not ASKS_FOR_A_COPY.search(draft.instruction)


_ACCEPTED = Verdict(kept=True, reason="accepted")


class Corpus:
    """Texts kept so far, by id, and the ROUGE-L decision whether another is new.

    A text without tokens (under the tokenizer) has no ROUGE-L: it is a duplicate of an equal string only.
    """

    def __init__(self, threshold: float, tokenizer: str, known: Corpus | None = None) -> None:
        """`known`: texts that come before all others; it may be shared by several."""
        self.tokenize = TOKENIZERS[tokenizer]
        self._known = known
        self._index = DedupIndex(threshold, self.tokenize)
        self._ids = Ids()
        self._bare: dict[str, str] = {}

    def add(self, texts: Sequence[tuple[str, str]]) -> None:
        """Kept whatever they resemble, each a text and its id: seeds."""
        for text, text_id in texts:
            if self._is_bare(text):
                self._bare.setdefault(text, text_id)
        tokenized = [(text, text_id) for text, text_id in texts if not self._is_bare(text)]
        self._index.add([text for text, _ in tokenized])
        self._ids.extend(text_id for _, text_id in tokenized)

    def admit(self, text: str, text_id: str) -> Verdict:
        return self.admit_all([(text, text_id)])[0]

    def admit_all(self, texts: Sequence[tuple[str, str]]) -> list[Verdict]:
        """One after the other: each is compared with all that was kept before it. Each is a text and its id."""
        if self._known is None:
            return self._admit_new(texts)
        verdicts = self._known.look_up([text for text, _ in texts])
        new = iter(self._admit_new([one for one, verdict in zip(texts, verdicts, strict=True) if verdict is None]))
        return [next(new) if verdict is None else verdict for verdict in verdicts]

    def look_up(self, texts: Sequence[str]) -> list[Verdict | None]:
        """For each text the verdict that drops it, if it is a duplicate. None is kept."""
        found = self._index.look_up(texts)
        near = zip(texts, found.nearest.tolist(), found.score.tolist(), strict=True)
        return [
            self._duplicate(self._bare.get(text)) if position < 0 else self._duplicate(self._ids[position], score)
            for text, position, score in near
        ]

    @staticmethod
    def _duplicate(nearest: str | None, score: float = 1.0) -> Verdict | None:
        return None if nearest is None else Verdict(kept=False, reason="duplicate", score=score, nearest=nearest)

    def _admit_new(self, texts: Sequence[tuple[str, str]]) -> list[Verdict]:
        bare = [self._is_bare(text) for text, _ in texts]
        admission = self._index.admit([text for (text, _), is_bare in zip(texts, bare, strict=True) if not is_bare])
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
    """The corpus or corpora of a run's instructions, by the configured scope. Seeds belong to all of their domain, what
    is known already to all.
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

    def of(self, task_id: str) -> Corpus:
        domain = task_id.partition(".")[0]
        name = {"run": "", "domain": domain, "task": task_id}[self._filters.scope]
        corpus = self._corpora.get(name)
        if corpus is None:
            corpus = self._corpora[name] = Corpus(self._filters.threshold, self._tokenizer, self._known)
            for seeds in [self._seeds.get(domain, [])] if name else self._seeds.values():
                corpus.add(seeds)
        return corpus
