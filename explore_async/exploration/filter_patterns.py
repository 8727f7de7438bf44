"""The texts that the quality filters look for, as tables: a language, a pattern, and an example that it matches.

A table is compiled to one pattern. Letters match in either case. A new row needs an example; a test matches each row
against its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple


class Row(NamedTuple):
    """A pattern by which a filter drops texts.

    `language` is that of the text ("any": in every language), `pattern` a regular expression.
    """

    language: str
    pattern: str
    example: str


_CANNOT: Final = (
    r"i (?:cannot|can['’]?t|can not|could not|couldn['’]?t|am (?:unable|not able) to|won['’]?t be able to)\b"
)
_AI: Final = r"(?:ai|artificial intelligence|(?:large )?language model)"

BEGINNINGS_OF_REFUSALS: Final = (
    # An apology alone is no refusal, and neither is "I can't wait": letters and stories begin like that.
    Row(
        "English",
        rf"[^.!?\n]{{0,30}}\b(?:sorry|afraid|apologi[sz]e)\b[^.!?\n]{{0,30}}\b(?:{_CANNOT}|i['’]?m unable\b)",
        "I'm sorry, but I can't do that.",
    ),
    Row(
        "English",
        rf"(?:unfortunately,? )?{_CANNOT}(?: (?:directly|currently|really|just))?"
        r" (?:help|assist|provide|answer|comply|complete|fulfil|generate|create|write|access|see|view|open|browse"
        r"|do (?:that|this))",
        "Unfortunately, I cannot provide medical advice.",
    ),
    Row(
        "English",
        rf"as an? {_AI}(?: (?:language )?(?:model|assistant|system))?(?:,| i\b)",
        "As an AI language model, I have no feelings.",
    ),
    Row(
        "Chinese",
        r"[^。！？\n]{0,15}(?:抱歉|对不起)[^。！？\n]{0,15}(?:无法|不能|没办法)",
        "很抱歉，我不能回答。",
    ),
    Row(
        "Chinese",
        r"作为一?个?(?:ai|人工智能|大?语言模型)(?:语言)?(?:模型|助手)?[,，]",
        "作为一个AI语言模型，我没有感情。",
    ),
    Row("Chinese", r"我(?:无法|不能)(?:提供|回答|完成|协助)", "我无法提供医疗建议。"),
)

GAPS_IN_BRACKETS: Final = (
    # not an index (x[name]), a list (= [name, age], [name for name in names]) or a link ([Example](http://…))
    Row(
        "English",
        r"(?<![\w\])])(?<!= )(?<!return )\[(?:your|insert|enter|add|name|date|text|input|output|topic|example"
        r"|placeholder|company|product|city|title|friend|recipient|sender|parents?)\b(?! for \w+ in )"
        r"[^\]\n]{0,60}\](?!\()",
        "Yours, [Your Name]",
    ),
    # not code or markup in other brackets (f"{name}", <title>)
    Row("English", r"[<{](?:your|insert|enter)\b[^>}\n]{0,60}[>}]", "Hello <your name here>!"),
)

STAND_INS: Final = (
    Row("any", r"\blorem ipsum\b", "Lorem ipsum dolor sit amet"),
    Row("English", r"\bto be (?:filled in|added|determined)\b", "The date is to be determined later."),
    Row("English", r"\bTBD\b", "The venue is TBD for now."),
    Row("any", r"\bX{4,}\b", "Call me at XXXX today."),  # XXX is also a number
)
PARTS_OF_STAND_INS: Final = ("lorem", "to be ", "tbd", "xxxx")
"""A text without any of these, in lower case, has no stand-in. To look for them is much quicker than the patterns."""

NO_ANSWERS: Final = (
    Row("English", r"(?:your )?answer here", "Your answer here"),
    Row("English", r"(?:the )?(?:answer|output|input)(?: is)?", "The output is:"),
    Row("English", r"here is the output", "Here is the output:"),
    Row("English", r"string", '"string"'),
)
"""The whole of a text, but for signs around it."""

POINTERS_AT_INPUT: Final = (
    Row(
        "English",
        r"\b(?:the|this|these|those) (?:following|given|provided|below)\b",
        "Summarize the following text",
    ),
    Row(
        "English",
        r"\b(?:text|sentence|paragraph|passage|list|data|code|poem|email|article|conversation|story|review)"
        r" (?:below|provided|above)\b",
        "Translate the sentence below",
    ),
    Row(
        "English",
        r"(?<!\ba )\bgiven (?:text|sentence|paragraph|passage|list)\b",
        "Shorten any given paragraph",
    ),
    Row("Chinese", r"以下(?:的)?(?:文本|句子|段落|文章|内容|数据|列表|对话)", "总结以下内容"),
    Row("Chinese", r"(?:给定|下面|下列)的?(?:文本|句子|段落|文章)", "翻译下面的句子"),
)
PARTS_OF_POINTERS: Final = ("follow", "ven", "prov", "below", "above", "以下", "给定", "下面", "下列")
"""A text without any of these, in lower case, points at nothing. To look for them is much quicker than the patterns."""

REQUESTS_FOR_THE_REST: Final = (
    Row("English", r"\b(?:complet|continu|finish|fill)", "Continue the story"),
    Row("Chinese", r"续|补", "续写这个故事"),
)

REQUESTS_FOR_A_COPY: Final = (
    Row(
        "English",
        r"\b(?:copy|repeat|echo|verbatim|unchanged|as is|if (?:needed|necessary|any))\b",
        "Repeat the word after me",
    ),
    Row("Chinese", r"复述|重复|照抄", "照抄这句话"),
)


def compiled(rows: Sequence[Row], *, before: str = "", after: str = "") -> re.Pattern[str]:
    """A pattern that matches wherever one of the rows does, between `before` and `after`."""
    return re.compile(f"{before}(?:{'|'.join(f'(?:{row.pattern})' for row in rows)}){after}", re.IGNORECASE)


REFUSAL: Final = compiled(BEGINNINGS_OF_REFUSALS, before=r"^\W*")
GAP_IN_BRACKETS: Final = compiled(GAPS_IN_BRACKETS)
STAND_IN: Final = compiled(STAND_INS)
NO_ANSWER: Final = compiled(NO_ANSWERS, before=r"^\W*", after=r"\W*$")
POINTER_AT_INPUT: Final = compiled(POINTERS_AT_INPUT)
ASKS_FOR_THE_REST: Final = compiled(REQUESTS_FOR_THE_REST)
ASKS_FOR_A_COPY: Final = compiled(REQUESTS_FOR_A_COPY)
