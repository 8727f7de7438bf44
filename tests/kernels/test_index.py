import random
import threading
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import config
from rapidfuzz.distance import LCSseq
from rouge_score.rouge_scorer import RougeScorer
from support import naive_rouge

import rouge_kernels
from rouge_kernels import (
    IDENTICAL,
    DedupIndex,
    UnicodeTokenizer,
    candidates,
    least_duplicate_lcs,
    placement,
    similar_pairs,
    warm_up,
)

INTERPRETED = bool(config.DISABLE_JIT)
THRESHOLDS = [0.3, 0.5, 0.6, 0.7, 0.8, 0.95]

# few words and similar lengths, so that most pairs are near a threshold
texts = st.lists(st.lists(st.sampled_from("abcde"), max_size=12).map(" ".join), max_size=14)


def evidence_of(admission):
    evidence = zip(admission.nearest, admission.lcs, admission.score, strict=True)
    return [(int(nearest), int(lcs), float(score)) for nearest, lcs, score in evidence]


def same(first, second):
    """True when both are equal, where nan equals nan."""
    return repr(first) == repr(second)


@given(texts, texts, st.sampled_from(THRESHOLDS))
def test_decisions_and_evidence_equal_the_obvious_loop(kept, new, threshold):
    """The index keeps the same texts as the loop, with the same nearest text (highest F, then earliest), LCS and F."""
    index = DedupIndex(threshold)
    index.add(kept)
    assert len(index) == len(kept)
    oracle = [text.split() for text in kept]
    expected = naive_rouge.greedy(oracle, [text.split() for text in new], threshold)
    admission = index.admit(new)
    assert same(evidence_of(admission), expected)
    assert admission.kept.tolist() == [nearest < 0 for nearest, _, _ in expected]
    assert len(index) == len(oracle)


@given(texts, texts, st.sampled_from(THRESHOLDS), st.integers(1, 3))
def test_look_up_keeps_nothing(kept, new, threshold, threads):
    """Each text gets the same result as it would get alone, and the same again in a second call."""
    index = DedupIndex(threshold)
    index.add(kept)
    oracle = [text.split() for text in kept]
    expected = [naive_rouge.greedy(list(oracle), [text.split()], threshold)[0] for text in new]
    for _ in range(2):
        looked_up = index.look_up(new, threads=threads)
        assert same(evidence_of(looked_up), expected)
        assert looked_up.kept.tolist() == [nearest < 0 for nearest, _, _ in expected]
    assert len(index) == len(kept)


def test_look_up_on_threads():
    """A batch that is large enough for threads gets the same results as its texts one by one."""
    rng = random.Random(3)
    batch = [" ".join(rng.choices("abcdefgh", k=rng.randint(1, 9))) for _ in range(900)]
    index = DedupIndex(0.6)
    index.add(batch[:200])
    one_by_one = [evidence_of(index.look_up([text]))[0] for text in batch]
    assert same(evidence_of(index.look_up(batch, threads=3)), one_by_one)


@pytest.mark.parametrize("threshold", [0.5, 0.6, 0.7, 0.8])
def test_decisions_equal_a_loop_over_rouge_score(threshold):
    """A loop over rouge_score keeps and drops the same texts, with the same nearest texts and scores."""
    rng = random.Random(7)
    batch = [" ".join(rng.choices("abcd", k=rng.randint(0, 20))) for _ in range(150)]
    scorer = RougeScorer(["rougeL"])
    kept, expected = [], []
    for text in batch:
        scores = [scorer.score(target, text)["rougeL"].fmeasure for target in kept]
        if scores and max(scores) > threshold:
            expected.append((scores.index(max(scores)), max(scores)))
        else:
            expected.append((-1, float("nan")))
            kept.append(text)
    admission = DedupIndex(threshold).admit(batch)
    assert same([(n, s) for n, _, s in evidence_of(admission)], expected)
    assert 0 < len(kept) < len(batch)


