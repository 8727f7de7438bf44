"""Verdicts of people: their file, the order of what they see, and the figures."""

from __future__ import annotations

import os
from collections import Counter
from itertools import permutations
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from explore_async.errors import ConfigError, DataError, StorageError
from explore_async.evaluation.agreement import krippendorffs_alpha
from explore_async.evaluation.blind import BlindPairs, blind_pairs
from explore_async.evaluation.pairing import Pair
from explore_async.evaluation.rater_figures import exported, figures_of_raters
from explore_async.evaluation.rater_verdicts import Choice, Verdict, Verdicts


def units(*raters: str) -> list[list[str]]:
    """The values that each unit has, from rows of a table with a dot where there is none."""
    return [[value for value in unit if value != "."] for unit in zip(*map(str.split, raters), strict=True)]


def test_alpha_of_the_literature() -> None:
    """The examples of Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011): binary data of two observers (A),
    nominal data of two (B), nominal data of four with gaps (C). The library `krippendorff` 0.9.0 gives the same.
    """
    assert krippendorffs_alpha(units("0 1 0 0 0 0 0 0 1 0", "1 1 1 0 0 1 0 0 0 0")) == pytest.approx(0.095, abs=5e-4)
    of_two = units("a a b b d c c c e d d a", "b a b b b c c c e d d d")
    assert krippendorffs_alpha(of_two) == pytest.approx(0.692, abs=5e-4)
    with_gaps = units(
        "1 2 3 3 2 1 4 1 2 . . .", "1 2 3 3 2 2 4 1 2 5 . 3", ". 3 3 3 2 3 4 2 2 5 1 .", "1 2 3 3 2 4 4 1 2 5 1 ."
    )
    assert krippendorffs_alpha(with_gaps) == pytest.approx(0.743421052631579, abs=1e-12)
    assert krippendorffs_alpha([["a"], ["b"]]) is None
    assert krippendorffs_alpha([["a", "a"], ["a", "a"]]) is None
    assert krippendorffs_alpha([["a", "a"], ["b", "b", "b"]]) == 1


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=4), max_size=12))
def test_alpha_by_its_definition(ratings: list[list[str]]) -> None:
    """1 - observed / expected disagreement, each counted pair by pair from the table of coincidences."""
    coincidences: Counter[tuple[str, str]] = Counter()
    for unit in ratings:
        for pair in permutations(unit, 2):
            coincidences[pair] += 1 / (len(unit) - 1)
    values = [value for unit in ratings if len(unit) > 1 for value in unit]
    chance = sum(one != other for one, other in permutations(values, 2))
    found = krippendorffs_alpha(ratings)
    if not chance:
        assert found is None
        return
    differing = sum(count for (one, other), count in coincidences.items() if one != other)
    assert found == pytest.approx(1 - differing / (chance / (len(values) - 1)))


def of(count: int, identical: tuple[int, ...] = (), seed: int = 0) -> BlindPairs:
    rows = [
        Pair(str(n), f"Question {n}", "", f"A {n}", f"A {n}" if n in identical else f"B {n}", "") for n in range(count)
    ]
    return blind_pairs(rows, seed)


def test_the_order_is_random_and_stays() -> None:
    """The same seed gives the same order and sides, another one others; sides differ by rater, and are balanced."""
    pairs, again, other = of(400), of(400), of(400, seed=1)
    assert list(pairs.by_id) == list(again.by_id)
    assert list(pairs.by_id) != list(other.by_id)
    assert set(pairs.by_id) == set(other.by_id)
    sides = {rater: [pairs.left(pair, rater) for pair in pairs.by_id.values()] for rater in ("Ann", "Bob", "Ann again")}
    assert len({tuple(own) for own in sides.values()}) == 3
    assert all(160 < own.count("a") < 240 for own in sides.values())
    assert blind_pairs([*(Pair(str(n), "Say", "", " x\n", "y", "") for n in range(3))], 0).repeated == 2


def given_(pairs: BlindPairs, rater: str, choices: dict[str, Choice]) -> dict[str, dict[str, Verdict]]:
    own = {}
    for pair in pairs.by_id.values():
        if (choice := choices.get(pair.instruction)) is not None:
            left = pairs.left(pair, rater)
            own[pair.id] = Verdict(id=pair.id, rater=rater, verdict=choice, comment="", left=left, seed=0)
    return {rater: own}


