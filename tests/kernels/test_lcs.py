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
    """Around every power of two, also the machine word, the LCS agrees with the table and with RapidFuzz."""
    rng = random.Random(first * 1000 + second)
    for alphabet in ("a", "ab", "abcdefgh"):
        a, b = rng.choices(alphabet, k=first), rng.choices(alphabet, k=second)
        assert lcs_length(a, b) == naive_rouge.lcs_length(a, b) == LCSseq.similarity(a, b)


@given(st.lists(st.sampled_from("abcd"), max_size=200), st.lists(st.sampled_from("abcde"), max_size=200))
def test_equals_rapidfuzz_on_any_lengths(first, second):
    """Texts of any lengths with repeated tokens agree with an independent bit-parallel implementation."""
    assert lcs_length(first, second) == lcs_length(second, first) == LCSseq.similarity(first, second)


@pytest.mark.parametrize("length", EDGES)
def test_equal_texts_have_all_in_common(length):
    """The LCS of equal texts is their length, also when each sum carries into the next word."""
    assert lcs_length(["a"] * length, ["a"] * length) == length
    assert lcs_length([str(i) for i in range(length)], [str(i) for i in range(length)]) == length