@settings(max_examples=15)
@given(st.data())
def test_mutated_texts_around_the_machine_word(data):
    """Duplicates of 1 to 130 tokens are found by edited copies, with masks of one machine word and of several."""
    threshold = data.draw(st.sampled_from(THRESHOLDS))
    rng = random.Random(data.draw(st.integers(0, 2**32)))
    batch = []
    for length in (1, 15, 17, 31, 33, 63, 64, 65, 127, 129):
        original = [rng.choice("abcdefghijklmnopqrstuvwxyz") * rng.randint(1, 9) for _ in range(length)]
        copy = list(original)
        for _ in range(rng.randint(0, length // 2)):
            copy[rng.randrange(length)] = rng.choice("abc")
        batch += [original, copy]
    rng.shuffle(batch)
    if INTERPRETED:
        batch = batch[:6]
    expected = naive_rouge.greedy([], batch, threshold)
    assert same(evidence_of(DedupIndex(threshold).admit([" ".join(text) for text in batch])), expected)


@given(texts, st.lists(st.integers(0, 14)), st.sampled_from(THRESHOLDS))
def test_batch_sizes_do_not_change_decisions(stream, cuts, threshold):
    """One call, a call for each text and all cuts between give the same decisions and positions."""
    whole = evidence_of(DedupIndex(threshold).admit(stream))
    index = DedupIndex(threshold)
    bounds = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [evidence_of(index.admit(stream[start:end])) for start, end in pairwise(bounds)]
    assert same([evidence for piece in pieces for evidence in piece], whole)


def test_nearest_is_the_earliest_of_equals():
    """Of two kept texts with the same F the index names the first; a later text with a higher F wins."""
    index = DedupIndex(0.5)
    index.add(["a b c d", "a b c e", "a b c x y"])
    assert evidence_of(index.admit(["a b c z"])) == [(0, 3, 0.75)]
    assert evidence_of(index.admit(["a b c x"])) == [(2, 4, 2 * 1.0 * 0.8 / 1.8)]


def test_a_text_is_compared_within_its_own_batch():
    """If a batch has the same text twice, the index keeps the first and names it as nearest to the second."""
    admission = DedupIndex(0.7).admit(["write a poem about rain", "write a poem about rain"])
    assert admission.kept.tolist() == [True, False]
    assert admission.nearest.tolist() == [-1, 0]
    assert (admission.lcs[1], admission.score[1]) == (5, 1.0)


def test_texts_without_tokens_are_kept_and_never_nearest():
    """They score 0 with every text, also with each other, as in rouge_score."""
    index = DedupIndex(0.01)
    assert index.admit(["", "!?", "", "写诗", "a"]).kept.all()
    assert len(index) == 5
    assert evidence_of(index.admit(["a"])) == [(4, 1, 1.0)]


def test_threshold_one_drops_nothing():
    """F is never above 1."""
    assert DedupIndex(1.0).admit(["a b"] * 3).kept.all()


@pytest.mark.parametrize("threshold", [0.0, -0.1, 1.0001, float("nan")])
def test_thresholds_out_of_range_are_errors(threshold):
    """A threshold outside (0, 1] is a mistake: at 0 or below every text would be a duplicate, above 1 none."""
    with pytest.raises(ValueError, match="threshold"):
        DedupIndex(threshold)


def test_a_planted_chinese_duplicate_needs_the_unicode_tokenizer():
    """With rouge_score's tokens Chinese has none, so all texts are kept; with characters as tokens the copy is dropped."""
    batch = ["请写一首关于春天的短诗。", "请解释光合作用的过程。", "请写一首关于秋天的短诗!"]
    assert DedupIndex(0.7).admit(batch).kept.all()
    admission = DedupIndex(0.7, UnicodeTokenizer()).admit(batch)
    assert admission.kept.tolist() == [True, True, False]
    assert (admission.nearest[2], admission.lcs[2]) == (0, 10)


def test_an_empty_batch_gives_no_entries():
    """An empty batch adds nothing to the index and gives an empty admission."""
    index = DedupIndex(0.7)
    index.add([])
    assert len(index.admit([]).kept) == len(index) == 0


def test_an_admission_is_frozen_and_has_fixed_types():
    """The types of the arrays do not depend on the decisions, so that callers can store them."""
    admission = DedupIndex(0.7).admit(["a"])
    types = [getattr(admission, name).dtype for name in ("kept", "nearest", "lcs", "score")]
    assert types == [np.bool_, np.int64, np.int64, np.float64]
    with pytest.raises(AttributeError):
        admission.kept = None


def test_growth_loses_nothing():
    """After every buffer has grown several times, the index still finds each text at its position."""
    count = 300 if INTERPRETED else 3000
    batch = [" ".join(f"w{i}x{j}" for j in range(5)) for i in range(count)]
    index = DedupIndex(0.7)
    for text in batch:
        assert index.admit([text]).kept[0]
    assert index.admit(batch).nearest.tolist() == list(range(count))


def test_warm_up_is_safe_in_threads():
    """Several threads can compile at the same time; none fails, and the kernels work afterwards."""
    errors = []

    def run():
        try:
            warm_up()
        except Exception as error:  # noqa: BLE001  (the test shows any exception)
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


def test_public_names_exist():
    """The package has every name in `__all__`."""
    assert all(hasattr(rouge_kernels, name) for name in rouge_kernels.__all__)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.8, 0.9])
