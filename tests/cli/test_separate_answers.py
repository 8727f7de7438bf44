"""What a user sees of a run in which each instruction gets answers of its own and a judge scores them."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
import yaml
from blockbuster import BlockBuster
from pyarrow import parquet
from support.cli import Finished, in_process
from support.stored_run import serving

from explore_async import analyze
from explore_async.curation.collections.conversations import REASONING
from explore_async.curation.trainer_formats import SHAPES
from explore_async.exploration.parsing import AnswerDraft, parse_answer, thoughts_of
from explore_async.exploration.values import Completion
from explore_async.running.observer import Snapshot, awaited
from explore_async.running.performer import HeadOfLine
from explore_async.settings.run_settings import RunSettings
from explore_async.storage.completions import read_stored
from explore_async.web import reading

CONFIG = """
name: test
domains:
  - name: Look after a garden
    system: Answer in the manner of a gardener.
exploration: {depth: 1, breadth: [2]}
generation: {per_request: 4}
responses: separate
answers_per_instruction: 2
judge: {threshold: 3, aspects: {correct: the facts are right, polite: the tone is polite}}
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


@pytest.mark.parametrize("turns", [1, 2])
def test_a_system_prompt_needs_separate_responses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blockbuster: BlockBuster, turns: int
) -> None:
    """With joint responses the first answers know nothing of it, and no row has it: such a run does not begin, nor begin
    again with --fresh, and the dry run says so. A run of a version that let it begin goes on with the same bytes.
    """
    blockbuster.deactivate()  # a run opens and closes its files on the loop
    path, run = tmp_path / "config.yaml", tmp_path / "run"
    recipe = "domains: [{name: Garden, system: Be brief.}]\nexploration: {depth: 0}\ntargets: {examples: 2}\n"
    path.write_text(f"{recipe}turns: {turns}\noperation: {{report: false}}\n")
    command = ("run", path, "--out", run, "--quiet", "--endpoint")
    nobody = "http://127.0.0.1:1/v1"
    refused = in_process(*command, nobody)
    assert (refused.code, run.exists()) == (2, False)
    assert "domains.0.system: only answers" in refused.stderr
    assert "domains.0.system" in in_process("run", path, "--dry-run", "--json").json["warnings"][0]
    with serving() as url, monkeypatch.context() as earlier:
        earlier.setattr(RunSettings, "unused_systems", lambda _settings: [])
        assert in_process(*command, url).code == 0
    before = (run / "dataset.jsonl").read_bytes()
    assert in_process(*command, nobody).code == 0
    assert (run / "dataset.jsonl").read_bytes() == before
    assert in_process(*command, nobody, "--fresh").code == 2


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
    low = stats["examples"]["dropped"]["low_score"]
    for words in (
        f"{low} examples dropped by the judge's scores",
        f"instructions {stats['instructions']} new",
        f"answers {verdicts['accepted']} passed",
        "polite ",
    ):
        assert words in summary


def completion_of(run: Path, key: str) -> Completion:
    stored = read_stored(run / "completions.sqlite", key)
    assert stored is not None
    assert isinstance(stored.outcome, Completion)
    return stored.outcome


def test_show_has_all_that_made_an_example(made: tuple[Path, Finished]) -> None:
    """The system prompt, both answers, all scores with the reasons that the judge gave, and the prompts and completions of
    all requests in their order; the JSON has the same.
    """
    run, _ = made
    row = lines(run / "dataset.jsonl")[0]
    steps = [
        line for line in lines(run / "decisions.jsonl") if line.get("id") == row["id"] and line["what"] != "example"
    ]
    shown, document = in_process("show", run, row["id"]), in_process("show", run, row["id"], "--json").json
    assert [line["what"] for line in steps].count("answer") == 2
    place = 0
    for line, step in zip(steps, document["steps"], strict=True):
        assert line.items() <= step.items()
        text = completion_of(run, line["request"]).text
        assert step["asked"]["completion"]["text"] == text
        place = shown.stdout.index(f"request  {line['request']}", place)
        assert text in shown.stdout[place:]
        if line["what"] == "scores":
            assert step["why"] == orjson.loads(text)["reason"]
            assert f"its reason  {step['why']}" in shown.stdout
    assert "Answer in the manner of a gardener." in shown.stdout
    assert f"correct {row['scores']['correct']}, polite {row['scores']['polite']}" in shown.stdout


