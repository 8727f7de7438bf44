"""Rows that are learned, and rows that are held out, from every kind of source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from explore_async.curation.collections.open import open_collection
from explore_async.errors import ConfigError, DataError
from explore_async.training.examples import all_rows, training_rows


def source(tmp_path: Path, rows: list[dict[str, Any]], name: str = "rows.jsonl"):
    path = tmp_path / name
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return open_collection(path)


def row(number: int) -> dict[str, Any]:
    """An instruction that shares no word with any other."""
    return {"instruction": f"tell{number} sort{number} paint{number} weigh{number}", "output": f"Number {number}."}


ROWS = [row(number) for number in range(100)]


def read(collection, share=0.0, held_out=None, seed=0):
    return training_rows(collection, share=share, held_out=held_out, seed=seed, marked="not-bad")


def test_all_kinds_of_rows_are_learned(tmp_path: Path) -> None:
    """An instruction with an input, a conversation, a prompt with its completion: the assistant's turns, and of a
    completion those in it alone.
    """
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}] * 2
    rows = [
        {"instruction": "Add.", "input": "1, 2", "output": "3"},
        {"messages": [{"role": "system", "content": "s"}, *talk]},
        {"prompt": [*talk, {"role": "user", "content": "c"}], "completion": [{"role": "assistant", "content": "d"}]},
        {"instruction": "Unanswered", "output": ""},
    ]
    parts = [all_rows(source(tmp_path, [one], f"{n}.jsonl")) for n, one in enumerate(rows)]
    first, second, third, fourth = parts
    assert first.turns[0].messages[0] == {"role": "user", "content": "Add.", "input": "1, 2"}
    assert second.turns[0].answers == (2, 4)
    assert third.turns[0].answers == (5,)
    assert (fourth.turns, fourth.unanswered) == ([], 1)


@pytest.mark.parametrize(
    ("example", "said"),
    [
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "preference"),
        ({"instruction": "a", "output": "b", "label": False}, "preference"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "a"}]}, {"role": "assistant", "content": "b"}]}, "texts alone"),
    ],
)  # fmt: skip
def test_what_a_model_must_not_learn_is_refused(tmp_path: Path, example: dict[str, Any], said: str) -> None:
    """The worse answer of a pair is never learned, and no image is dropped in silence; the message names the row."""
    with pytest.raises(DataError, match=rf"rows.jsonl, example .*{said}"):
        all_rows(source(tmp_path, [example]))


def test_a_share_is_held_out_by_digests(tmp_path: Path) -> None:
    """No row is on both sides; the same seed holds out the same rows, another one others."""
    train, held_out = read(source(tmp_path, ROWS), share=0.2)
    assert held_out is not None
    assert len(held_out.turns) == 20
    lines = [{turns.line for turns in part.turns} for part in (train, held_out)]
    assert not lines[0] & lines[1]
    assert len(lines[0] | lines[1]) + train.near_held_out == 100
    again = read(source(tmp_path, ROWS, "again.jsonl"), share=0.2)
    assert [part.data.digest for part in again if part] == [train.data.digest, held_out.data.digest]
    other = read(source(tmp_path, ROWS, "other.jsonl"), share=0.2, seed=1)[1]
    assert other is not None
    assert other.data.digest != held_out.data.digest


def test_a_row_near_a_held_out_one_is_not_learned(tmp_path: Path) -> None:
    """Of a file of held-out rows all are measured, and their near-duplicates leave the training rows and are counted."""
    known = {"instruction": f"please {ROWS[3]['instruction']}", "output": "Known."}
    train, held_out = read(source(tmp_path, ROWS), held_out=source(tmp_path, [known], "held.jsonl"))
    assert held_out is not None
    assert [turns.messages[1]["content"] for turns in held_out.turns] == ["Known."]
    assert train.near_held_out >= 1
    assert len(train.turns) == 100 - train.near_held_out
    assert b"Number 3." not in b"".join(turns.line for turns in train.turns)


def test_nothing_to_learn_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no example with an answer"):
        read(source(tmp_path, [{"instruction": "a", "output": ""}]))
    with pytest.raises(ConfigError, match="too few examples"):
        read(source(tmp_path, ROWS[:3]), share=0.05)
