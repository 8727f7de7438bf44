"""The quality filters: reasons to drop an example that can be seen in the example alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from explore_async.exploration.filter_patterns import (
    ASKS_FOR_A_COPY,
    ASKS_FOR_THE_REST,
    GAP_IN_BRACKETS,
    LINE_OF_A_LETTER,
    MAY_CHANGE_NOTHING,
    NO_ANSWER,
    PARAMETER,
    PARTS_OF_POINTERS,
    PARTS_OF_STAND_INS,
    POINTER_AT_INPUT,
    REFUSAL,
    STAND_IN,
    TEXT_BEHIND_POINTER,
    WRITES_CODE,
)
from explore_async.exploration.language_check import language_check
from explore_async.exploration.parsing import ExampleDraft
from explore_async.exploration.values import Demonstration
from explore_async.settings.recipe import MEANING, Filters
from rouge_kernels import TOKENIZERS, Tokenizer

_UNFINISHED = re.compile(r"(?:[,:(\[{、，：；（]|(?<!\d)(?<!\d, )(?:\.\.\.|…))\s*$")  # code ends in ";", numbers go on…
_LONGEST_ENDING = 8
_ANY_NUMBER = 1 << 62
_SHORT = 5  # words: answers like "yes" or a label are the same for many questions
_AT_THE_ENDS = " .!?。！？\"'“”"
_EXCUSES = 3
"""The version of the rules since which texts that real data showed to be sound are not dropped."""
_CUT = ("...", "…")
_LETTER = r"[^\W\u2e80-\u9fff]"  # of a script that puts spaces between words; Chinese and Japanese do not


def quality_check(
    filters: Filters,
    tokenize: Tokenizer,
    *,
    language: str = "English",
    meaning: int = MEANING,
    outputs: bool = True,
    instructions: bool = True,
) -> Callable[[ExampleDraft, Sequence[Demonstration]], str | None]:
    """A function that returns the reason to drop a draft, or None, given the draft and the demonstrations of its
    prompt.

    `language`: that of the recipe; `meaning`: its version of the rules. `outputs` False: the drafts have none yet.
    `instructions` False: instruction and input are given, and no fault of theirs is a reason.
    Raises ConfigError where the filters check a language that cannot be told from others.
    """
    if not instructions:
        any_length = {"min_instruction_words": 0, "max_instruction_words": _ANY_NUMBER}
        filters = filters.model_copy(update={**any_length, "missing_inputs": False})
    is_in_other_language = language_check(language, meaning) if filters.language else None
    excuses = meaning >= _EXCUSES
    count = _words_of_any_script if excuses else _words_seen
    fewest_of_output = filters.min_output_words if outputs else 0
    banned, required = _any_of(filters.banned_words), _any_of(filters.required_words)

    def reason_to_drop(draft: ExampleDraft, shown: Sequence[Demonstration]) -> str | None:
        instruction, output = tokenize(draft.instruction), tokenize(draft.output)
        words_of_instruction, words_of_output = count(draft.instruction, instruction), count(draft.output, output)
        if words_of_instruction < filters.min_instruction_words or words_of_output < fewest_of_output:
            return "too_short"
        if words_of_instruction > filters.max_instruction_words or words_of_output > filters.max_output_words:
            return "too_long"
        if _repetition(output) > filters.max_repetition and not ASKS_FOR_A_COPY.search(draft.instruction):
            return "repetitive"
        if filters.refusals and REFUSAL.search(draft.output):
            return "refusal"
        texts = (draft.instruction, draft.input, draft.output) if instructions else (draft.output,)
        if filters.placeholders and any(map(_has_placeholder, texts)):
            return "placeholder"
        given = draft if instructions else replace(draft, input="")
        if filters.placeholders and _is_unfinished(given) and not (excuses and _is_meant_so(draft)):
            return "unfinished"
        if filters.missing_inputs and not draft.input and _lacks_input(draft.instruction, excuses=excuses):
            return "missing_input"
        if filters.copies and (
            (_copies(draft) and not (excuses and MAY_CHANGE_NOTHING.search(draft.instruction)))
            or (len(output) > _SHORT and any(draft.output == demonstration.output for demonstration in shown))
        ):
            return "copied"
        if banned is not None and any(map(banned.search, texts)):
            return "banned_word"
        if required is not None and instructions and not required.search(draft.instruction):
            return "lacks_word"
        if is_in_other_language is not None and is_in_other_language(draft):
            return "other_language"
        return None

    return reason_to_drop


def _any_of(words: Sequence[str]) -> re.Pattern[str] | None:
    """What finds one of these words, in any case; None where there are none."""
    if not words:
        return None
    return re.compile(rf"(?<!{_LETTER})(?:{'|'.join(map(re.escape, words))})(?!{_LETTER})", re.IGNORECASE)


def _words_seen(_text: str, words: Sequence[str]) -> int:
    return len(words)


def _words_of_any_script(text: str, words: Sequence[str]) -> int:
    """The number of words, also of those that the tokenizer does not see; 1 for signs such as an emoji."""
    if text.isascii():
        return len(words) or bool(text.strip())
    return len(TOKENIZERS["unicode"](text)) or bool(text.strip())


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


def _is_meant_so(draft: ExampleDraft) -> bool:
    """True when an ending that looks cut is asked for or belongs to the kind of text: a letter, code, a series."""
    given, output = draft.input.rstrip(), draft.output.rstrip()
    if given.endswith(_CUT):
        stem = given.rstrip(".… ")
        return stem[-1:].isdigit() or stem.casefold() in output.casefold()
    if output.endswith(_CUT):
        return any(sign in f"{draft.instruction} {given}".casefold() for sign in (*_CUT, "ellips", "省略号"))
    return LINE_OF_A_LETTER.search(output.rpartition("\n")[2]) is not None


def _lacks_input(instruction: str, *, excuses: bool) -> bool:
    """True when the instruction points at a missing text: no quotation, no line break, nothing behind a colon. With
    `excuses` also no data, no other sentence that is the text, and no parameter of code.
    """
    low = instruction.lower()
    pointing = POINTER_AT_INPUT.search(instruction) if any(part in low for part in PARTS_OF_POINTERS) else None
    if pointing is None:
        return False
    rest = instruction[pointing.end() :]
    if re.search(r"[\"“'‘「『\n].+|[:：]\s*\S.+", rest, re.DOTALL):
        return False
    if not excuses:
        return True
    is_parameter = PARAMETER.search(pointing.group()) and WRITES_CODE.search(instruction[: pointing.start()])
    return not is_parameter and TEXT_BEHIND_POINTER.search(rest) is None


def _copies(draft: ExampleDraft) -> bool:
    return copied_field(draft) is not None and not ASKS_FOR_A_COPY.search(draft.instruction)


def copied_field(draft: ExampleDraft) -> str | None:
    """The field that the output equals, instruction or input, apart from their ends. Inside, a comma or a capital may
    be the whole task.
    """
    instruction, input_text, output = (
        " ".join(text.split()).strip(_AT_THE_ENDS) for text in (draft.instruction, draft.input, draft.output)
    )
    if not output or output not in (instruction, input_text):
        return None
    return "instruction" if output == instruction else "input"
