"""`--adopt` between recipes whose instructions have requests of their own: real command line, requests counted at a server."""

from __future__ import annotations

import sqlite3
import tarfile
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest
from support.cli import RECIPE, ROOT, config, derived, in_process
from support.stored_run import doctor, simulating

from explore_async.serving.simulated.server import SimulatedServer

pytestmark = pytest.mark.usefixtures("in_this_process")

END = "operation: {report: false}\n"
JOINT = RECIPE.replace("examples: 100", "examples: 24") + END
SEPARATE = f"{JOINT}responses: separate\n"


def rows(run: Path) -> dict[str, str]:
    """The kinds of all stored requests, by key."""
    with closing(sqlite3.connect(run / "completions.sqlite")) as connection:
        return dict(connection.execute("SELECT key, kind FROM outcomes"))


def generated(run: Path) -> list[tuple[str, int]]:
    """The task and the seed of each stored generate request: where two are equal, one was asked for in vain."""
    with closing(sqlite3.connect(run / "completions.sqlite")) as connection:
        found = connection.execute("SELECT task_id, question FROM outcomes WHERE kind = 'generate'").fetchall()
    return [(task, orjson.loads(question)["seed"]) for task, question in found]


class Adopted:
    """A run directory that recipes take over one after another, and the server that it asks."""

    def __init__(self, folder: Path, server: SimulatedServer) -> None:
        self.folder, self.server = folder, server
        self.run = folder / "run"

    def by(self, text: str, *more: str) -> Counter[str]:
        """Runs by this recipe to its end; the requests that were new, by kind. Nothing else is asked."""
        before = rows(self.run) if self.run.exists() else {}
        asked = self.server.statistics().requests
        done = in_process(
            *("run", config(self.folder, text), "--endpoint", self.server.url, "--out", self.run, "--adopt"),
            *("--quiet", "--json", "--concurrency", "8", *more),
        )
        assert done.code == 0, done.stderr
        new = {key: kind for key, kind in rows(self.run).items() if key not in before}
        sent = self.server.statistics().requests - asked
        assert len(new) <= sent <= len(new) + 16  # some try the forms of the recipe, some are in flight at the end
        assert new or not done.json["this_time"]["asked"]
        return Counter(new.values())

    def check_replay(self, text: str) -> None:
        """The doctor finds all files as the completions have it, and nothing asked leads to the same bytes."""
        assert doctor(self.run).code == 0
        before = derived(self.run)
        again = in_process("run", config(self.folder, text), "--out", self.run, "--offline", "--quiet")
        assert again.code == 0, again.stderr
        assert derived(self.run) == before


def dataset(run: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in (run / "dataset.jsonl").read_bytes().splitlines()]


@pytest.mark.parametrize("form", ["json", "text"])
def test_from_joint_to_separate_asks_for_answers_alone(tmp_path: Path, form: str) -> None:
    """Tree and instructions of a joint run serve, each generate request by its joint form, also where it shows examples of
    the task above; the rows have answers of their own. Only what the joint run had no need of is generated. Back to joint,
    and to separate again, nothing is asked.
    """
    joint, separate = (f"{text}answer_format: {form}\n" for text in (JOINT, SEPARATE))
    with simulating() as server:
        run = Adopted(tmp_path, server)
        first = run.by(joint)
        by_joint = derived(run.run)
        asked = generated(run.run)
        assert {*run.by(separate)} <= {"answer", "generate"}
        assert len(asked) == first["generate"] > 5
        assert len({*generated(run.run)}) == len(generated(run.run))
        by_separate = derived(run.run)
        run.check_replay(separate)
        kinds = rows(run.run)
        answered = dataset(run.run)
        assert len(answered) == 24
        assert {(kinds[row["instruction_request"]], kinds[row["request"]]) for row in answered} == {
            ("generate", "answer")
        }
        kept = in_process("filter", run.run, "--out", tmp_path / "out")
        assert not kept.code, kept.stderr
        assert {row["id"]: row for row in answered}.items() <= {
            row["id"]: row for row in dataset(tmp_path / "out")
        }.items()
        assert not run.by(joint)
        assert derived(run.run) == by_joint
        assert not run.by(separate)
        assert derived(run.run) == by_separate
        more = run.by(separate, "--max-examples", "36")
        assert set(more) == {"generate", "answer"}
        run.check_replay(separate.replace("examples: 24", "examples: 36"))


def test_another_threshold_or_more_answers_ask_only_what_is_new(tmp_path: Path) -> None:
    """A higher threshold asks for other instructions, a lower one for nothing; with more answers to each instruction those
    that are there stay, with their scores, also where a judge had to be asked again.
    """

    def judged(threshold: int, answers: int) -> str:
        return f"{SEPARATE}judge: {{threshold: {threshold}}}\nanswers_per_instruction: {answers}\n"

    with simulating() as server:
        run = Adopted(tmp_path, server)
        run.by(judged(2, 1))
        one = {row["id"]: row for row in dataset(run.run)}
        assert run.by(judged(3, 1))["answer"] > 0
        run.check_replay(judged(3, 1))
        assert not run.by(judged(2, 1))
        assert {row["id"]: row for row in dataset(run.run)} == one
        new = run.by(judged(2, 3))
        assert {*new} <= {"answer", "judge", "generate"}
        three = {row["id"]: row for row in dataset(run.run)}
        both = one.keys() & three.keys()
        assert len(both) > 10
        for name in both:
            (same,) = (answer for answer in three[name]["answers"] if answer["request"] == one[name]["request"])
            assert same["scores"] == one[name]["scores"]
        run.check_replay(judged(2, 3))
        instructions = len({row["instruction"] for row in three.values()})
        assert new["answer"] < 3 * instructions


@pytest.mark.parametrize("name", ["plain", "two-domains"])
def test_a_run_by_earlier_rules_gets_answers_of_their_own(tmp_path: Path, name: str) -> None:
    """A joint run of an earlier version goes on by its own rules: its completions serve, in JSON and in marked text."""
    with tarfile.open(ROOT / "tests" / "earlier_runs" / f"{name}.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    folder = tmp_path / name
    text = (folder / "config.yaml").read_text().replace("generate: other", "generate: simulated")
    with simulating() as server:
        run = Adopted(folder, server)
        asked = generated(run.run)
        new = run.by(f"{text}responses: separate\n")
    assert {*new} <= {"answer", "generate"}
    assert new["answer"] >= len(dataset(run.run)) > 20
    assert len({*generated(run.run)}) == len(generated(run.run)) == len(asked) + new["generate"]
