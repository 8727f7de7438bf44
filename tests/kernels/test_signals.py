"""A signal that ends a call leaves an index, or a vocabulary, that goes on as if the call had had fewer texts."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import compress
from typing import Any

import pytest

from rouge_kernels import DedupIndex, search, vocabulary
from rouge_kernels.vocabulary import Vocabulary

WORDS = [f"word{number}" for number in range(60)]
DRAW = random.Random(7)
TEXTS = [" ".join(DRAW.choices(WORDS, k=DRAW.randint(2, 12))) for _ in range(3000)]


def ends_behind(monkeypatch: pytest.MonkeyPatch, module: Any, kernel: str, call: int) -> None:
    """Ctrl-C comes while this call of the kernel works: Python raises it as soon as the kernel returns."""
    own, calls = getattr(module, kernel), 0

    def ending(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        result = own(*arguments)
        if calls == call:
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(module, kernel, ending)


@pytest.mark.parametrize(
    ("kernel", "keep", "drops"),
    [
        ("admit", lambda index: index.admit(TEXTS, threads=1), True),
        ("admit_looked_up", lambda index: index.admit(TEXTS, threads=2), True),
        ("admit", lambda index: index.add(TEXTS), False),
        ("pair_up", lambda index: index.pair_up(TEXTS), False),
    ],
    ids=["admit", "admit on threads", "add", "pair_up"],
)
def test_an_index_that_was_interrupted_is_whole(
    monkeypatch: pytest.MonkeyPatch, kernel: str, keep: Callable[[DedupIndex], object], drops: bool
) -> None:
    """It has the first of the texts that the whole call keeps. So it decides what an index of these texts decides."""
    kept = list(compress(TEXTS, DedupIndex(0.6).admit(TEXTS).kept)) if drops else TEXTS
    index = DedupIndex(0.6)
    with monkeypatch.context() as patched:
        ends_behind(patched, search, kernel, call=2)
        with pytest.raises(KeyboardInterrupt):
            keep(index)
    assert 0 < len(index) < len(kept)
    same = DedupIndex(0.6)
    same.add(kept[: len(index)])
    found, expected = index.admit(TEXTS), same.admit(TEXTS)
    assert (found.nearest == expected.nearest).all()
    assert (found.lcs == expected.lcs).all()


def test_a_vocabulary_that_was_interrupted_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens of the call that was ended have their ids for good: no two tokens share one."""
    known = Vocabulary(str.split)
    with monkeypatch.context() as patched:
        ends_behind(patched, vocabulary, "_encode_bytes", call=1)
        with pytest.raises(KeyboardInterrupt):
            known.encode(TEXTS)
    others = [f"other{number} {text}" for number, text in enumerate(reversed(TEXTS))]
    ids = known.encode(others).ids
    assert [known.spelling(token) for token in ids] == " ".join(others).split()
    assert len({known.spelling(token) for token in range(len(known))}) == len(known)
