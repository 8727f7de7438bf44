"""The filters, each from both sides: typical faults are dropped, and similar texts without the fault are kept."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.naive_rouge import greedy
from support.scripted import recipe

from explore_async.exploration import filter_patterns as patterns
from explore_async.exploration import quality_filters as filters
from explore_async.exploration.corpus import Corpora, Corpus
from explore_async.exploration.parsing import ExampleDraft
from explore_async.exploration.quality_filters import quality_check
from explore_async.exploration.values import Demonstration
from explore_async.settings.recipe import Filters
from rouge_kernels import TOKENIZERS

BANNED = Filters(banned_words=("casino", "赌场", "C++"))


def reason(instruction: str, given: str, output: str, filters: Filters = BANNED, shown=()) -> str | None:
    return quality_check(filters, TOKENIZERS["unicode"])(ExampleDraft(instruction, given, output), shown)


@pytest.mark.parametrize(
    "output",
    [
        "Three gifts in a box. Three gifts in a box. Three gifts in a box. Three gifts in a box.",
        "ha ha ha ha ha ha ha ha",
        "写一首诗。写一首诗。写一首诗。写一首诗。",
    ],
)
def test_going_in_circles(output: str) -> None:
    """An output that repeats itself more than half is dropped, unless that is allowed or asked for."""
    assert reason("Tell me about it", "", output) == "repetitive"
    assert reason("Tell me about it", "", output, Filters(max_repetition=1)) is None
    assert reason("Repeat a sentence four times", "", output) is None


@pytest.mark.parametrize(
    "output",
    [
        "Row, row, row your boat, gently down the stream. Merrily, merrily, merrily, merrily, life is but a dream.",
        "for (i = 0; i < n; i++) { for (j = 0; j < n; j++) { c[i][j] = a[i][j] + b[i][j]; } }",
        "yes",
        "No, no, no.",
    ],
)
def test_a_refrain_is_no_circle(output: str) -> None:
    """Songs, loops in code and very short outputs repeat a little, as they should."""
    assert reason("Tell me about it", "", output) is None


@pytest.mark.parametrize(
    "output",
    [
        "I'm sorry, but I can't help with that.",
        "I am very sorry, I cannot do this.",
        "Sorry, I’m unable to access the internet.",
        "I apologize, but I am not able to open files.",
        "I'm afraid I can't.",
        "Unfortunately, I cannot provide medical advice.",
        "I can't currently access your calendar.",
        "As an AI, I have no feelings.",
        "As an AI language model I do not eat.",
        "As a large language model, I was trained on text.",
        "抱歉，我无法完成这个请求。",
        "很抱歉，我不能回答。",
        "对不起，作为助手我没办法做到。",
        "作为一个AI语言模型，我没有感情。",
        "作为人工智能助手，我不吃饭。",
        "我无法提供医疗建议。",
    ],
)
def test_a_refusal(output: str) -> None:
    """Refusals in English and Chinese are dropped, unless the filter is off."""
    assert reason("Tell me about it", "", output) == "refusal"
    assert reason("Tell me about it", "", output, Filters(refusals=False)) is None


@pytest.mark.parametrize(
    "output",
    [
        "Sorry I missed your call, I was driving.",
        "I am so sorry for your loss. She was a wonderful person.",
        "I can't wait to see you all there!",
        "I cannot believe how fast the year went.",
        "I apologise for the delay; your parcel left today.",
        "I'm afraid of heights, so I took the stairs.",
        "As an AI engineer with ten years of practice, I apply.",
        "As an artificial intelligence researcher I read a lot.",
        "He said: I can't help you.",
        "Unfortunately, it rained all day.",
        "对不起，我今天迟到了，下次请你喝茶。",
        "作为一个人工智能工程师，我负责训练模型。",
        "我不能忘记那个夏天。",
    ],
)
def test_no_refusal(output: str) -> None:
    """Apologies in letters and stories are kept."""
    assert reason("Write something short", "", output) is None


@pytest.mark.parametrize(
    "text",
    [
        "Dear [Name], thank you.",
        "Yours, [Your Name]",
        "Meet me in [City] on [Date].",
        "Hello <your name here>!",
        "Hello {insert name}!",
        "Lorem ipsum dolor sit amet",
        "The venue is TBD for now",
        "Call me at XXXX today",
        "The date is to be determined later",
    ],
)
def test_a_placeholder(text: str) -> None:
    """A gap left to be filled is dropped, wherever it stands."""
    assert reason("Write a short letter", "", text) == "placeholder"
    assert reason("Write a short letter", text, "Dear Ann, thank you.") == "placeholder"
    assert reason("Write a short letter", "", text, Filters(placeholders=False)) is None


@pytest.mark.parametrize("output", ["string", "Output", "Your answer here", "Here is the output:", "<answer here>"])
def test_an_output_that_is_the_word_for_one(output: str) -> None:
    """An output that only names the expected answer is a placeholder."""
    assert reason("Write a short letter", "", output) == "placeholder"


@pytest.mark.parametrize(
    "output",
    [
        'def greet(name):\n    return f"Hello {name}, {your_value}"',
        "total = sum(x[i] for i in range(n))",
        "x[i] = y[name];\nprintf(a[input][date]);",
        "names = [name for name in people if name]",
        "print([name for name in people])",
        "return [name, age]",
        "row = [name, age]",
        "[Example site](https://example.org)",
        '<form action="/"><input name="q"><title>Hi</title></form>',
        "<ul>\n<li>one</li>\n</ul>",
        '{"insert": 1, "name": "Ann"}',
        "{1, 2, 3}",
        "$[0, 1)$ and $\\frac{a}{b}$",
        "XXX",
        "1. bread\n2. milk",
        "- bread\n- milk",
        "His name is on [the list] as agreed",
        "A string is a run of characters.",
    ],
)
def test_no_placeholder(output: str) -> None:
    """Code, markup, links, intervals, Roman numerals and lists are kept."""
    assert reason("Write what was asked", "", output) is None


@pytest.mark.parametrize(
    "output",
    ["The main points are:", "First, we,", "And so it goes on...", "And so it goes on…", "f(", "要点如下：", "首先，"],
)
def test_an_unfinished_output(output: str) -> None:
    """An output that stops in mid-sentence is dropped."""
    assert reason("Name the main points", "", output) == "unfinished"


@pytest.mark.parametrize(
    "output", ["SELECT * FROM users;", "int x = 5;", "0.333...", "2, 4, 6, 8, ...", "Is it?", "f(x)", "[1]", "好。"]
)
def test_a_finished_output(output: str) -> None:
    """Statements end in a semicolon, and decimals and series go on."""
    assert reason("Write what was asked", "", output) is None


def test_an_input_that_breaks_off() -> None:
    """A shortened input is dropped, unless the instruction asks to complete it."""
    assert reason("Summarize the article", "The council met today and...", "It met.") == "unfinished"
    for instruction in ("Complete the story", "Continue this tale", "Finish the sentence", "续写这个故事"):
        assert reason(instruction, "Once upon a time...", "there was a fox.") is None


@pytest.mark.parametrize(
    "instruction",
    [
        "Summarize the following text",
        "Translate the sentence below into French",
        "Find the error in the code above",
        "Correct these given sentences",
        "总结以下的文章",
        "翻译下面的句子",
        "将给定文本改写得更正式",
    ],
)
def test_a_missing_input(instruction: str) -> None:
    """An instruction that points at a missing text is dropped; with the text in the input or behind a colon it is kept."""
    assert reason(instruction, "", "It is about whales.") == "missing_input"
    assert reason(instruction, "Whales live in the sea.", "They do.") is None
    assert reason(f"{instruction}: Whales live in the sea.", "", "They do.") is None
    assert reason(f"{instruction}\nWhales live in the sea.", "", "They do.") is None
    assert reason(instruction, "", "It is about whales.", Filters(missing_inputs=False)) is None


@pytest.mark.parametrize(
    "instruction",
    [
        "Write a Python function that reverses a given list",
        "Count the words in a given sentence with Python",
        "Solve the following equation: 2x = 6",
        "Correct the following sentence “he go home”",
        "Write a story about a text message",
        "用“春天”写以下的句子：春天来了",
    ],
)
def test_no_missing_input(instruction: str) -> None:
    """An instruction about texts in general, or that holds its text, needs no input."""
    assert reason(instruction, "", "Done as asked.") is None


REAL = [  # of the kinds that a published data set of 10,000 rows had wrongly dropped
    ("Sort the following numbers from small to large [9, 2, 5]", "", "2, 5, 9"),
    ("Answer the following question. Who painted the ceiling of the chapel?", "", "Michelangelo."),
    ("Is the following statement true? Bees sleep in winter.", "", "False."),
    ("Write a loop for the following series 4 + 3n", "", "for n in range(9): print(4 + 3 * n)"),
    ("Write a function that counts the vowels of the given string", "", "def count(s): return sum(c in 'aeiou' for c in s)"),
    ("Turn the following binary number 1101 into a decimal one.", "", "13"),
    ("Plan the following week at school", "", "Monday: maths."),
    ("判断以下句子是否正确？人在月球上可以听到声音。", "", "不正确。"),
    ("Answer this mail", "Dear Ann,\nI am away next week.", "Dear Tom,\n\nHave a good trip!\n\nBest,"),
    ("Address a letter to somebody", "Prof. Mary Jones", "Dear Prof. Jones,"),
    ("Write a sentence with an ellipsis at its end", "", "I wanted to go, but then..."),
    ("Shorten it: “This is why I would say that...”", "", "So I say that..."),
    ("Give the next number", "2, 4, 8, 16...", "32 follows."),
    ("Make a sentence of the frame", "She left because ...", "She left because it was late."),
    ("Print each of them", "", "for name in names:\n    print(f'{name}'),"),
    ("Rank these towns by size", "Rome, Pisa, Lucca", "Rome, Pisa, Lucca"),
    ("Punctuate this sentence", "We went home", "We went home."),
    ("Translate this word to Japanese", "teacher", "先生"),
    ("Choose a sign for the mood", "happy", "😀"),
]  # fmt: skip


@pytest.mark.parametrize(("instruction", "given", "output"), REAL)
def test_what_real_data_showed_to_be_sound(instruction: str, given: str, output: str) -> None:
    """Sound rows of the kinds that the filters dropped before are kept; a run from before keeps to its own rules."""
    draft = ExampleDraft(instruction, given, output)
    for tokenizer in ("rouge", "unicode"):
        assert quality_check(BANNED, TOKENIZERS[tokenizer])(draft, ()) is None
    assert quality_check(BANNED, TOKENIZERS["rouge"], meaning=2)(draft, ()) is not None


@pytest.mark.parametrize(
    ("instruction", "given", "output"),
    [
        ("Make it more polite", "Give me that.", "Give me that!"),
        ("Make it more polite", "Give  me\nthat", '"Give me that"'),
        ("Describe the sea in summer", "", "Describe the sea in summer."),
        ("改写这个句子", "天气很好。", "天气很好！"),
    ],
)
def test_a_copy(instruction: str, given: str, output: str) -> None:
    """An output that only repeats its input or instruction is dropped, whatever its ends."""
    assert reason(instruction, given, output) == "copied"
    assert reason(instruction, given, output, Filters(copies=False)) is None


@pytest.mark.parametrize(
    ("instruction", "given", "output"),
    [
        ("Add punctuation to the sentence", "lets eat grandma", "lets eat, grandma."),
        ("Capitalize the title", "the old man and the sea", "The Old Man and the Sea"),
        ("Fix the bug in it", "if x = 1: pass", "if x == 1: pass"),
        ("Turn the inequality round", "3 < 5", "3 > 5"),
        ("Compute the absolute value", "-x + 3y", "x + 3y"),
        ("Repeat the word after me", "banana", "banana"),
        ("Correct it if needed", "She goes home.", "She goes home."),
        ("复述这句话吧", "天气很好。", "天气很好。"),
    ],
)
def test_no_copy(instruction: str, given: str, output: str) -> None:
    """A single sign may be the whole task; and some instructions ask for a repetition."""
    assert reason(instruction, given, output) is None


@pytest.mark.parametrize(
    ("text", "banned"),
    [
        ("He went to the Casino, and lost.", True),
        ("他昨天去赌场玩了一夜。", True),
        ("他去casino玩了一夜。", True),
        ("Write it in C++ please", True),
        ("Several casinos were closed", False),
        ("他去了茶馆和戏院。", False),
        ("Write it in C please", False),
    ],
)
def test_banned_words_are_words(text: str, banned: bool) -> None:
    """A banned word is found as a word, in any case, and in a script without spaces wherever it stands; in every part
    of the draft.
    """
    wanted = "banned_word" if banned else None
    assert reason("Tell me a story", "", text) == wanted
    assert reason("Tell me a story", text, "All is well.") == wanted
    assert reason(text, "", "All is well.") == wanted


@pytest.mark.parametrize(("instruction", "reason_to_drop"), [
    ("Name Three ideas", None), ("Gib mir 3 Ideen", None), ("给我三个主意", None),
    ("Name some ideas", "lacks_word"), ("Name threefold ideas", "lacks_word"), ("Name 33 ideas", "lacks_word"),
])  # fmt: skip
def test_an_instruction_has_one_of_the_required_words(instruction: str, reason_to_drop: str | None) -> None:
    """As a word, in any case; the answer is not asked for it, and neither is an instruction that is given."""
    wanted = Filters(required_words=("three", "3", "三"))
    draft = ExampleDraft(instruction, "", "A walk, a song, or three books.")
    assert quality_check(wanted, str.split)(draft, ()) == reason_to_drop
    assert quality_check(wanted, str.split, instructions=False)(draft, ()) is None


@pytest.mark.parametrize(("words", "expected"), [(2, "too_short"), (3, None), (6, None), (7, "too_long")])
def test_lengths_are_inclusive(words: int, expected: str | None) -> None:
    """The limits themselves are allowed, for instructions and outputs, in words or in Chinese characters."""
    limits = Filters(
        min_instruction_words=3,
        max_instruction_words=6,
        min_output_words=3,
        max_output_words=6,
        max_repetition=1,
        copies=False,
    )
    for text in (" ".join(["word"] * words), "字" * words):
        assert reason(text, "", "one two three", limits) == expected
        assert reason("one two three", "", text, limits) == expected


@given(st.text(), st.text(), st.text())
def test_no_draft_breaks_the_filters(instruction: str, given: str, output: str) -> None:
    """Any draft gets a reason or none; with every filter off, none."""
    found = reason(instruction, given, output)
    assert found is None or found.isidentifier()
    off = Filters(
        min_instruction_words=0, max_instruction_words=10**6, min_output_words=0, max_output_words=10**6,
        refusals=False, placeholders=False, missing_inputs=False, copies=False,
    )  # fmt: skip
    assert reason(instruction, given, output, off) is None


# -- the corpus

words = st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=1, max_size=8).map(" ".join)
chinese = st.lists(st.sampled_from("写诗春天雨"), min_size=1, max_size=8).map("".join)


@given(
    st.lists(words | chinese | st.just("?!"), max_size=25),
    st.sampled_from([0.4, 0.5, 0.6, 2 / 3, 0.7, 0.75, 0.8, 1.0]),
    st.sampled_from(["rouge", "unicode"]),
    st.integers(0, 3),
)
def test_the_corpus_is_a_plain_loop(texts: list[str], threshold: float, tokenizer: str, seeds: int) -> None:
    """Verdict, neighbour and score are those of the textbook's table in a loop, over so few words that many pairs lie
    exactly at the threshold; texts without tokens are compared as strings; seeds are there whatever they resemble.
    """
    tokenize = TOKENIZERS[tokenizer]
    corpus = Corpus(threshold, tokenizer)
    kept: list[list[str]] = []
    kept_ids: list[str] = []
    bare: dict[str, str] = {}
    for number, text in enumerate(texts):
        tokens, name = tokenize(text), f"id{number}"
        if number < seeds:
            corpus.add([(text, name)])
            if tokens:
                kept.append(tokens)
                kept_ids.append(name)
            else:
                bare.setdefault(text, name)
            continue
        verdict = corpus.admit(text, name)
        if not tokens:
            expected = (text not in bare, bare.get(text), 1.0 if text in bare else None)
            bare.setdefault(text, name)
        else:
            ((nearest, _, score),) = greedy(kept, [tokens], threshold)
            expected = (nearest < 0, kept_ids[nearest], score) if nearest >= 0 else (True, None, None)
            if nearest < 0:
                kept_ids.append(name)
        assert (verdict.kept, verdict.nearest, verdict.score) == expected
        assert verdict.reason == ("accepted" if verdict.kept else "duplicate")


def test_a_chinese_duplicate_is_found_because_of_the_language() -> None:
    """With Chinese as the language the tokenizer is `unicode` and one character changed is a duplicate; under
    rouge_score's own tokens the two have nothing to compare.
    """
    settings = recipe(language="Chinese")
    assert settings.tokenizer == "unicode"
    for tokenizer, kept in ((settings.tokenizer, False), ("rouge", True)):
        corpus = Corpus(settings.filters.threshold, tokenizer)
        assert corpus.admit("写一首关于春天的短诗，要提到雨水。", "a").kept
        assert corpus.admit("写一首关于春天的短诗，要提到雨声。", "b").kept is kept


@pytest.mark.parametrize(
    ("language", "tokenizer", "used"),
    [("English", "auto", "rouge"), ("en", "auto", "rouge"), ("French", "auto", "unicode"), ("中文", "auto", "unicode"),
     ("Chinese", "rouge", "rouge"), ("English", "unicode", "unicode")],
)  # fmt: skip
def test_the_tokenizer_follows_the_language_unless_it_is_set(language: str, tokenizer: str, used: str) -> None:
    """auto is rouge_score's tokens for English alone; a tokenizer that is set holds."""
    assert recipe(language=language, filters={"tokenizer": tokenizer}).tokenizer == used


