import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import LCSseq
from support import naive_rouge

from rouge_kernels import lcs_length

EDGES = [0, 1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129]


@pytest.mark.parametrize("first", EDGES)
@pytest.mark.parametrize("second", EDGES)
def test_equals_two_other_implementations_around_every_word_size(first, second):
    """Lengths on both sides of every power of two, the machine word among them, agree with the table and RapidFuzz."""
    rng = random.Random(first * 1000 + second)
    for alphabet in ("a", "ab", "abcdefgh"):
        one, two = rng.choices(alphabet, k=first), rng.choices(alphabet, k=second)
        assert lcs_length(one, two) == naive_rouge.lcs_length(one, two) == LCSseq.similarity(one, two)


@given(st.lists(st.sampled_from("abcd"), max_size=200), st.lists(st.sampled_from("abcde"), max_size=200))
def test_equals_rapidfuzz_on_any_lengths(one, two):
    """Repeated tokens and lengths nobody chose agree with an independent bit-parallel implementation."""
    assert lcs_length(one, two) == lcs_length(two, one) == LCSseq.similarity(one, two)


@pytest.mark.parametrize("length", EDGES)
def test_equal_texts_have_all_in_common(length):
    """A carry runs through every word: with one token only, each sum overflows into the next word."""
    assert lcs_length(["a"] * length, ["a"] * length) == length
    assert lcs_length([str(i) for i in range(length)], [str(i) for i in range(length)]) == length
