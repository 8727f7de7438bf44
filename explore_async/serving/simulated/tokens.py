"""Tokens of the simulated model. It has no tokenizer: a text has a number of tokens, each an equal part of it."""

from __future__ import annotations

import math
import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Final

from explore_async.serving.simulated.vocabulary import NOUNS

TOKENS_PER_WORD: Final = 1.3
_CHARACTERS_PER_TOKEN: Final = 12
"""Of a text without spaces, such as a long list of numbers."""
_EXTRA_BYTES_PER_TOKEN: Final = 3
"""Bytes beyond one a character: a Chinese character, three bytes in UTF-8, is two thirds of a token."""
VOCABULARY: Final = 2**31
"""Ids of tokens are checksums of their texts: with so many of them, two texts hardly ever share one."""
_REMEMBERED: Final = 200_000
MOST_LOGPROBS: Final = 20


def count_tokens(text: str) -> int:
    by_words = math.ceil(len(text.split()) * TOKENS_PER_WORD)
    by_length = math.ceil(len(text) / _CHARACTERS_PER_TOKEN)
    if text.isascii():
        return max(by_words, by_length)
    extra_bytes = len(text.encode("utf-8", "surrogatepass")) - len(text)
    return max(by_words, by_length, math.ceil(extra_bytes / _EXTRA_BYTES_PER_TOKEN))


def cut_off(text: str, tokens: int, limit: int) -> str:
    """The first `limit` of the text's `tokens`."""
    return text[: len(text) * limit // tokens] if limit < tokens else text


def split_tokens(text: str, tokens: int) -> list[str]:
    """The text in `tokens` pieces, which joined are the text. A short text has empty ones, as an end mark is."""
    size = len(text)
    ends = [size * number // tokens for number in range(tokens + 1)] if tokens else [0]
    return [text[begin:end] for begin, end in pairwise(ends)]


def token_id(token: str) -> int:
    return zlib.crc32(token.encode("utf-8", "surrogatepass")) % VOCABULARY


class TokenMemory:
    """The texts of the tokens that a server named last, by their ids."""

    def __init__(self) -> None:
        self._texts: dict[int, str] = {}

    def ids_of(self, tokens: Sequence[str]) -> list[int]:
        """The ids of tokens, which are remembered from now on."""
        ids = [token_id(token) for token in tokens]
        self._texts |= zip(ids, tokens, strict=True)
        for oldest in list(islice(self._texts, max(0, len(self._texts) - _REMEMBERED))):
            del self._texts[oldest]
        return ids

    def text_of(self, ids: Sequence[int]) -> str:
        """The text of tokens. KeyError holds an id that is not remembered."""
        return "".join(self._texts[one] for one in ids)


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token with its logarithm of the probability, and the most probable tokens, itself among them, best first."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...]


def draw_logprobs(digest: bytes, tokens: Sequence[str], top: int) -> list[TokenLogprob]:
    """Made-up probabilities that add up to less than 1, with `top` alternatives a token. Equal digests, equal draws."""
    rng = random.Random(digest)  # noqa: S311 - reproducible completions
    logprobs: list[TokenLogprob] = []
    for token in tokens:
        chosen = 0.4 + 0.6 * rng.random()
        ranked = [(token, math.log(chosen))]
        rest = 1.0 - chosen
        for word in rng.sample(NOUNS, max(0, top - 1)):
            rest /= 2
            ranked.append((f" {word}", math.log(max(rest, 1e-9))))
        logprobs.append(TokenLogprob(token, ranked[0][1], tuple(ranked[:top])))
    return logprobs
