"""What a user sees of a run in which each instruction gets answers of its own and a judge scores them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from support.cli import Finished, in_process
from support.stored_run import serving

CONFIG = """
name: test
domains:
  - name: Look after a garden
    system: Answer in the manner of a gardener.
exploration: {depth: 1, breadth: [2]}
generation: {per_request: 4}
responses: separate
answers_per_instruction: 2
judge: {threshold: 2, aspects: {correct: the facts are right, polite: the tone is polite}}
targets: {examples: 16}
window: 64
operation: {report: false}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Finished]]:
    """A run directory, and what the command said."""
    folder = tmp_path_factory.mktemp("separate")
    (folder / "config.yaml").write_text(CONFIG)
    with serving() as url:
        yield folder / "run", in_process("run", folder / "config.yaml", "--endpoint", url, "--out", folder / "run")


def lines(path: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def test_the_counts(made: tuple[Path, Finished]) -> None:
    """stats.json counts instructions, answers by their verdict and scores by aspect as the evidence has them, and the
    summary says them.
    """
    run, said = made
    stats, decisions = orjson.loads((run / "stats.json").read_bytes()), lines(run / "decisions.jsonl")
    assert said.code == 0, said.stderr
    of = {what: [line for line in decisions if line["what"] == what] for what in ("instruction", "answer", "scores")}
    assert stats["instructions"] == len(of["instruction"])
    verdicts = Counter(line["reason"] for line in of["answer"])
    assert stats["answers"] == {"total": len(of["answer"]), **verdicts}
    for aspect in ("correct", "polite"):
        counts = Counter(str(line["scores"][aspect]) for line in of["scores"] if line["scores"])
        assert stats["scores"][aspect] == dict(sorted(counts.items()))
    assert stats["examples"]["kept"] == 16
    summary = " ".join(said.stderr.split())
    for words in (f"instructions {stats['instructions']} new", f"answers {verdicts['accepted']} passed", "polite "):
        assert words in summary
