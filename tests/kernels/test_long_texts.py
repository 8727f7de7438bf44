import random
import threading
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import config
from rapidfuzz.distance import LCSseq
from support import naive_rouge

from rouge_kernels import DedupIndex, lcs_length, search, similar_pairs
from rouge_kernels import index as index_module
from rouge_kernels.comparison import PAIRS, STEPS
from rouge_kernels.placement import MOST_KEYS
from rouge_kernels.threads import Crew

INTERPRETED = bool(config.DISABLE_JIT)
SIZE = 90 if INTERPRETED else 400
"""Tokens of a long text here: several machine words."""
CODE = [
    "self",
    "return",
    "if",
    "else",
    "for",
    "in",
    "range",
    "def",
    "class",
    "None",
    "True",
    "x",
    "y",
    "i",
    "j",
    "print",
    "len",
    "append",
]


def shuffles(rng, count, length):
    words = [f"w{number}" for number in range(length)]
    return [rng.sample(words, length) for _ in range(count)]


def articles(rng, count, length):
    """Words by Zipf's law, so that nearly all texts share their frequent words."""
    weights = list(accumulate(1 / rank for rank in range(1, 2000)))
    words = [f"w{rank}" for rank in range(1, 2000)]
    return [rng.choices(words, cum_weights=weights, k=length) for _ in range(count)]