def test_what_the_judge_drops_is_listed_once_with_its_scores(made: tuple[Path, Finished]) -> None:
    """`show --dropped low_score` has each such example once, with the texts and the scores of its answers; the counts are
    those of stats.json. `show` and the view have the answer of one, and the view lists the same.
    """
    run, _ = made
    document = in_process("show", run, "--dropped", "low_score", "--json").json
    stats = orjson.loads((run / "stats.json").read_bytes())
    of_tasks, of_examples = (stats[what]["dropped"] for what in ("tasks", "examples"))
    assert document["counts"] == {
        reason: of_tasks.get(reason, 0) + of_examples.get(reason, 0)
        for reason in document["counts"]
    }  # fmt: skip
    assert sum(document["counts"].values()) == of_tasks["total"] + of_examples["total"]
    ids = [row["id"] for row in document["dropped"]]
    assert len(ids) == len(set(ids)) == of_examples["low_score"]
    for row in document["dropped"]:
        for answer in row["answers"]:
            assert answer["reason"] != "low_score" or min(answer["scores"].values()) < 3
    row = next(row for row in document["dropped"] if row["answers"][0]["reason"] == "low_score")
    printed = in_process("show", run, "--dropped", "low_score").stdout
    shown = in_process("show", run, row["id"])
    for answer in row["answers"]:
        assert answer["output"][:50] in printed
    assert row["answers"][0]["output"] in shown.stdout
    assert "dropped: low_score (the judge gave a score below the threshold)" in shown.stdout
    assert reading.evidence(run, row["id"])["draft"]["output"] == row["answers"][0]["output"]
    listed = reading.list_rows(run, "dropped", task="", query="", offset=0)["rows"]
    dropped = [line for line in lines(run / "decisions.jsonl") if line.get("kept") is False]
    expected = [line for line in dropped if line["what"] in {"task", "example"}]
    assert [row["request"] for row in listed] == [line["request"] for line in expected[: len(listed)]]
    kept = reading.list_rows(run, "kept", task="", query="", offset=0)["rows"]
    assert not any("answers" in row for row in kept)


def test_an_instruction_on_its_way(made: tuple[Path, Finished], tmp_path: Path) -> None:
    """While an instruction waits, `show` has it with what it had so far, and says that it waits; a mark finds it."""
    run, _ = made
    row = lines(run / "dataset.jsonl")[-1]
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    decisions = lines(run / "decisions.jsonl")
    so_far = [line for line in decisions if line.get("id") != row["id"] or line["what"] in {"instruction", "answer"}]
    (copy / "decisions.jsonl").write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in so_far))
    (copy / "dataset.jsonl").write_bytes(b"")
    shown = in_process("show", copy, row["id"])
    assert row["instruction"] in shown.stdout
    assert "waits  it is no example yet" in shown.stdout
    assert reading.mark(copy, row["id"], "good", "")["mark"] == "good"


def exported(run: Path, out: Path, *more: str) -> tuple[list[dict[str, Any]], Finished]:
    out.unlink(missing_ok=True)
    result = in_process("export", run, "--out", out, *more)
    assert result.code == 0, result.stderr
    return lines(out), result


def test_exports_have_the_system_prompt(made: tuple[Path, Finished], tmp_path: Path) -> None:
    """As a message of its own, or as the column of Alpaca, in JSON lines and in Parquet; scores where they are kept."""
    run, _ = made
    out, rows, system = tmp_path / "out.jsonl", lines(run / "dataset.jsonl"), "Answer in the manner of a gardener."
    first = rows[0]
    messages = exported(run, out, "--format", "messages", "--keep", "scores")[0]
    assert [row["scores"] for row in messages] == [row["scores"] for row in rows]
    assert messages[0]["messages"][0] == {"role": "system", "content": system}
    assert messages[0]["messages"][2] == {"role": "assistant", "content": first["output"]}
    assert exported(run, out, "--format", "prompt-completion")[0][0]["prompt"][0]["content"] == system
    assert exported(run, out, "--format", "sharegpt")[0][0]["conversations"][0] == {"from": "system", "value": system}
    alpaca, said = exported(run, out, "--format", "alpaca")
    assert alpaca == [
        {**{name: row[name] for name in ("instruction", "input", "output")}, "system": system} for row in rows
    ]
    assert "cuts" not in said.stderr
    for shape in ("rows", "alpaca", "messages"):
        table = tmp_path / f"{shape}.parquet"
        assert in_process("export", run, "--format", shape, "--keep", "scores", "--out", table).code == 0
        (row, *_) = parquet.read_table(table).to_pylist()
        assert row["scores"] == first["scores"]
        assert system in str(row)
        assert shape != "rows" or row == first


