"""Parsing and filtering: whole items are taken, others are dropped with a reason."""

from __future__ import annotations

import random
import time

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from explore_async.exploration.corpus import Corpus
from explore_async.exploration.parsing import ExampleDraft, ProposedTask, Unreadable, parse_examples, parse_tasks
from explore_async.exploration.quality_filters import quality_check
from explore_async.exploration.values import Completion
from explore_async.settings.recipe import Filters

DRAFTS = [
    ExampleDraft('Say "hi" {to} me', "", "Hi } there\nfriend"),
    ExampleDraft("Second one", "with [input]", "and \\ output"),
    ExampleDraft("第三个", "", "答案。"),
]


def answer(text: str, finish_reason: str = "stop") -> Completion:
    return Completion(text, finish_reason, 1, 1)


def as_json(drafts: list[ExampleDraft]) -> str:
    fields = ("instruction", "input", "output")
    return orjson.dumps({"examples": [{name: getattr(one, name) for name in fields} for one in drafts]}).decode()


def as_text(drafts: list[ExampleDraft]) -> str:
    return "\n".join(
        f"### Instruction: {d.instruction}\n### Input: {d.input}\n### Output: {d.output}\n### End" for d in drafts
    )


@pytest.mark.parametrize(
    "wrapped",
    [
        "{}",
        "```json\n{}\n```",
        "Sure! Here you are:\n{}\nI hope this helps.",
        "<think>Let me {{ think [ }} about it</think>\n{}",
        "so the user wants examples</think>{}",
    ],
)
def test_json_in_any_wrapping(wrapped: str) -> None:
    """Whole JSON is read as it is, fenced, amid prose, and behind a reasoning block."""
    text = wrapped.replace("{{", "{").replace("}}", "}").replace("{}", as_json(DRAFTS))
    assert parse_examples(answer(text), "json") == DRAFTS


def test_single_objects_lists_and_odd_values() -> None:
    """A bare list or object is read; numbers and lists become text; "N/A" means an empty input; a missing field has a reason."""
    assert parse_examples(answer('[{"instruction": "Add", "INPUT": "n/a", "output": 3}]'), "json") == [
        ExampleDraft("Add", "", "3")
    ]
    assert parse_examples(answer('{"instruction": "List", "output": ["a", "b"]}'), "json") == [
        ExampleDraft("List", "", "a\nb")
    ]
    (item,) = parse_examples(answer('{"examples": [{"instruction": "Only this"}]}'), "json")
    assert isinstance(item, Unreadable)
    assert item.reason == "missing_field"
    assert parse_tasks(answer('{"tasks": [{"name": "\\"Cook  soup\\".", "reason": "warm"}]}'), "json") == [
        ProposedTask("Cook soup", "warm")
    ]


@pytest.mark.parametrize(("answer_format", "write"), [("json", as_json), ("text", as_text)])
def test_cut_anywhere_the_whole_items_are_saved(answer_format: str, write) -> None:
    """A completion that is cut at any byte gives exactly its whole items; a begun item is dropped as truncated."""
    text = write(DRAFTS)
    for end in range(len(text)):
        items = parse_examples(answer(text[:end], "length"), answer_format)  # type: ignore[arg-type]
        whole = [item for item in items if isinstance(item, ExampleDraft)]
        assert whole == DRAFTS[: len(whole)]
        assert all(item.reason == "truncated" for item in items if isinstance(item, Unreadable))
        closed = sum(text[:end].count(mark) for mark in (("},", "}]") if answer_format == "json" else ("### End",)))
        assert len(whole) >= min(closed, 2 if answer_format == "json" else 3)


@pytest.mark.parametrize("answer_format", ["json", "text"])
@given(
    st.text() | st.text('{}[]":,\\ntfasko#<>/ ') | st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape"))
)
def test_no_answer_breaks_the_parser(answer_format: str, text: str) -> None:
    """Any text gives items or reasons, never an exception, and all of it can be written as UTF-8."""
    for finish_reason in ("stop", "length"):
        for parse in (parse_examples, parse_tasks):
            items = parse(answer(text, finish_reason), answer_format)  # type: ignore[arg-type]
            assert items
            for item in items:
                if not isinstance(item, Unreadable):
                    orjson.dumps(item)


def test_hostile_nesting_is_read_in_linear_time() -> None:
    """Two hundred thousand braces, open or closed, take less than a generous bound that a quadratic scan would miss."""
    began = time.process_time()
    for text in ("{" * 200_000, "{" * 100_000 + "}" * 100_000, '{"a":' * 50_000, '"' * 200_000):
        parse_examples(answer(text), "json")
    assert time.process_time() - began < 20


