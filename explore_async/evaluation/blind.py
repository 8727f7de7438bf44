"""Pairs of answers for raters who do not know whose they are: their order, and the side of each answer. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import orjson

from explore_async.evaluation.pairing import Pair

Side: TypeAlias = Literal["a", "b"]


@dataclass(frozen=True, slots=True)
class BlindPair:
    """A question with both answers, without white space around them. Its id is a digest of these texts: a verdict
    is on them.
    """

    id: str
    instruction: str
    input: str
    a: str
    b: str

    @property
    def is_identical(self) -> bool:
        """True where a reader could see no difference."""
        return self.a == self.b

    def answer(self, side: Side) -> str:
        return self.a if side == "a" else self.b


@dataclass(frozen=True, slots=True)
class BlindPairs:
    """All pairs by their ids, in a random order, the same for all raters. `repeated`: number of copies left out."""

    by_id: dict[str, BlindPair]
    seed: int
    repeated: int

    @property
    def identical(self) -> int:
        return sum(pair.is_identical for pair in self.by_id.values())

    def left(self, pair: BlindPair, rater: str) -> Side:
        """The side whose answer this rater sees on the left."""
        return "b" if _digest(self.seed, pair.id, rater)[0] & 1 else "a"


def blind_pairs(pairs: Sequence[Pair], seed: int) -> BlindPairs:
    """The pairs as raters get them: another seed gives another order."""
    found = sorted(map(_blind, pairs), key=lambda pair: _digest(seed, pair.id))
    by_id = {pair.id: pair for pair in found}
    return BlindPairs(by_id, seed, len(found) - len(by_id))


def _blind(pair: Pair) -> BlindPair:
    texts = [text.strip() for text in (pair.instruction, pair.input, pair.a, pair.b)]
    return BlindPair(_digest(*texts).hex()[:24], *texts)


def _digest(*parts: str | int) -> bytes:
    return hashlib.sha256(orjson.dumps(parts)).digest()