def test_all_answers(made: tuple[Path, Finished], tmp_path: Path) -> None:
    """A row for the best answer, and with --all-answers one for each that no score drops, under ids of their own."""
    run, _ = made
    rows = lines(run / "dataset.jsonl")
    passed = [(row, answer) for row in rows for answer in row["answers"] if min(answer["scores"].values()) >= 3]
    best, said = exported(run, tmp_path / "out.jsonl", "--format", "alpaca")
    assert len(best) == len(rows)
    several = sum(count > 1 for count in Counter(row["id"] for row, _ in passed).values())
    assert several
    assert f"with several answers: {several} example" in said.stderr
    every = exported(run, tmp_path / "out.jsonl", "--all-answers")[0]
    expected = Counter((row["instruction"], answer["output"], answer["request"]) for row, answer in passed)
    assert Counter((row["instruction"], row["output"], row["request"]) for row in every) == expected
    assert len({row["id"] for row in every}) == len(every) == len(passed)
    assert {row["id"] for row in rows} <= {row["id"] for row in every}


def test_answers_in_pairs(made: tuple[Path, Finished], tmp_path: Path) -> None:
    """--format preference takes the output and the worst answer by their scores; an example whose output no other
    answer is worse than is left out and counted. The same in Parquet.
    """
    run, _ = made
    rows = lines(run / "dataset.jsonl")
    expected = []
    for row in rows:
        totals = [sum(answer["scores"].values()) for answer in row["answers"]]
        worst = row["answers"][totals.index(min(totals))]
        if min(totals) < sum(row["scores"].values()):
            expected.append((row["output"], worst["output"]))
    assert len(expected) > 0
    pairs, said = exported(run, tmp_path / "out.jsonl", "--format", "preference")
    assert [(pair["chosen"][0]["content"], pair["rejected"][0]["content"]) for pair in pairs] == expected
    assert [message["role"] for message in pairs[0]["prompt"]] == ["system", "user"]
    if left_out := len(rows) - len(expected):
        assert f"{left_out} left out: no other answer has a lower sum of scores" in said.stderr
    assert in_process("export", run, "--format", "preference", "--out", tmp_path / "out.parquet").code == 0
    assert parquet.read_table(tmp_path / "out.parquet").to_pylist() == pairs


def test_thoughts_before_an_answer_go_with_it() -> None:
    """What a model thinks before an answer of plain text is told from it whatever quotes it holds, and it stands in the
    message of the assistant also where there is a system prompt.
    """
    completion = Completion('<think>They say "{" here.</think>\nIn March.', "stop", 1, 1)
    item, thoughts = parse_answer(completion), thoughts_of(completion, None)
    assert isinstance(item, AnswerDraft)
    assert (item.text, thoughts) == ("In March.", 'They say "{" here.')
    example = {"instruction": "When?", "input": "", "output": item.text, "system": "Be short.", REASONING: thoughts}
    assert SHAPES["messages"](example)["messages"] == [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "When?"},
        {"role": "assistant", "content": "In March.", REASONING: thoughts},
    ]


def test_the_card_says_how_answers_and_scores_came_about(made: tuple[Path, Finished], tmp_path: Path) -> None:
    """The models of answers and judge, the aspects, the threshold, the means of the exported scores, and that scores are
    opinions; the judge is no author. `analyze` has the same means.
    """
    run, _ = made
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    for name, changes in (
        ("stats.json", {"simulated": False}),
        ("config.json", {"models": {"answer": "large", "judge": "strict"}}),
    ):
        document = orjson.loads((copy / name).read_bytes())
        document.get("recipe", {}).update(changes)
        (copy / name).write_bytes(orjson.dumps(document if name == "config.json" else document | changes))
    assert in_process("export", copy, "--out", tmp_path / "out", "--format", "messages").code == 0
    card = (tmp_path / "out" / "README.md").read_text()
    rows = lines(run / "dataset.jsonl")
    analysis = analyze(copy)
    for aspect in ("correct", "polite"):
        mean = sum(row["scores"][aspect] for row in rows) / len(rows)
        assert f"| {aspect} | {mean:.2f} |" in card
        assert analysis.document["sets"][0]["scores"][aspect].keys() <= {"3", "4", "5"}
    assert "They were written in English by simulated, large (" in card
    for said in (
        "each in a request of its own, as a user would ask it, by large; 2 to each instruction",
        "| system prompt of the answers | Answer in the manner of a gardener. |",
        "| judge | strict |",
        "polite: the tone is polite",
        "| dropped below | a score of 3 on any of these |",
        "The scores are the opinion of a model (strict)",
    ):
        assert said in card, said
    levels = analysis.document["sets"][0]["levels"]
    scores = [score for row in rows if row["task_id"] == "0" for score in row["scores"].values()]
    assert levels[0]["score"] == pytest.approx(sum(scores) / len(scores))