CHECK = quality_check(Filters(banned_words=("casino",)), str.split)


@pytest.mark.parametrize(
    ("draft", "reason"),
    [
        (ExampleDraft("Do it", "", "Yes, done."), "too_short"),
        (ExampleDraft("Tell me a joke", "", " "), "too_short"),
        (ExampleDraft("Tell me a joke", "", "word " * 5000), "too_long"),
        (ExampleDraft("Tell me a joke", "", "I'm sorry, but I can't do that."), "refusal"),
        (ExampleDraft("Tell me a joke", "", "As an AI language model, I have no humour."), "refusal"),
        (ExampleDraft("给我 讲 一个 笑话", "", "抱歉，我无法完成。"), "refusal"),
        (ExampleDraft("Write a short letter", "", "Dear [Name], thank you. Yours, [Your Name]"), "placeholder"),
        (ExampleDraft("Write a short letter", "[insert text here]", "Dear Ann, thank you."), "placeholder"),
        (ExampleDraft("Name the main points", "", "The main points are:"), "unfinished"),
        (ExampleDraft("Summarize the following text", "", "It is about whales."), "missing_input"),
        (ExampleDraft("Translate the sentence below", "", "Bonjour."), "missing_input"),
        (ExampleDraft("Make it more polite", "Give me that.", "Give me that!"), "copied"),
        (ExampleDraft("Tell me a joke", "", "A man walks into a casino."), "banned_word"),
    ],
)
def test_quality_filters_drop_with_their_reason(draft: ExampleDraft, reason: str) -> None:
    """Each filter drops a typical example of its fault, and names the reason."""
    assert CHECK(draft, ()) == reason


@pytest.mark.parametrize(
    "draft",
    [
        ExampleDraft("Greet a person in Python", "", 'def greet(name):\n    return f"Hello {name}"'),
        ExampleDraft("Sum the first n items", "", "total = sum(x[i] for i in range(n))"),
        ExampleDraft("Compute the derivative of x^2", "", "2x"),
        ExampleDraft("Solve the following equation: 2x = 6", "", "x = 3"),
        ExampleDraft('Make the sentence "I goes home" right', "", "I go home."),
        ExampleDraft("Repeat the word after me", "banana", "banana"),
        ExampleDraft("Draw a map of a file system in words", "", "A root with two folders."),
        ExampleDraft("Is the sky blue?", "", "Yes"),
        ExampleDraft("Write an apology to a friend", "", "Dear Tom, I am so sorry that I forgot your birthday."),
        ExampleDraft("List the integers in [1, 3]", "", "1, 2, 3"),
    ],
)
def test_quality_filters_leave_good_ones(draft: ExampleDraft) -> None:
    """Maths, code, short answers and letters are not mistaken for faults."""
    assert CHECK(draft, ()) is None


def test_corpus_decisions_are_those_of_rouge_score() -> None:
    """Over a small vocabulary, where many pairs score exactly the threshold, verdicts, neighbours and scores equal a
    plain loop over rouge_score.
    """
    rng, scorer, exactly = random.Random(3), RougeScorer(["rougeL"]), 0
    for threshold in (0.5, 0.6, 0.7, 0.8):
        corpus, kept = Corpus(threshold, "rouge"), []
        for number in range(150):
            text = " ".join(
                rng.choices(["write", "a", "short", "poem", "story", "about", "rain", "sun"], k=rng.randint(1, 12))
            )
            scores = [scorer.score(other, text)["rougeL"].fmeasure for _, other in kept]
            exactly += sum(abs(score - threshold) < 1e-9 for score in scores)
            best = max(scores, default=0.0)
            verdict = corpus.admit(text, str(number))
            if best > threshold:
                assert (verdict.kept, verdict.score, verdict.nearest) == (False, best, kept[scores.index(best)][0])
            else:
                assert verdict.kept
                kept.append((str(number), text))
    assert exactly > 10


def test_texts_without_tokens_are_compared_as_strings() -> None:
    """Under the rouge tokenizer Chinese has no tokens: only an equal string is its duplicate."""
    corpus = Corpus(0.7, "rouge")
    assert corpus.admit("写一首诗", "a").kept
    assert corpus.admit("写一首歌", "b").kept
    verdict = corpus.admit("写一首诗", "c")
    assert (verdict.kept, verdict.nearest, verdict.score) == (False, "a", 1.0)