FAMILIES = {
    "shuffles of the same words": shuffles,
    "articles": articles,
    "code": lambda rng, count, length: [rng.choices(CODE, k=length) for _ in range(count)],
    "two tokens": lambda rng, count, length: [rng.choices("ab", k=length) for _ in range(count)],
    "one token repeated": lambda _rng, count, length: [["ha"] * (length >> text % 7) for text in range(count)],
    "a part repeated": lambda rng, count, length: [rng.sample(CODE, 9) * (length // 9) for _ in range(count)],
    "unique tokens": lambda _rng, count, length: [
        [f"{text} {at}"[::-1] for at in range(length)] for text in range(count)
    ],
    "sorted": lambda rng, count, length: [sorted(rng.choices(CODE, k=length)) for _ in range(count)],
    "edited copies": lambda rng, count, length: [edited(rng, CODE * (length // 17)) for _ in range(count)],
}


def edited(rng, text):
    text = list(text)
    for _ in range(rng.randint(0, len(text))):
        text[rng.randrange(len(text))] = rng.choice(CODE)
    return text


def joined(texts):
    return [" ".join(token.replace(" ", "x") for token in text) for text in texts]


def greedy(texts, threshold):
    """The loop of `naive_rouge`, with the LCS of RapidFuzz, as the table is slow for long texts."""
    kept, decisions = [], []
    for text in texts:
        lcs = [LCSseq.similarity(text, other) for other in kept]
        scores = [naive_rouge.fmeasure(lcs[at], len(text), len(other)) for at, other in enumerate(kept)]
        best = max(scores, default=0.0)
        if best > threshold:
            nearest = scores.index(best)
            decisions.append((nearest, lcs[nearest], best))
        else:
            decisions.append((-1, -1, float("nan")))
            kept.append(text)
    return decisions


def evidence_of(admission):
    evidence = zip(admission.nearest, admission.lcs, admission.score, strict=True)
    return [(int(nearest), int(lcs), float(score)) for nearest, lcs, score in evidence]


@pytest.fixture
def effort(monkeypatch):
    """The pairs that were compared, and the steps of each call of a kernel, of all calls in this test."""
    seen = {"pairs": 0, "steps": []}
    owners = {}

    def counted(kernel, place):
        def call(*arguments):
            counts = arguments[place].counts
            owners[id(counts)] = counts
            result = kernel(*arguments)
            seen["steps"].append(int(counts[STEPS]))
            seen["pairs"] = sum(int(own[PAIRS]) for own in owners.values())
            return result

        return call

    for name, place in (("admit", 8), ("look_up", 9), ("pair_up", 7)):
        monkeypatch.setattr(search, name, counted(getattr(search, name), place))
    return seen


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("length", [50, SIZE])
def test_cost_grows_no_worse_than_the_lcs(family, length, effort):
    """Whatever the texts, each is compared at most once with each text kept before it, in as many steps as the LCS of
    the two takes in words of the machine, and a constant number for each token. The decisions are those of the loop.
    """
    count = 12 if INTERPRETED else 30
    texts = FAMILIES[family](random.Random(family), count, length)
    expected = greedy(texts, 0.7)
    assert repr(evidence_of(DedupIndex(0.7).admit(joined(texts), threads=1))) == repr(expected)
    kept = [text for text, (nearest, _, _) in zip(texts, expected, strict=True) if nearest < 0]
    compared = [(text, other) for at, text in enumerate(texts) for other in kept if texts.index(other) < at]
    assert effort["pairs"] <= len(compared)
    for_keys = sum(len(text) * (20 + len(kept)) for text in texts)
    for_lcs = sum(len(other) * (5 + 2 * -(-len(text) // 64)) + 2 * len(text) for text, other in compared)
    assert sum(effort["steps"]) <= for_keys + for_lcs


@settings(max_examples=10 if INTERPRETED else 30)
@given(st.data())
def test_stops_do_not_change_decisions(data):
    """However few steps a kernel takes in a call, so that it stops between two texts, two candidates or two parts of
    one, on one thread or several, the decisions and the pairs are those of the obvious loop.
    """
    rng = random.Random(data.draw(st.integers(0, 2**32)))
    names = data.draw(st.lists(st.sampled_from(sorted(FAMILIES)), min_size=1, max_size=3))
    lengths = st.sampled_from([17, 34, 70, SIZE // 2])
    texts = [text for name in names for text in FAMILIES[name](rng, 4, data.draw(lengths))]
    texts += [edited(rng, rng.choice(texts)) for _ in range(3)]
    rng.shuffle(texts)
    threshold = data.draw(st.sampled_from([0.3, 0.5, 0.7, 0.9]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_module, "STEPS", data.draw(st.sampled_from([0, 100, 1000, 10**6])))
        patch.setattr(index_module, "SHARED", data.draw(st.sampled_from([2, 1000])))
        patch.setattr(index_module, "LONG", data.draw(st.sampled_from([40, 1000])))
        admission = DedupIndex(threshold).admit(joined(texts), threads=2)
        pairs = similar_pairs(joined(texts), threshold)
    assert repr(evidence_of(admission)) == repr(greedy(texts, threshold))  # nan equals nan
    assert pairs.tolist() == [
        [earlier, later, lcs]
        for later, text in enumerate(texts)
        for earlier, other in enumerate(texts[:later])
        for lcs in [LCSseq.similarity(text, other)]
        if naive_rouge.fmeasure(lcs, len(text), len(other)) > threshold
    ]


@pytest.mark.parametrize("method", ["admit", "add", "look_up", "pair_up"])
def test_no_call_of_a_kernel_is_long(monkeypatch, effort, method):
    """A kernel returns after its steps and those of one text's keys and one part of a pair, so that Python can answer a
    signal.
    """
    monkeypatch.setattr(index_module, "STEPS", 5000)
    monkeypatch.setattr(index_module, "AT_ONCE", 3000)
    rng = random.Random(5)
    texts = joined(edited(rng, CODE * (SIZE // 17)) for _ in range(12 if INTERPRETED else 40))
    index = DedupIndex(0.3)
    index.add(texts)
    getattr(index, method)(texts)
    keys = 18 * SIZE + len(index) * SIZE
    assert len(effort["steps"]) >= 5
    assert max(effort["steps"]) <= 2 * 5000 + keys


@given(st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=400), min_size=2, max_size=2))
@settings(max_examples=20 if INTERPRETED else 200)
def test_lcs_of_long_texts(pair):
    """The LCS over several machine words is that of RapidFuzz."""
    assert lcs_length(*pair) == LCSseq.similarity(*pair)


@settings(max_examples=20 if INTERPRETED else 200)
@given(st.data())
def test_lcs_of_texts_whose_tokens_are_rare(data):
    """Words without a match pass carries on: texts whose tokens occur once or in few places have the LCS of RapidFuzz."""
    rng = random.Random(data.draw(st.integers(0, 2**32)))
    size, alphabet = data.draw(st.integers(1, 700)), data.draw(st.sampled_from([30, 300, 3000]))
    first = [str(rng.randrange(alphabet)) for _ in range(size)]
    second = data.draw(st.sampled_from([first[::-1], first[size // 3 :] + first[: size // 3], rng.sample(first, size)]))
    assert lcs_length(first, second) == LCSseq.similarity(first, second)


def test_a_text_with_a_long_prefix_has_keys_of_one_token():
    """Else a reader would look for all keys of two tokens of a long text, however full lists are: a token repeated
    thousands of times makes few longer keys.
    """
    index = DedupIndex(0.7)
    index.add(["ha " * (2 + number % 9) for number in range(400)])
    index.add(["ha " * (3 * MOST_KEYS)] * 9)
    assert index._postings.table.longest[0] == 3 * MOST_KEYS
    assert index._postings.table.longest[1:].max() < MOST_KEYS
    assert index.look_up(["ha " * (3 * MOST_KEYS)]).nearest.tolist() == [400]


def test_one_short_text_thousands_of_times(monkeypatch):
    """Its pairs within a batch are more than memory should hold, so the batch is judged one after another."""
    refused = []

    def counted(*arguments, **options):
        pairs = pairs_within(*arguments, **options)
        refused.append(pairs is None)
        return pairs

    pairs_within = index_module.pairs_within
    monkeypatch.setattr(index_module, "pairs_within", counted)
    monkeypatch.setattr(index_module, "SHARED", 2)
    batch = ["sum up the text"] * 200 + ["sum up a text", "translate it"]
    admission = DedupIndex(0.7).admit(batch, threads=2)
    assert admission.nearest.tolist() == [-1] + [0] * 200 + [-1]
    assert refused == [True]


def test_an_exception_ends_the_threads(monkeypatch):
    """When Ctrl-C comes during a long admission, its threads stop at their next return from a kernel."""
    monkeypatch.setattr(index_module, "SHARED", 2)
    monkeypatch.setattr(index_module, "STEPS", 0)
    first_call, interrupted, calls = threading.Event(), threading.Event(), []

    def look_up(*_arguments):
        calls.append(None)
        first_call.set()
        interrupted.wait()
        return 0  # never finished

    class StoppedError(Exception):
        pass

    def share(_crew, work, portions):
        for portion in portions:
            _crew.pool.submit(work, *portion)
        first_call.wait()
        interrupted.set()
        raise StoppedError

    monkeypatch.setattr(search, "look_up", look_up)
    monkeypatch.setattr(Crew, "share", share)
    with pytest.raises(StoppedError):
        DedupIndex(0.7).admit(["a b c"] * 9, threads=2)
    assert calls
