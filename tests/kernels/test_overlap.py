import random
import threading
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import config
from rapidfuzz import process
from rapidfuzz.distance import LCSseq
from support import naive_rouge

from rouge_kernels import Texts, best, histogram, lcs_matrix, mean, top_k

INTERPRETED = bool(config.DISABLE_JIT)
EDGES = [0, 1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129]

# lengths for every width of a lane and longer ones; few different tokens, so that many scores are equal
texts = st.lists(
    st.sampled_from([3, 12, 20, 40, 70, 140]).flatmap(lambda longest: st.lists(st.integers(0, 5), max_size=longest)),
    max_size=12,
)


def packed(texts):
    starts = np.cumsum([0, *map(len, texts)], dtype=np.int64)
    return Texts(np.array([token for text in texts for token in text], dtype=np.int32), starts)


def as_strings(texts):
    return ["".join(map(chr, text)) for text in texts]


def drawn(rng, lengths, tokens):
    return [rng.choices(range(tokens), k=length) for length in lengths]


@cache
def oracle(first, second):
    """(F, LCS) from the table and the formula."""
    lcs = naive_rouge.lcs_length(first, second)
    return naive_rouge.fmeasure(lcs, len(first), len(second)), lcs


def scored(query, corpus, excluded):
    """(F, LCS, position) for each text that is not excluded."""
    return [
        (*oracle(tuple(query), tuple(text)), position) for position, text in enumerate(corpus) if position != excluded
    ]


@st.composite
def collections(draw):
    """Queries, a corpus, and for each query a position to leave out or -1, or None instead of all positions."""
    queries, corpus = draw(texts), draw(texts)
    left_out = st.lists(st.integers(-1, len(corpus) - 1), min_size=len(queries), max_size=len(queries))
    excluding = draw(st.none() | left_out.map(lambda positions: np.array(positions, dtype=np.int64)))
    return queries, corpus, excluding


def left_out(queries, excluding):
    return [-1] * len(queries) if excluding is None else excluding


@given(collections(), st.integers(1, 15))
def test_the_nearest_are_those_of_the_sorted_matrix(given_texts, k):
    """Positions, LCS and F equal those of the sorted matrix: highest F first, then earliest; -1 and nan if none is left."""
    queries, corpus, excluding = given_texts
    found = top_k(packed(queries), packed(corpus), k, excluding=excluding)
    single = best(packed(queries), packed(corpus), excluding=excluding)
    for i, (query, excluded) in enumerate(zip(queries, left_out(queries, excluding), strict=True)):
        wanted = sorted(scored(query, corpus, excluded), key=lambda scored_text: (-scored_text[0], scored_text[2]))[:k]
        wanted += [(np.nan, -1, -1)] * (k - len(wanted))
        rows = [list(zip(found.score[i], found.lcs[i], found.position[i], strict=True))]
        assert repr(np.array(rows[0])) == repr(np.array(wanted))
        assert repr((single.score[i], single.lcs[i], single.position[i])) == repr(rows[0][0])


@given(collections(), st.integers(1, 12))
def test_means_and_histograms_are_those_of_the_matrix(given_texts, bins):
    """Every pair is in the bin of its float; the mean equals the oracle's up to the rounding of the oracle's sum."""
    queries, corpus, excluding = given_texts
    means = mean(packed(queries), packed(corpus), excluding=excluding)
    counts = histogram(packed(queries), packed(corpus), bins, per_query=True, excluding=excluding)
    assert (histogram(packed(queries), packed(corpus), bins, excluding=excluding) == counts.sum(axis=0)).all()
    for i, (query, excluded) in enumerate(zip(queries, left_out(queries, excluding), strict=True)):
        scores = [score for score, _, _ in scored(query, corpus, excluded)]
        assert counts[i].tolist() == [
            sum(min(int(score * bins), bins - 1) == number for score in scores) for number in range(bins)
        ]
        assert means[i] == pytest.approx(np.mean(scores) if scores else np.nan, rel=1e-12, nan_ok=True)


@pytest.mark.parametrize("tokens", [1, 2, 8, 400])
def test_the_matrix_equals_two_other_implementations_around_every_width(tokens):
    """Around every width of a lane, the matrix agrees with the table and with RapidFuzz."""
    rng = random.Random(tokens)
    queries, corpus = (drawn(rng, EDGES, tokens) for _ in range(2))
    matrix = lcs_matrix(packed(queries), packed(corpus))
    assert matrix.dtype == np.int32
    expected = process.cdist(as_strings(queries), as_strings(corpus), scorer=LCSseq.similarity, dtype=np.int32)
    assert (matrix == expected).all()
    some = range(0, len(EDGES), 6 if INTERPRETED else 2)
    assert all(matrix[i, j] == naive_rouge.lcs_length(queries[i], corpus[j]) for i in some for j in some)