def test_figures_by_hand() -> None:
    """Identical answers are ties, of a rater who has judged all and of one who is under way as far as that one came; the
    majority decides, and two verdicts against each other are a tie; other texts count nowhere.
    """
    pairs = of(6, identical=(2, 4))
    ann: dict[str, Choice] = {"Question 0": "a", "Question 1": "a", "Question 3": "b", "Question 5": "tie"}
    bob: dict[str, Choice] = {"Question 0": "a", "Question 1": "b", "Question 3": "b", "Question 5": "tie"}
    verdicts = given_(pairs, "Ann", ann) | given_(pairs, "Bob", bob)
    figures = figures_of_raters(pairs, verdicts)
    rows = {rater: rated.standing for rater, rated in figures.by_rater.items()} | {"all": figures.together.standing}
    assert {name: (one.win, one.tie, one.lose) for name, one in rows.items()} == {
        "Ann": (2, 3, 1),
        "Bob": (1, 3, 2),
        "all": (1, 4, 1),
    }
    assert (figures.together.identical, figures.together.judged) == (2, 4)
    assert figures.agreement.questions == 4
    assert figures.agreement.equal == 0.75
    # agreed 3 of 4; by chance (2 * 1 + 1 * 2 + 1 * 1) / 16
    assert figures.agreement.kappa == pytest.approx((0.75 - 5 / 16) / (1 - 5 / 16))
    left = sum(one.verdict == one.left for one in verdicts["Ann"].values() if one.verdict != "tie")
    assert figures.left_won["Ann"] == left / 3
    assert len(list(exported(pairs, verdicts))) == 8

    first = next(pair for pair in pairs.by_id.values() if not pair.is_identical)
    before = list(pairs.by_id).index(first.id)
    begun = figures_of_raters(pairs, given_(pairs, "Eve", {first.instruction: "b"}))
    assert begun.by_rater["Eve"].identical == before
    assert begun.agreement.kappa is None
    assert figures_of_raters(of(1), verdicts | given_(pairs, "Eve", {})).elsewhere == 6
    assert orjson.loads(orjson.dumps(figures.document()))["all"]["win_rate"]["value"] == 0.5


def verdict(key: str, choice: Choice | None, rater: str = "Ann", seed: int = 5) -> Verdict:
    return Verdict(id=key, rater=rater, verdict=choice, comment="why", left="a", seed=seed)


def test_the_file_of_verdicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last line counts; a verdict that could not be made durable is in no file; only one process writes; what a power
    loss left of a line is dropped, and a whole line without its end is not.
    """
    path = tmp_path / "v.jsonl"
    verdicts = Verdicts(path)
    with verdicts.writing():
        for one in (verdict("x", "a"), verdict("y", "tie"), verdict("x", "b"), verdict("y", None)):
            verdicts.add(one)
        with pytest.raises(StorageError, match="another `compare`"), Verdicts(path).writing():
            pass
        whole = path.read_bytes()
        with monkeypatch.context() as broken:
            broken.setattr(os, "fsync", lambda _file: (_ for _ in ()).throw(OSError(5, "Input/output error")))
            with pytest.raises(StorageError):
                verdicts.add(verdict("z", "a"))
        assert path.read_bytes() == whole
        assert "z" not in verdicts.of["Ann"]
    for end, kept in ((b"", ["x"]), (b'{"id": "to', ["x"]), (orjson.dumps(verdict("w", "a").model_dump()), ["x", "w"])):
        path.write_bytes(whole + end)
        again = Verdicts(path)
        assert list(again.of["Ann"]) == kept
        with again.writing():
            again.add(verdict("n", "tie"))
        assert list(Verdicts(path).of["Ann"]) == [*kept, "n"]
    assert again.seed_or(None) == again.seed_or(5) == 5
    with pytest.raises(ConfigError, match="begun with seed 5"):
        again.seed_or(6)
    for bad in (b"[1]\n", b"{}\n", b"\n", b'{"id": 1}\n', b"\xff\n"):
        path.write_bytes(whole + bad)
        with pytest.raises(DataError, match="line 5"):
            Verdicts(path)