@pytest.mark.parametrize(("scope", "also_in"), [("run", {"0.1", "1.0"}), ("domain", {"0.1"}), ("task", set())])
def test_the_scope_is_what_is_compared(scope: str, also_in: set[str]) -> None:
    """A text kept in one task is a duplicate in the others that its scope takes in; a domain's seeds in all of its
    tasks, and beyond it only where the whole run is the scope.
    """
    corpora = Corpora(
        Filters.model_validate({"scope": scope}), "rouge", [["prune the old roses"], ["bake a dark bread"]]
    )
    assert corpora.of("0.0").admit("water the young trees today", "x").kept
    for other in ("0.1", "1.0"):
        verdict = corpora.of(other).admit("water the young trees today", other)
        assert verdict.kept is (other not in also_in)
    for task in ("0", "0.0", "0.1.2"):
        assert corpora.of(task).admit("prune the old roses", "y").nearest == "seed:0.0"
    assert corpora.of("1.7").admit("prune the old roses", "z").kept is (scope != "run")


def test_the_output_of_a_demonstration() -> None:
    """An output that is a shown demonstration's word for word is copied; a short one may be right for both."""
    shown = [
        Demonstration("Name three trees", "", "An oak, a beech and an old lime."),
        Demonstration("Is it?", "", "Yes"),
    ]
    assert reason("Name three other trees", "", "An oak, a beech and an old lime.", shown=shown) == "copied"
    assert reason("Name three other trees", "", "An oak, a birch and an old lime.", shown=shown) is None
    assert reason("Is snow white?", "", "Yes", shown=shown) is None
    assert reason("Name three other trees", "", shown[0].output, Filters(copies=False), shown) is None