@pytest.mark.parametrize("longest", [8, 16, 32, 64, 128, 200, 500, 1100])
def test_full_blocks_of_every_width(longest):
    """With more queries than lanes, and carries to the end of neighbouring lanes, the matrix agrees with RapidFuzz."""
    rng = random.Random(longest)
    queries = drawn(rng, [rng.randint(0, longest) for _ in range(20 if INTERPRETED or longest > 200 else 300)], 30)
    queries += [[3] * longest, [3] * (longest - 1)]
    corpus = [*rng.sample(queries, 10), [3] * longest, [3] * 300, [99], list(range(100))]
    if INTERPRETED and longest > 200:
        queries, corpus = queries[-3:], corpus[9:11]
    expected = process.cdist(as_strings(queries), as_strings(corpus), scorer=LCSseq.similarity, dtype=np.int32)
    assert (lcs_matrix(packed(queries), packed(corpus)) == expected).all()


def test_the_float_decides_between_scores_that_are_equal_on_paper():
    """2·1/(8+1) equals 2·2/(8+10), but rouge_score's floats differ: the greater float wins in either order."""
    query, lower, higher = [*range(8)], [0], [0, 1, *[50] * 8]
    assert oracle(tuple(query), tuple(lower))[0] < oracle(tuple(query), tuple(higher))[0]
    assert best(packed([query]), packed([lower, higher])).position.tolist() == [1]
    assert best(packed([query]), packed([higher, lower])).position.tolist() == [0]


@pytest.mark.parametrize("threads", [2, 5])
def test_threads_do_not_change_results(threads):
    """One thread and several give the same floats and positions, also when several threads call at the same time."""
    rng = random.Random(threads)
    count = 40 if INTERPRETED else 700
    corpus = packed(drawn(rng, [rng.choice([5, 9, 20, 40, 90]) for _ in range(count)], 12))
    itself = np.arange(count)
    alone = mean(corpus, corpus, threads=1), best(corpus, corpus, excluding=itself, threads=1).position
    results = []

    def run():
        results.append((mean(corpus, corpus, threads=threads), best(corpus, corpus, excluding=itself).position))

    callers = [threading.Thread(target=run) for _ in range(2)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(results) == 2
    for result in results:
        assert all((expected == actual).all() for expected, actual in zip(alone, result, strict=True))


def test_texts_longer_than_a_count_of_sixteen_bits():
    """An LCS above 65535 tokens does not wrap."""
    length = 66_000
    if INTERPRETED:
        pytest.skip("minutes without the JIT")
    text = packed([[7] * length])
    assert lcs_matrix(text, text).tolist() == [[length]]
    assert best(text, text).lcs.tolist() == [length]


def test_invalid_arguments_are_errors():
    """Negative ids would read from the wrong end, and positions out of range would have no effect: both are errors."""
    text, negative = packed([[0, 1]]), packed([[0, -1]])
    for queries, corpus in ((text, negative), (negative, text)):
        with pytest.raises(ValueError, match="negative"):
            lcs_matrix(queries, corpus)
    for excluding in ([1], [-2], [0, 0], []):
        with pytest.raises(ValueError, match="excluding"):
            best(text, text, excluding=np.array(excluding, dtype=np.int64))
    with pytest.raises(ValueError, match="k must"):
        top_k(text, text, 0)
    with pytest.raises(ValueError, match="bin"):
        histogram(text, text, 0)


@pytest.mark.slow
@pytest.mark.parametrize("longest", [8, 16, 32, 64, 128])
def test_ten_million_pairs_equal_rapidfuzz(longest):
    """Ten million pairs for each width, many of them similar, agree with RapidFuzz."""
    rng = random.Random(longest)
    queries = drawn(rng, [rng.randint(0, longest) for _ in range(2000)], 60)
    corpus = drawn(rng, [rng.randint(0, 2 * longest) for _ in range(4000)], 60)
    for query in rng.sample(queries, 1000):
        copy = [token for token in query if rng.random() < 0.8]
        corpus.append(copy)
    expected = process.cdist(
        as_strings(queries), as_strings(corpus), scorer=LCSseq.similarity, dtype=np.int32, workers=-1
    )
    assert (lcs_matrix(packed(queries), packed(corpus)) == expected).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64])
def test_the_matrix_has_the_requested_dtype(dtype):
    """Every integer type gives the same matrix; a type that might not hold an LCS is an error."""
    rng = random.Random(7)
    short = packed(drawn(rng, [0, 5, 16, 30] * 3, 4))
    made = lcs_matrix(short, short, dtype=dtype)
    assert made.dtype == dtype
    assert (made == lcs_matrix(short, short)).all()
    long = packed([[1] * 256])
    if dtype == np.uint8:
        with pytest.raises(ValueError, match="256"):
            lcs_matrix(long, long, dtype=dtype)
    with pytest.raises(ValueError, match="float64"):
        lcs_matrix(short, short, dtype=np.float64)
