import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.tokenize import tokenize

from rouge_kernels import TOKENIZERS, RougeTokenizer, UnicodeTokenizer

rouge = RougeTokenizer()
words = UnicodeTokenizer()


@given(st.text() | st.text(alphabet="aZ09 _-.\n\u212aİſẞ中é"))
def test_rouge_tokens_equal_rouge_score(text):
    """Any text has the same tokens as in rouge_score."""
    assert rouge(text) == tokenize(text, None)


def test_rouge_tokens_equal_rouge_score_for_every_character():
    """Every character of Unicode gives the same tokens, also those outside ASCII whose lower case is in ASCII."""
    text = " ".join(f"x{chr(codepoint)}y" for codepoint in range(sys.maxunicode + 1))
    assert rouge(text) == tokenize(text, None)
    assert rouge("300 \u212a") == ["300", "k"]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Don't stop, it's 3.5 km!", ["don", "t", "stop", "it", "s", "3", "5", "km"]),
        ("请写一首诗。", ["请", "写", "一", "首", "诗"]),
        ("用Python3写", ["用", "python3", "写"]),
        ("カタカナとひらがな", [*"カタカナとひらがな"]),
        ("コーヒー・ﾃｽﾄ", [*"コーヒーテスト"]),
        ("한국어 문장을 쓰세요", ["한국어", "문장을", "쓰세요"]),
        ("हिन्दी में लिखें", ["हिन्दी", "में", "लिखें"]),
        ("Straße ÉCOLE ﬁn", ["strasse", "école", "fin"]),
        ("ＡＢＣ １２", ["abc", "12"]),
        ("snake_case co\u00adop", ["snake", "case", "coop"]),
        ("one\u200btwo", ["one", "two"]),
        ("葛\U000e0100飾", ["葛", "飾"]),
        ("İSTANBUL'DA IŞIK", ["istanbul", "da", "işik"]),
        ("istanbul'da ışık", ["istanbul", "da", "işik"]),
        ("كِتَابٌ جَمِيلٌ جــدا", ["كتاب", "جميل", "جدا"]),
        ("أُكْتُبْ سُؤَالًا", ["أكتب", "سؤالا"]),
        ("שָׁלוֹם", ["שלום"]),
        ("\ud800 —…", []),
        ("", []),
    ],
)
def test_words_of_other_scripts(text, tokens):
    """Each script gets the words that its readers expect; Han, Hiragana and Katakana characters are tokens."""
    assert words(text) == tokens


def test_the_first_version_keeps_vowel_signs_and_dots():
    """Data of earlier runs is judged by the tokens of then."""
    first = TOKENIZERS["unicode-1"]
    assert first("كِتَابٌ İ ı") == ["كِتَابٌ", "i̇", "ı"]
    assert first("Straße 用Python3写") == words("Straße 用Python3写")


@given(st.text())
def test_normal_form_of_a_character_does_not_matter(text):
    """Composed and decomposed text have the same tokens, and no token is empty or contains a space."""
    assert words(unicodedata.normalize("NFD", text)) == words(unicodedata.normalize("NFC", text))
    assert all(token and not any(character.isspace() for character in token) for token in words(text))


@given(st.text(alphabet=st.characters(max_codepoint=127)))
def test_both_agree_on_ascii(text):
    """For ASCII text both tokenizers give the same tokens."""
    assert TOKENIZERS["unicode"](text) == TOKENIZERS["rouge"](text)
