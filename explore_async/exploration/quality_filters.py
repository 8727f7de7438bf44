"""The quality filters: reasons to drop an example that can be seen in the example alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from explore_async.exploration.filter_patterns import (
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
from explore_async.exploration.parsing import ExampleDraft
from explore_async.exploration.values import Demonstration
from explore_async.settings.recipe import Filters
from rouge_kernels import Tokenizer

_UNFINISHED = re.compile(r"(?:[,:(\[{、，：；（]|(?<!\d)(?<!\d, )(?:\.\.\.|…))\s*$")  # code ends in ";", numbers go on…
_LONGEST_ENDING = 8
_SHORT = 5  # words: answers like "yes" or a label are the same for many questions
_AT_THE_ENDS = " .!?。！？\"'“”"
_LETTER = r"[^\W\u2e80-\u9fff]"  # of a script that puts spaces between words; Chinese and Japanese do not


def quality_check(
    filters: Filters, tokenize: Tokenizer
) -> Callable[[ExampleDraft, Sequence[Demonstration]], str | None]:
    """A function that returns the reason to drop a draft, or None, given the draft and the demonstrations of its
    prompt.
    """
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
            _copies(draft)
            or (len(output) > _SHORT and any(draft.output == demonstration.output for demonstration in shown))
        ):
            return "copied"
        if banned is not None and any(map(banned.search, (draft.instruction, draft.input, draft.output))):
            return "banned_word"
        return None

    return reason_to_drop


def _repetition(words: Sequence[str]) -> float:
    """The share of runs of three words that occurred earlier in the text: near 1 where a model repeats itself."""
    runs = list(zip(words, words[1:], words[2:], strict=False))
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def _has_placeholder(text: str) -> bool:
    """True when the text has a gap that was never filled. A few letters are looked for first: the patterns are slow."""
    if ("[" in text or "{" in text or "<" in text) and GAP_IN_BRACKETS.search(text):
        return True
    low = text.lower()
    if any(part in low for part in PARTS_OF_STAND_INS) and STAND_IN.search(text):
        return True
    return NO_ANSWER.match(text) is not None


def _is_unfinished(draft: ExampleDraft) -> bool:
    """True when the output stops in mid-sentence, or the input does and the instruction does not ask for the rest."""
    cut_input = draft.input.rstrip().endswith(("...", "…")) and not ASKS_FOR_THE_REST.search(draft.instruction)
    return cut_input or _UNFINISHED.search(draft.output.rstrip()[-_LONGEST_ENDING:]) is not None


def _lacks_input(instruction: str) -> bool:
    """True when the instruction points at a missing text: no quotation, no line break, nothing behind a colon."""
    low = instruction.lower()
    pointing = POINTER_AT_INPUT.search(instruction) if any(part in low for part in PARTS_OF_POINTERS) else None
    if pointing is None:
        return False
    rest = instruction[pointing.end() :]
    return not re.search(r"[\"“'‘「『\n].+|[:：]\s*\S.+", rest, re.DOTALL)


def _copies(draft: ExampleDraft) -> bool:
    """True when the output equals the instruction or the input, apart from their ends. Inside, a comma or a capital
    may be the whole task.
    """
    instruction, input_text, output = (
        " ".join(text.split()).strip(_AT_THE_ENDS) for text in (draft.instruction, draft.input, draft.output)
    )
    return bool(output) and output in (instruction, input_text) and not ASKS_FOR_A_COPY.search(draft.instruction)