PIECES = [
    "lorem ipsum", "LOREM  IPSUM", "to be added", "To Be determined", "TBD", "xXXx", "the following", "GIVEN text", "given passage",
    "list above", "code provided", "these below", "以下的文本", "给定段落", "下列句子", "...", "…", "1...", "1, ...", "x", "，", ":",
    "(", "\u2003", "\n", " ", "a", "İ", "ſ", "K",
]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=7), st.sampled_from(["", " "]))
def test_what_is_looked_for_first_misses_nothing(pieces: list[str], between: str) -> None:
    """The quick looks before the slow patterns, and at the end of a text alone, change no verdict."""
    text = between.join(pieces)
    low = text.lower()
    assert any(part in low for part in patterns.PARTS_OF_STAND_INS) or not patterns.STAND_IN.search(text)
    assert any(part in low for part in patterns.PARTS_OF_POINTERS) or not patterns.POINTER_AT_INPUT.search(text)
    ending = text.rstrip()[-filters._LONGEST_ENDING :]
    assert bool(filters._UNFINISHED.search(ending)) == bool(filters._UNFINISHED.search(text))


@pytest.mark.parametrize(
    ("instruction", "given"),
    [
        ("Define entropy", ""),
        ("word " * 500, ""),
        ("Summarize the text above", ""),
        ("Write to [your name]", ""),
        ("Say it better", "It was a dark and"),
        ("Say what a casino is", ""),
    ],
)
def test_where_the_instruction_is_given_only_the_output_is_judged(instruction: str, given: str) -> None:
    """No fault of an instruction that stays as it is drops the answer to it; the same faults of the output still do."""
    answers = quality_check(BANNED, TOKENIZERS["unicode"], instructions=False)
    assert answers(ExampleDraft(instruction, given, "It is a measure of disorder."), ()) is None
    for output in ("", "I'm sorry, but I can't help with that.", "Dear [your name]", "Go to a casino.", "It begins:"):
        assert answers(ExampleDraft(instruction, given, output), ()) is not None


@pytest.mark.parametrize(
    "piece", ["(", "[", "({", "- ", "=", "😀", " ", "\n", "a ", "1 ", ". ", "Dear ", "the following "]
)
@pytest.mark.parametrize("end", ["", ",", ":"])
def test_what_a_looping_model_repeats_is_judged_in_linear_time(piece: str, end: str) -> None:
    """100,000 characters of one piece, in an instruction or in the last line of an output, take at most a small
    multiple of what a tenth of them takes: a hundred times as much would be quadratic.
    """

    def seconds(size: int) -> float:
        text = piece * (size // len(piece)) + end
        began = time.process_time()
        reason(f"Sort the following list {text}", "", "A, b and c.")
        reason("Draw a row of signs", "", f"Here it is:\n{text}")
        return time.process_time() - began

    assert seconds(100_000) < 40 * max(seconds(10_000), 0.01)
