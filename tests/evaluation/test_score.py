"""`score`: the real command line and library, against math-verify itself."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from blockbuster import BlockBuster
from support.cli import Finished, in_process

import explore_async as ea
from explore_async.cli.score import lines_of
from explore_async.curation.collections.open import open_collection
from explore_async.evaluation import maths_equality
from explore_async.evaluation.maths_equality import MathsEquality
from explore_async.evaluation.maths_questions import answers_to, questions_in

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("math_verify") is None, reason="the extra maths is missing: `make` installs it"
)


@pytest.fixture(autouse=True)
def _files_on_the_loop(blockbuster: BlockBuster) -> None:
    blockbuster.deactivate()  # files are read, and processes begin, when nothing else goes on there


@pytest.fixture(autouse=True)
def _one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes a second of the processor to load sympy."""
    monkeypatch.setattr(maths_equality, "_MOST_PROCESSES", 1)


HARD: list[tuple[str, str, bool]] = [
    # fractions and decimals
    (r"\frac{1}{2}", "0.5", True),
    (r"\frac12", r"\dfrac{2}{4}", True),
    (r"\frac{3}{4}", "75/100", True),
    (r"1\frac{1}{2}", r"\frac{3}{2}", True),
    (r"\frac{1}{3}", "0.33", False),
    ("0.1", ".1", True),
    ("1000000", r"1{,}000{,}000", True),
    ("12345", "12,345", True),
    ("-7", r"{-7}", True),
    # roots, powers, constants
    (r"\sqrt{8}", r"2\sqrt{2}", True),
    (r"\frac{\sqrt{3}}{3}", r"\frac{1}{\sqrt{3}}", True),
    (r"2^{10}", "1024", True),
    (r"3\pi", r"\pi \cdot 3", True),
    (r"\frac{\pi}{6}", r"\frac{\pi}{3}", False),
    # units, signs, percent
    (r"5", r"5\text{ cm}", True),
    ("30", r"30^\circ", True),
    (r"\$18", "18", True),
    (r"28\%", "28", True),
    ("0.28", "28", False),
    # algebra
    ("(x+1)^2", "x^2+2x+1", True),
    ("x^2-1", "(x-1)(x+1)", True),
    ("2-2p", "2(1-p)", True),
    ("y=2x+3", "y = 3 + 2x", True),
    ("x=5", "5", True),
    ("x+1", "x+2", False),
    # sets, tuples, intervals, matrices
    (r"\{1,2,3\}", r"\{3,1,2\}", True),
    ("1,2,3", r"\{1, 2, 3\}", True),
    (r"\{1,2\}", r"\{1,3\}", False),
    ("(1,2)", r"\left( 1, 2 \right)", True),
    ("(1,2)", "(2,1)", False),
    ("[0,1)", r"\left[0, 1\right)", True),
    ("[0,1)", "[0,1]", False),
    (r"(-\infty, 2) \cup (3, \infty)", r"(3,\infty)\cup(-\infty,2)", True),
    (r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", True),
    # oddities of LaTeX and words
    (r"\text{Evelyn}", r"\text{Evelyn}", True),
    (r"\text{(B)}", r"\text{(A)}", False),
    (r"\mathrm{e}^2", "e^2", False),  # a reader says yes
    (r"\left\lfloor 3.7 \right\rfloor", "3", True),
    ("1 + 2i", "2i+1", True),
    (r"10!", "3628800", True),
]
"""A reference, an answer, and whether they mean the same."""


def write(path: Path, values: list[dict[str, Any]]) -> Path:
    path.write_bytes(b"".join(orjson.dumps(value) + b"\n" for value in values))
    return path


def itself(reference: str, text: str) -> bool:
    """The verdict of math-verify; its limits of time are signals, which this process needs for itself."""
    from math_verify import parse, verify

    both = (parse(one, parsing_timeout=None) for one in (reference, text))
    return bool(verify(*both, timeout_seconds=None))


async def test_hard_equivalences_against_math_verify_itself() -> None:
    """The answer of a text is read and compared as math-verify does, in its own processes: the same verdict for each
    pair, which but once is the one that a reader gives. Of several boxes the last counts, whatever stood before.
    """
    async with MathsEquality() as equality:
        for reference, answer, wanted in HARD:
            boxed = f"\\boxed{{{reference}}}", f"So it is $\\boxed{{{answer}}}$."
            assert itself(*boxed) == wanted, (reference, answer)
            assert await equality.equal(*boxed) == wanted, (reference, answer)
        assert await equality.equal(r"\boxed{2}", r"First \boxed{1}, then \boxed{2}.")
        assert not await equality.equal(r"\boxed{1}", r"First \boxed{1}, then \boxed{2}.")
        assert await equality.equal(r"\boxed{18}", "She makes 9 * 2 = $18 every day.\n#### 18")
        assert await equality.equal(r"\boxed{1/2}", "Half of it. The answer is 0.5.")


async def test_a_comparison_without_an_end_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that hangs where no signal reaches it is replaced, and the next pair has its verdict. What was not
    decided is told apart from what differs.
    """
    monkeypatch.setattr(maths_equality, "_PAIR_S", 2.0)
    async with MathsEquality() as equality:
        assert await equality.equal(r"\boxed{3}", r"\boxed{4-1}")
        endless = r"\boxed{9^{9^{9^{9}}}}"
        assert not await equality.equal(r"\boxed{1}", endless)
        assert equality.is_undecided(r"\boxed{1}", endless)
        assert await equality.equal(r"\boxed{1}", r"\boxed{2-1}")
        assert not equality.is_undecided(r"\boxed{1}", r"\boxed{2-1}")


QUESTIONS = [
    {"problem": "2 + 2?", "solution": r"It is \boxed{4}.", "level": "Level 1", "type": "Algebra"},
    {"problem": "Half?", "solution": r"It is \boxed{\frac{1}{2}}.", "level": "Level 2", "type": "Algebra"},
    {"problem": "Root?", "solution": r"It is \boxed{2\sqrt{2}}.", "level": "Level 2", "type": "Number Theory"},
    {"problem": "Unknown?", "solution": "", "level": "Level 2", "type": "Number Theory"},
]


def several(instruction: str, *outputs: str) -> dict[str, Any]:
    return {"instruction": instruction, "output": outputs[0], "answers": [{"output": output} for output in outputs]}


def score(*arguments: str | Path) -> Finished:
    done = in_process("score", *arguments)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_the_figures_of_two_models(tmp_path: Path) -> None:
    """Accuracy, exact match, maj@k and pass@k of four samples come out as counted, in all and by level and type; samples
    that are missing are wrong; the second model is compared with the first by the same questions. The evidence has each
    sample, a table is for people, and the library returns the same.
    """
    questions = write(tmp_path / "questions.jsonl", QUESTIONS)
    first = write(
        tmp_path / "first.jsonl",
        [
            several("2 + 2?", r"\boxed{4}", "The answer is 4.", r"\boxed{5}", r"\boxed{4.0}"),
            several("Half?", r"\boxed{0.5}", r"\boxed{2}", r"\boxed{2}", "Nobody knows."),
            several("Unknown?", r"\boxed{1}"),
            several("Another?", r"\boxed{1}"),
        ],
    )
    second = write(tmp_path / "second.jsonl", [several("Root?", r"\boxed{\sqrt 8}")])
    evidence = tmp_path / "evidence.jsonl"
    done = score(first, second, "--questions", questions, "--json", "--out", evidence)
    assert done.code == 0, done.stderr
    assert (done.json["questions"], done.json["without_reference"]) == (3, 1)
    one, other = done.json["answers"]
    assert (one["samples"], one["unanswered"], one["undecided"], one["other_rows"]) == (4, 4, 0, 2)
    assert one["accuracy"]["value"] == round((3 + 1) / 12, 4)
    assert one["exact_match"]["value"] == round((1 + 1) / 12, 4)
    assert one["maj"]["4"]["value"] == round(1 / 3, 4)
    assert one["pass"]["4"]["value"] == round(2 / 3, 4)
    assert one["by"]["level"]["Level 1"]["accuracy"]["value"] == 3 / 4
    assert one["by"]["type"]["Number Theory"]["accuracy"]["value"] == 0
    assert (other["samples"], other["accuracy"]["value"], other["exact_match"]["value"]) == (1, round(1 / 3, 4), 0)
    assert "maj" not in other
    assert other["less_first"]["value"] == 0
    assert "2 rows answer none of the questions" in done.stderr
    rows = [orjson.loads(line) for line in evidence.read_bytes().splitlines()]
    assert len(rows) == 6
    assert [sample["kind"] for sample in rows[0]["samples"]] == [0, 0, 1, 0]
    assert rows[1]["reference"] == r"\frac{1}{2}"
    assert rows[2]["samples"] == [{"answer": None, "right": False, "exact_match": False, "kind": None}] * 4
    result = ea.score_sync(questions, [first, second])
    assert result.document()["answers"] == done.json["answers"]
    people = "\n".join(lines_of(result))
    for words in ("maj@4", "pass@4", "level Level 2", "second minus first: accuracy +0.0%", "exact match"):
        assert words in people


def test_references_of_gsm8k_and_of_a_column(tmp_path: Path) -> None:
    """The answer behind #### is the reference, or a column with a text or a number; groups are those of any column."""
    rows = [
        {"question": f"{n} + {n}?", "answer": f"Twice.\n#### {2 * n}", "key": 2 * n, "kind": n % 2} for n in (1, 2, 3)
    ]
    questions = write(tmp_path / "questions.jsonl", rows)
    answers = write(
        tmp_path / "answers.jsonl", [{"question": f"{n} + {n}?", "answer": f"So it is {2 * n}."} for n in (1, 2)]
    )
    done = score(answers, "--questions", questions, "--by", "kind", "--reference", "key")
    assert done.code == 0, done.stderr
    total, *groups = [line.split() for line in done.stdout.splitlines()[1:]]
    assert total[:3] == ["answers", "3", "66.7%"]
    assert [line[:3] for line in groups] == [["kind", "0", "1"], ["kind", "1", "2"]]
    in_column, behind_hashes = (
        questions_in(open_collection(questions), reference=name, by=None).found for name in ("key", None)
    )
    assert [one.reference for one in in_column] == [one.reference for one in behind_hashes] == ["2", "4", "6"]


def test_a_row_that_is_there_twice_is_told(tmp_path: Path) -> None:
    """The question of which there are more answers than of the others is named, as it makes as many expected of each;
    nothing is said where all have as many, or where only some are missing.
    """
    questions = write(tmp_path / "questions.jsonl", QUESTIONS)
    rows = [{"problem": "2 + 2?", "output": r"\boxed{4}"}, {"problem": "Half?", "output": "1/2"}]
    sets = [open_collection(write(tmp_path / f"{n}.jsonl", rows + rows[:n])) for n in (0, 1)]
    asked = questions_in(open_collection(questions), reference=None, by=None).found
    assert [answers_to(asked, one, by_number=True).most for one in sets] == [None, 0]
    whole = open_collection(write(tmp_path / "whole.jsonl", rows * 2))
    assert answers_to(asked[:2], whole, by_number=True).most is None
    twins = [{"id": name, "problem": "Which?", "answer": name} for name in ("a", "b")]
    asked = questions_in(open_collection(write(tmp_path / "twins.jsonl", twins)), reference=None, by=None).found
    found = answers_to(asked, open_collection(write(tmp_path / "reversed.jsonl", twins[::-1])), by_number=False)
    assert (found.texts, found.most) == ([["a"], ["b"]], None)  # equal questions meet by the ids of their files
    twins = [{"problem": "Which?", "answer": name} for name in ("a", "b")]
    asked = questions_in(open_collection(write(tmp_path / "bare.jsonl", twins)), reference=None, by=None).found
    shifted = open_collection(write(tmp_path / "shifted.jsonl", [{"problem": "Another?", "answer": "c"}, *twins]))
    assert answers_to(asked, shifted, by_number=False).texts == [["a"], ["b"]]  # without ids in their order
    done = score(tmp_path / "1.jsonl", "--questions", questions, "--json")
    assert "the question 0-0, '2 + 2?', has 2 answers, so as many are expected to each" in done.stderr
    assert done.json["answers"][0]["most_answered"] == "0-0"


def test_numbers_are_references_and_answers_as_they_are(tmp_path: Path) -> None:
    """Of any size, in any column: as the row's answer, and in a column that --reference names, be it that of the answer
    too, in rows with a number and in rows with a text. The same questions can be answered and judged.
    """
    large = 123456789012345678901
    rows = [{"problem": "One?", "answer": large}, {"problem": "Two?", "answer": 25, "input": 7}]
    rows += [{"problem": "Three?", "answer": "26"}, {"problem": "Four?", "answer": 0.5}]
    file = write(tmp_path / "questions.jsonl", [])
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    for reference in (None, "answer"):
        found = questions_in(open_collection(file), reference=reference, by=None).found
        assert [(one.key, one.reference) for one in found] == [
            (("One?", ""), str(large)), (("Two?", "7"), "25"), (("Three?", ""), "26"), (("Four?", ""), "0.5"),
        ]  # fmt: skip
    answers = write(tmp_path / "answers.jsonl", [{"problem": "One?", "output": f"It is \\boxed{{{large}}}."}])
    evidence = tmp_path / "evidence.jsonl"
    done = score(answers, "--questions", file, "--reference", "answer", "--json", "--out", evidence)
    assert (done.code, done.json["answers"][0]["accuracy"]["value"]) == (0, 0.25), done.stderr
    assert orjson.loads(evidence.read_bytes().splitlines()[0])["reference"] == str(large)
    imported = in_process("import", file, "--out", tmp_path / "imported")
    assert imported.code == 0, imported.stderr
    outputs = [
        orjson.loads(line)["output"] for line in (tmp_path / "imported" / "dataset.jsonl").read_bytes().splitlines()
    ]
    assert outputs == [str(large), "25", "26", "0.5"]


def test_what_cannot_be_scored_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bad input gets a message and an exit code, and a file that is read is not replaced."""
    questions = write(tmp_path / "questions.jsonl", QUESTIONS)
    others = write(tmp_path / "others.jsonl", [{"instruction": "Other?", "output": "1"}])
    empty = write(tmp_path / "empty.jsonl", [{"instruction": "2 + 2?", "output": ""}])
    for arguments, code, words in (
        ((others, "--questions", questions), 5, "it answers none of the questions"),
        ((others, "--questions", empty), 5, "no row has a reference answer"),
        ((others, "--questions", questions, "--reference", "gold"), 2, "--reference gold: no row"),
        ((others, "--questions", questions, "--by", "year"), 2, "--by year: no row"),
        ((others, "--questions", questions, "--out", tmp_path / "o.csv"), 2, "does not write CSV"),
        ((others, "--questions", questions, "--out", questions), 2, "it is a source"),
        ((others, "--questions", tmp_path / "none.jsonl"), 5, "there is no such run directory or file"),
    ):
        done = score(*arguments)
        assert (done.code, words in done.stderr) == (code, True), (arguments, done)
    monkeypatch.setitem(sys.modules, "math_verify", None)
    done = score(others, "--questions", questions)
    assert (done.code, "pip install 'explore-async[maths]'" in done.stderr) == (2, True), done