def test_the_card_of_what_was_done_since(made: tuple[Path, Finished], tmp_path: Path, blockbuster: BlockBuster) -> None:
    """A filter by a higher threshold, new answers and new scores are in the card with their settings."""
    blockbuster.deactivate()  # a run opens and closes its files on the loop
    run, _ = made

    def card(*command: str | Path) -> str:
        assert in_process(*command, "--out", tmp_path / "data").code == 0
        assert in_process("export", tmp_path / "data", "--out", tmp_path / "out").code == 0
        shutil.rmtree(tmp_path / "data")
        text = (tmp_path / "out" / "README.md").read_text()
        return text[text.index("## How it was made") : text.index("## Limitations")]

    assert "| dropped below | a score of 4 on any of these |" in card("filter", run, "--set", "judge.threshold=4")
    with serving() as url:
        options = ("--endpoint", url, "--quiet")
        answered = card("answer", run, *options, "--answers", "2", "--judge")
        rated = card("rate", run, *options, "--threshold", "2")
    assert "| new answers | 2 to each instruction, by simulated |" in answered
    assert "| dropped below | nothing, whatever the score |" in answered
    assert "| dropped below | a score of 2 on any of these |" in rated
    assert "| judge | simulated |" in rated


@pytest.mark.parametrize(("in_flight", "waited_s", "awaited", "is_told"), [
    (8, 1.0, "an answer", False), (7, 1.0, "an answer", True), (8, 4.0, "an answer", True), (8, 1.0, "", True),
])  # fmt: skip
def test_completions_that_wait_beside_full_servers(
    in_flight: int, waited_s: float, awaited: str, is_told: bool
) -> None:
    """Where answers follow instructions, many completions wait for their turn. That holds nothing up while all slots are
    taken and judging goes on.
    """
    head = HeadOfLine("http://a", 1, there_s=1.0, age_s=1.0, waited_s=waited_s)
    seen: Any = SimpleNamespace(
        head=head,
        performer=SimpleNamespace(waiting=50),
        awaited=awaited,
        in_flight=in_flight,
        limit=8,
        check="",
        preparing="",
        endpoints=(),
    )
    held_up: Any = Snapshot.held_up
    assert bool(held_up.fget(seen)) is is_told


@pytest.mark.parametrize(("there", "words"), [
    (1, "1 request at http://a (sent 3 s ago)"), (0, "1 request that waits for a slot (3 s so far)"),
])  # fmt: skip
def test_a_request_between_two_attempts_is_at_no_endpoint(there: int, words: str) -> None:
    """The moment after its endpoint has died, a request waits for another one and is not said to be where it was."""
    seen: Any = SimpleNamespace(
        head=HeadOfLine("http://a", 1, there_s=3.0, age_s=3.0, waited_s=3.0), performer=SimpleNamespace(waiting=50),
        awaited="", in_flight=there, limit=8, check="", preparing="", endpoints=(SimpleNamespace(url="http://a", in_flight=there),),
    )  # fmt: skip
    held_up: Any = Snapshot.held_up
    assert held_up.fget(seen) == f"50 stored completions wait for {words}: completions are judged in order"


@pytest.mark.parametrize(("new", "unfinished", "words"), [
    (68, 11, "68 new instructions, of which 11 wait for an answer or the judge"),
    (1, 1, "1 new instruction, of which 1 waits for an answer or the judge"),
    (0, 60, "60 wait for an answer or the judge"), (68, 0, ""),
])  # fmt: skip
def test_instructions_on_their_way_are_told(new: int, unfinished: int, words: str) -> None:
    """Progress says how many instructions were new, and how many of them wait for what; examples that exist only wait."""
    recipe = RunSettings.model_validate(yaml.safe_load(CONFIG)).resolved(model="m")
    seen: Any = SimpleNamespace(tally=SimpleNamespace(instructions=new), unfinished=unfinished, awaited=awaited(recipe))
    on_the_way: Any = Snapshot.on_the_way
    assert on_the_way.fget(seen) == words


def test_what_rows_have_is_in_parquet(tmp_path: Path, blockbuster: BlockBuster) -> None:
    """The passage that a request showed is a column of each row, and the card names the file."""
    blockbuster.deactivate()  # a run opens and closes its files on the loop
    (tmp_path / "garden.md").write_text("# Water\n\nIn the morning.\n\n# Feed\n\nIn spring.\n")
    text = "domains: [{name: Garden, files: [garden.md]}]\nexploration: {depth: 0}\ntargets: {examples: 4}\n"
    (tmp_path / "config.yaml").write_text(text + "operation: {report: false}\n")
    run = tmp_path / "run"
    with serving() as url:
        assert in_process("run", tmp_path / "config.yaml", "--endpoint", url, "--out", run).code == 0
    assert in_process("export", run, "--out", tmp_path / "out").code == 0
    rows = parquet.read_table(tmp_path / "out" / "data" / "train.parquet").to_pylist()
    assert rows == lines(run / "dataset.jsonl")
    assert rows[0]["passage"].startswith("garden.md#")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| passages shown in the prompts | garden.md |" in card
