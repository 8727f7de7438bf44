"""Tests that the encoding on bytes gives the same tokens as the tokenizers, which are plain Python."""

import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import config
from rouge_score.tokenizers import DefaultTokenizer

from rouge_kernels import DedupIndex, RougeTokenizer, UnicodeTokenizer
from rouge_kernels.vocabulary import Vocabulary

any_text = st.text(st.characters(exclude_categories=[])) | st.text("aAzZ09 .İKkK\ud800é中ß\x00\u0307", max_size=30)
TOKENIZERS = {
    "rouge": RougeTokenizer(),
    "unicode": UnicodeTokenizer(),
    "stemming": RougeTokenizer(stemming=True),
    "lines": str.splitlines,
}


def decoded(vocabulary, texts):
    encoded = vocabulary.encode(texts)
    tokens = [vocabulary.spelling(int(token)) for token in encoded.ids]
    return [tokens[begin:end] for begin, end in pairwise(encoded.starts)]


@pytest.mark.parametrize("name", TOKENIZERS)
@given(st.lists(any_text, max_size=6))
def test_ids_spell_the_tokens(name, texts):
    """The ids of any text, also with lone surrogates, decode to the tokens of its tokenizer."""
    tokenizer = TOKENIZERS[name]
    expected = [[token for token in tokenizer(text) if token] for text in texts]
    assert decoded(Vocabulary(tokenizer), texts) == expected


def test_every_character_is_encoded_like_its_lower_case():
    """Each character of Unicode between two letters gives the tokens of the tokenizer, also the Kelvin sign and dotted I."""
    step = 1 if not config.DISABLE_JIT else 97
    words = [f"x{chr(point)}y" for point in range(0, sys.maxunicode + 1, step)] + ["x\u212ay", "x\u0130y"]
    texts = [" ".join(words[at : at + 64]) for at in range(0, len(words), 64)]
    tokenizer = RougeTokenizer()
    assert decoded(Vocabulary(tokenizer), texts) == list(map(tokenizer, texts))


@given(st.lists(st.text("abc 1é", max_size=40), max_size=8), st.integers(0, 8))
def test_ids_are_given_once_and_in_order(texts, cut):
    """The first token gets 0, the next new token 1; a token keeps its id in batches of any size."""
    vocabulary, known, expected = Vocabulary(RougeTokenizer()), {}, []
    for text in texts:
        expected += [known.setdefault(token, len(known)) for token in RougeTokenizer()(text)]
    ids = [int(token) for part in (texts[:cut], texts[cut:]) for token in vocabulary.encode(part).ids]
    assert ids == expected
    assert len(vocabulary) == len(known)


def test_growth_keeps_ids_and_spellings():
    """Tens of thousands of tokens in batches of many sizes keep their ids and spellings while the tables grow."""
    size = 500 if config.DISABLE_JIT else 30_000
    texts = [f"t{number} u{number % 7} v{number // 3}" for number in range(size)]
    vocabulary = Vocabulary(RougeTokenizer())
    begin = 0
    for batch in (1, 10, 100, size):
        assert decoded(vocabulary, texts[begin : begin + batch]) == [
            text.split() for text in texts[begin : begin + batch]
        ]
        begin += batch
    assert decoded(vocabulary, texts) == [text.split() for text in texts]
    assert len(vocabulary) == size + 7 + (size + 2) // 3


@given(st.lists(st.text("abdeginrsty 12", max_size=60), max_size=5))
def test_stems_equal_rouge_score(texts):
    """With stemming, the tokens equal those of rouge_score with its stemmer."""
    from nltk.stem.porter import PorterStemmer

    reference = DefaultTokenizer(use_stemmer=True)
    assert isinstance(reference._stemmer, PorterStemmer)
    assert decoded(Vocabulary(RougeTokenizer(stemming=True)), texts) == list(map(reference.tokenize, texts))


def test_a_long_text_makes_room_in_every_buffer():
    """The kernel writes inside every buffer, also when one buffer was just long enough and another was not."""
    vocabulary = Vocabulary(RougeTokenizer())
    words = [f"t{number}" for number in range(60)]
    encoded = vocabulary.encode(["a " * 64, " ".join(f"x{number}" for number in range(10)), *words])
    assert len(vocabulary._hashes) == len(vocabulary._ends)
    assert [vocabulary.spelling(token) for token in encoded.ids[-60:]] == words


@pytest.mark.parametrize(
    ("texts", "named"), [("one text", "a list of texts"), ([b"x"], "bytes"), (["a", None], "NoneType")]
)
def test_anything_but_a_list_of_texts_is_an_error(texts, named):
    """A single str would work as a list of its characters, so it is an error, as bytes and None are."""
    with pytest.raises(TypeError, match=named):
        Vocabulary().encode(texts)
    with pytest.raises(TypeError, match=named):
        DedupIndex(0.5).admit(texts)
