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

TEXTS_BEHIND_POINTERS: Final = (
    # what follows a pointer and is itself the text or the data
    Row("any", r"[\[({][^\[({\])}\n]*\d", "Sort the following array in ascending order [3, 6,1,8]."),
    Row("any", r"\d\s*[-+*/=^<>]\s*\w|\w\s*[-+*/=^<>]\s*\d", "Construct a loop for 10 + 2n"),
    Row(
        "English",
        r"\b(?:number|equation|expression|amount|integer|value|decimal|fraction|year|temperature|date)s?\b"
        r"[^.?!\n]{0,20}?\d",
        "Convert the following octal number 560 to its binary form.",
    ),
    Row("any", r"\s[-–—]\s(?:\S+\s+){2}\S", "Explain the following two facts - a llama and a lemur have teeth."),
    Row(
        "English",
        r"^\W*(?:day|week|weekend|month|year|morning|afternoon|evening|night|season|decade|century)\b",
        " day, with three lectures",
    ),
    # another sentence, which does not say how to do it
    Row(
        "English",
        r"[.?!]\s+(?!(?:use|make|write|keep|be|include|provide|explain|give|your|please|do|don['’]t|limit|ensure|add|then"
        r"|and|also|describe|mention|answer|output|return|format|show|try|avoid|identify|state|list|choose|select|you|it"
        r"|the (?:summary|answer|output|result|response|text|translation))\b)(?:[^\W\d]\S*\s+){2}\S",
        "Is the following sentence true or false? Humans can breathe underwater.",
    ),
    Row(
        "Chinese",
        r"[。？！](?!请|用|使|不|要|并|以|写|给)[^。？！\n]{6,}",
        "判断以下句子的对错？人类可以在水下自由呼吸。",
    ),
)

WRITERS_OF_CODE: Final = (
    # in code, "the given list" is a parameter
    Row(
        "English",
        r"\b(?:function|program|script|method|algorithm|macro|query|regex|regular expression|subroutine)\b",
        "Create a function that reverses",
    ),
    Row("Chinese", r"函数|程序|脚本|算法|正则", "写一个函数"),
)
PARAMETERS: Final = (
    Row("English", r"\b(?:given|provided)\b", "the given"),
    Row("Chinese", r"给定", "给定的文本"),
)

LINES_OF_LETTERS: Final = (
    # end in a comma, and need nothing more
    Row(
        "English",
        r"\W*+(?:dear|hello|hi|hey|best|kind|warm|yours?|sincerely|regards|thanks|thank you|cheers|love|with)\b"
        r"[^.!?:\n]*(?:\b[A-Za-z]{1,4}\.[^.!?:\n]*)?,",
        "Dear Dr. Smith,",
    ),
    Row("any", r".*[)\]}\"'],", 'print ("%d" %arr[i]),'),  # code, in a list or a call
    Row("any", r".*[)\]}\"']\s*:", "if x is greater than 0 (or y is):"),
)

REQUESTS_THAT_MAY_CHANGE_NOTHING: Final = (
    Row("English", r"\bpunctuat", "Punctuate this sentence"),
    Row("English", r"\b(?:arrange|rank|sort|order)\b", "Rank these cities by size"),
    Row("Chinese", r"排序|排列|标点", "按大小排序"),
)

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


REQUESTS_FOR_ANOTHER_LANGUAGE: Final = (
    Row(
        "any", r"\b(?:translat|tradu[cizt]|übersetz|vertaa?l|överset|oversæt|oversett|tłumacz|přelo)", "Übersetze das."
    ),
    Row("any", r"\b(?:engl|angl|ingl[eéê]s|ingilizce|angiel|englan|engels)", "Écris une phrase en anglais."),
    Row("any", r"\b(?:german|deutsch|français|french|spanish|español|chinese|chinesisch|latein)", "Say it in German."),
    Row("any", r"перев[её]|переклад|англ[ио]|немец|иностранн", "Переведи на английский."),
    Row("any", r"翻译|翻譯|翻訳|译成|英文|英语|英語|日文|日语|法语|德语|번역|영어", "翻译成英文"),
    Row("any", r"ترجم|الإنجليزية|الانجليزية|انگلیسی|अनुवाद|अंग्रेज|dịch|tiếng anh|terjemah|çevir", "ترجم هذه الجملة"),
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
TEXT_BEHIND_POINTER: Final = compiled(TEXTS_BEHIND_POINTERS)
WRITES_CODE: Final = compiled(WRITERS_OF_CODE)
PARAMETER: Final = compiled(PARAMETERS)
LINE_OF_A_LETTER: Final = compiled(LINES_OF_LETTERS, before=r"^", after=r"$")
MAY_CHANGE_NOTHING: Final = compiled(REQUESTS_THAT_MAY_CHANGE_NOTHING)
ASKS_FOR_A_COPY: Final = compiled(REQUESTS_FOR_A_COPY)
ASKS_FOR_ANOTHER_LANGUAGE: Final = compiled(REQUESTS_FOR_ANOTHER_LANGUAGE)