def test_lists_that_are_full_lose_nothing(threshold, monkeypatch):
    """With few different tokens every list fills and texts go under longer keys; the index still finds all duplicates."""
    size = 6000
    if config.DISABLE_JIT:
        size = 200
        for module in (candidates, placement):
            monkeypatch.setattr(module, "FULL", 5)
    chooser = random.Random(f"full {threshold}")
    words = [f"w{number}" for number in range(16)]
    texts = [
        [words[int(16 * chooser.random() ** 2)] for _ in range(chooser.choice((1, 2, 3, 5, 7, 8, 9, 10, 14)))]
        for _ in range(size)
    ]
    kept, new = texts[: size - size // 20], texts[size - size // 20 :]
    index = DedupIndex(threshold)
    index.add([" ".join(text) for text in kept])
    assert index._postings.table.longest[1] > 0
    admission = index.admit([" ".join(text) for text in new])
    for position, text in enumerate(new):
        scores = [naive_rouge.fmeasure(LCSseq.similarity(text, other), len(text), len(other)) for other in kept]
        best = max(scores)
        assert admission.kept[position] == (best <= threshold)
        if best > threshold:
            assert admission.nearest[position] == scores.index(best)
            assert admission.score[position] == best
        else:
            kept.append(text)


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=9), max_size=40), st.integers(1, 40))
def test_identical_drops_the_same_tokens_and_nothing_else(texts, size):
    """`IDENTICAL` drops a text with the tokens of a kept text, and names its position; it keeps texts without tokens."""
    index, first, kept = DedupIndex(IDENTICAL), {}, 0
    for begin in range(0, len(texts), size):
        batch = texts[begin : begin + size]
        for text, nearest in zip(batch, index.admit([" ".join(text) for text in batch]).nearest, strict=True):
            assert nearest == first.get(tuple(text), -1)
            if nearest < 0:
                if text:
                    first[tuple(text)] = kept
                kept += 1
    assert len(index) == kept


def test_a_difference_of_one_token_is_not_identical():
    """Even for very long texts, the F closest to 1 is below the threshold."""
    text = "w " * 5000
    assert DedupIndex(IDENTICAL).admit([text, text + "w", text]).kept.tolist() == [True, True, False]
    assert least_duplicate_lcs(10**6, 10**6, IDENTICAL) == 10**6
    assert least_duplicate_lcs(10**6, 10**6 + 1, IDENTICAL) == 10**6 + 1


@given(texts, st.data())
def test_nearest_of_kept_texts(batch, data):
    """`nearest` finds for any kept text the other text with the best score, the earliest of equals, before or after it."""
    index = DedupIndex(0.7)
    index.add(batch)
    split = [text.split() for text in batch]
    positions = data.draw(st.none() | st.lists(st.integers(0, len(batch) - 1), max_size=5) if batch else st.none())
    nearest = index.nearest(positions, threads=2)
    for at, position in enumerate(range(len(batch)) if positions is None else positions):
        scores = [
            -1.0
            if other == position
            else naive_rouge.fmeasure(LCSseq.similarity(split[position], text), len(split[position]), len(text))
            for other, text in enumerate(split)
        ]
        if len(batch) == 1:
            assert nearest.position[at] == -1
        else:
            assert nearest.position[at] == scores.index(max(scores))
            assert nearest.score[at] == max(scores)
    with pytest.raises(ValueError, match="positions"):
        index.nearest([len(batch)])


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.9, 1.0])
def test_threads_do_not_change_decisions(threshold, monkeypatch):
    """A large batch gets the same decisions from any number of threads as its texts get one by one."""
    monkeypatch.setattr("rouge_kernels.index.AT_ONCE", 300)
    chooser = random.Random(f"threads {threshold}")
    words = [f"w{number}" for number in range(40)]
    size = 100 if config.DISABLE_JIT else 2000
    monkeypatch.setattr("rouge_kernels.index.SHARED", 20)
    texts = [
        " ".join(words[int(40 * chooser.random() ** 2)] for _ in range(chooser.choice((0, 1, 3, 6, 9, 9, 9, 40, 70))))
        for _ in range(size)
    ]
    alone = DedupIndex(threshold)
    one_by_one = [alone.admit([text]) for text in texts]
    for threads in (1, 2, 3, 7):
        index = DedupIndex(threshold)
        parts = [index.admit(texts[begin : begin + size // 2], threads=threads) for begin in (0, size // 2)]
        for field in ("kept", "nearest", "lcs", "score"):
            together = np.concatenate([getattr(part, field) for part in parts])
            np.testing.assert_array_equal(together, np.concatenate([getattr(single, field) for single in one_by_one]))
        assert (len(index), index.tokens) == (len(alone), alone.tokens)


def test_repeated_tokens_are_posted_once():
    """Texts of hundreds of equal tokens need no more nodes than short texts, and their lengths distinguish them."""
    index = DedupIndex(0.9)
    lengths = [1, 2, 3, 50, 100, 101, 200, 300, 330]
    kept = index.admit([" ".join(["ha"] * length) for length in lengths]).kept
    assert kept.tolist() == [True, True, True, True, True, False, True, True, False]
    assert index._postings.table.state[0] <= 1 + len(lengths)


@settings(max_examples=40)
@given(texts, st.sampled_from(THRESHOLDS))
def test_similar_pairs_are_all_pairs_above(batch, threshold):
    """The result has exactly the pairs with F above the threshold, with their LCS; batches of one give the same."""
    split = [text.split() for text in batch]
    expected = []
    for later, text in enumerate(split):
        for earlier, other in enumerate(split[:later]):
            lcs = naive_rouge.lcs_length(other, text)
            if naive_rouge.fmeasure(lcs, len(text), len(other)) > threshold:
                expected.append([earlier, later, lcs])
    assert similar_pairs(batch, threshold).tolist() == expected
    index = DedupIndex(threshold)
    assert [pair for text in batch for pair in index.pair_up([text]).tolist()] == expected
