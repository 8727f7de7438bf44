"""The experiment of examples/explore_lm: its steps go on after a kill, and its tables have the figures of the steps.

The commands themselves are scripted here: they have tests of their own, and training needs torch.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from support.cli import ROOT

from explore_async.config.load import load

EXAMPLE = ROOT / "examples" / "explore_lm"
LOSS = {"base": 2.0, "self_instruct": 1.9, "explore_instruct": 1.6, "adaptive": 1.85}
"""Of the models of seed 0; a seed adds a hundredth, and to adaptive's a tenth."""


class Commands:
    """Stands for the processes of the driver: says what each command prints, and has a list of those that ran."""

    def __init__(self, program: ModuleType) -> None:
        self.stopped = program.Stopped
        self.ran: list[list[str]] = []
        self.fails = ""
        self.rows = 100

    def last_line(self, words: list[str]) -> str:
        self.ran.append(words)
        name = "bench_coverage" if "bench_coverage" in words[1] else words[3]
        if name == self.fails:
            raise self.stopped("code 1")
        return json.dumps(getattr(self, name)(words))

    def bench_coverage(self, words: list[str]) -> dict[str, Any]:
        arms = words[words.index("--arms") + 1 : words.index("--endpoint")]
        return {"rows": [{"arm": arm, "kept": [10 + place] * 3} for place, arm in enumerate(arms)]}

    def decontaminate(self, words: list[str]) -> dict[str, Any]:
        return {}

    def sample(self, words: list[str]) -> dict[str, Any]:
        Path(option(words, "--out")).write_text("{}\n" * min(self.rows, int(option(words, "--size"))))
        return {}

    train = answer = decontaminate

    def likelihood(self, words: list[str]) -> dict[str, Any]:
        models = [words[place + 1] for place, word in enumerate(words) if word == "--model"]
        losses = [loss_of(model) for model in models]
        less = [{"loss": figure(loss - losses[0])} for loss in losses[1:]]
        return {"rows": 20, "models": [{"loss": figure(loss)} for loss in losses], "comparisons": less}

    def judge(self, words: list[str]) -> dict[str, Any]:
        rate = {"value": 0.75, "low": 0.6, "high": 0.9}
        none_won = "adaptive" in words[4]
        standing = {"win": 12, "tie": 6, "lose": 2, "invalid": 1, "win_rate": rate, "beat_rate": rate}
        return {"figures": {"standing": standing | ({"beat_rate": None} if none_won else {})}}

    def score(self, words: list[str]) -> dict[str, Any]:
        accuracy = {"value": 0.05, "low": 0.0, "high": 0.2}
        first = {"accuracy": accuracy, "unanswered": 3}
        less = {"value": 0.0, "low": -0.1, "high": 0.1}
        return {"answers": [first, *([{**first, "less_first": less}] * 3)]}


def option(words: list[str], name: str) -> str:
    return words[words.index(name) + 1]


def loss_of(model: str) -> float:
    """By the path of a model: seed-S/STRATEGY/model, or the untrained one."""
    if not model.endswith("/model"):
        return LOSS["base"]
    seed, strategy = Path(model).parts[-3:-1]
    return LOSS[strategy] + int(seed.removeprefix("seed-")) * (0.1 if strategy == "adaptive" else 0.01)


def figure(value: float) -> dict[str, Any]:
    return {"value": value, "interval": [value - 0.05, value + 0.05]}


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    import run

    return run


@pytest.fixture
def commands(program: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Commands:
    commands = Commands(program)
    monkeypatch.setattr(program, "last_line", commands.last_line)
    return commands


@pytest.fixture
def experiment(program: ModuleType, tmp_path: Path) -> Callable[..., Any]:
    """The example's own config, with servers that run already."""
    config = yaml.safe_load((EXAMPLE / "config.yaml").read_text(encoding="utf-8"))
    for role in ("generator", "student", "judge"):
        config[role] = {"endpoint": "http://localhost:1/v1", "model": "small"}

    def made(**changed: Any) -> Any:
        return program.Experiment({**config, **changed}, EXAMPLE / config["questions"], tmp_path / "out")

    return made


def test_a_step_runs_once_and_leaves_nothing_where_it_fails(
    program: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A real process: its last line is the file, and those before are shown; with the file there the command is not even
    made.
    """
    result = tmp_path / "a" / "b.json"
    with pytest.raises(program.Stopped, match="code 3"):
        program.step(result, lambda: [sys.executable, "-c", "print('{}'); raise SystemExit(3)"])
    assert not result.exists()
    program.step(result, lambda: [sys.executable, "-c", "print('a line'); print('{\"a\": 1}')"])
    assert json.loads(result.read_bytes()) == {"a": 1}
    assert capfd.readouterr().out.endswith("a/b\na line\n")
    program.step(result, lambda: pytest.fail("it is there"))


def test_a_server_is_stopped_with_what_it_started(program: ModuleType, tmp_path: Path) -> None:
    """A server comes up when it is first asked for, and is gone afterwards; one that ends at once, or is no program, is
    told.
    """
    (tmp_path / "v1").mkdir()
    (tmp_path / "v1" / "models").write_text("")
    config = {
        "judge": {"serve": f"{sys.executable} -m http.server {{port}} --bind 127.0.0.1 --directory {tmp_path}"},
        "student": {"serve": f"{sys.executable} -c pass"},
        "generator": {"serve": "no-such-program"},
    }
    experiment = program.Experiment({**config, "strategies": []}, EXAMPLE / "questions.jsonl", tmp_path)
    with experiment._server("judge") as url:
        assert not (tmp_path / "servers.log").exists()
        assert program.urllib.request.urlopen(url() + "/models").status == 200
    with pytest.raises(OSError):
        program.urllib.request.urlopen(url() + "/models")
    for role in ("student", "generator"):
        with pytest.raises(program.Stopped, match="did not start"), experiment._server(role, "m") as url:
            url()


def test_nothing_outlives_an_experiment_that_is_killed() -> None:
    """After kill -9 the server and the command of the step end, too, so that the same command finds nothing in use:
    nobody holds their standard error any more.
    """
    busy = "import sys, time; print('here', file=sys.stderr, flush=True); time.sleep(3600)"
    words = f"[sys.executable, '-c', {busy!r}]"
    script = f"import sys, run, pathlib; run.serve({words}, pathlib.Path('/dev/stderr')); run.last_line({words})"
    paths = os.pathsep.join([str(EXAMPLE), str(ROOT), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(
        [sys.executable, "-c", script], stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": paths}
    ) as experiment:
        assert experiment.stderr is not None
        assert [experiment.stderr.readline() for _ in range(2)] == [b"here\n"] * 2
        experiment.kill()
        assert experiment.stderr.read() == b""


def test_what_was_done_is_not_done_again(experiment: Callable[..., Any], commands: Commands, tmp_path: Path) -> None:
    """Stopped at any kind of command, the experiment goes on with that one; at the end nothing runs again; a seed that is
    added runs alone; each command is one of a whole pass; other settings are refused.
    """
    done: list[list[str]] = []
    for command in ("bench_coverage", "sample", "train", "likelihood", "judge", "score"):
        commands.fails, commands.ran = command, []
        with pytest.raises(Exception, match="code 1"):
            experiment(seeds=[0]).run()
        done += commands.ran[:-1]
    commands.fails, commands.ran = "", []
    experiment(seeds=[0]).run()
    done += commands.ran
    assert len(done) == 1 + 1 + 3 * 4 + 1 + 3 + 1
    assert len({tuple(words) for words in done}) == len(done)
    before = (tmp_path / "out" / "results.md").read_bytes()
    commands.ran = []
    experiment(seeds=[0]).run()
    assert commands.ran == []
    assert (tmp_path / "out" / "results.md").read_bytes() == before
    experiment(seeds=[0, 1]).run()
    assert len(commands.ran) == len(done) - 1  # the untrained model has answered
    assert "mathematics" in (tmp_path / "out" / "results.md").read_text(encoding="utf-8")
    with pytest.raises(Exception, match=r"other settings \(budget\)"):
        experiment(budget=1).run()


def test_too_few_rows_cost_nothing(experiment: Callable[..., Any], program: ModuleType, commands: Commands) -> None:
    """Before a model is trained it stops. With fewer rows, or a higher budget, it goes on in the same folder, from the
    steps that this changes; a lower budget is refused, and any change once there is a model.
    """
    commands.rows = 3
    with pytest.raises(program.Stopped, match="3 rows for the budget, and 4 are wanted"):
        experiment(rows=4, budget=1000).run()
    with pytest.raises(program.Stopped, match=r"other settings \(budget, rows\)"):
        experiment(rows=3, budget=999).run()
    commands.ran, commands.rows, commands.fails = [], 4, "train"
    with pytest.raises(program.Stopped):
        experiment(rows=4, budget=2000).run()
    assert [option(words, "--budget") for words in commands.ran if "--budget" in words] == ["2000"] * 3
    assert len(commands.ran) == 3 + 3 * 3 * 2 + 1
    folder = experiment().out / "seed-0" / "self_instruct" / "model"
    folder.mkdir()
    with pytest.raises(program.Stopped, match=r"other settings \(rows\)"):
        experiment(rows=3, budget=2000).run()


def test_a_folder_of_something_else_is_refused(
    experiment: Callable[..., Any], program: ModuleType, commands: Commands, tmp_path: Path
) -> None:
    """Before anything runs: a folder with other files, which stay as they are, and a folder within a run."""
    (tmp_path / "out").mkdir()
    other = tmp_path / "out" / "thesis.txt"
    other.write_text("words")
    with pytest.raises(program.Stopped, match="something else"):
        experiment().run()
    assert list((tmp_path / "out").iterdir()) == [other]
    other.unlink()
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(program.Stopped, match="run or data directory"):
        experiment().run()
    assert commands.ran == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a: [", "config.yaml"),
        ("- 1", "no settings"),
        ("seeds: [0]", "missing: budget"),
        ("{config}\nrow: 3", "unknown: row$"),
        ("{config}\noptions: {{trains: --steps 1}}", "unknown in options: trains"),
        ("{config}\nquestions: none.jsonl", "there is no file"),
    ],
)
def test_a_config_with_a_fault_is_told(program: ModuleType, tmp_path: Path, text: str, fault: str) -> None:
    """Not YAML, no settings, one missing or unknown, no questions: the message names it."""
    path = tmp_path / "config.yaml"
    (tmp_path / "questions.jsonl").write_text("")
    path.write_text(text.format(config=(EXAMPLE / "config.yaml").read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(program.Stopped, match=fault):
        program.load(path)
    with pytest.raises(program.Stopped, match="No such file"):
        program.load(tmp_path / "none.yaml")


def test_the_tables_have_the_figures_of_the_steps(
    experiment: Callable[..., Any], commands: Commands, tmp_path: Path
) -> None:
    """Means and intervals of three seeds as by hand. A difference that all seeds have is told from noise, and one that
    changes from seed to seed, or is of one seed, is not.
    """
    experiment(seeds=[0]).run()
    one = json.loads((tmp_path / "out" / "results.json").read_bytes())
    assert one["likelihood"]["explore_instruct"]["less_baseline"]["told_from_noise"] is False
    experiment(seeds=[0, 1, 2]).run()
    found = json.loads((tmp_path / "out" / "results.json").read_bytes())
    assert found["seeds"] == [0, 1, 2]
    assert found["data"]["adaptive"]["kept"]["mean"] == 12
    loss = found["likelihood"]
    assert loss["self_instruct"]["loss"]["mean"] == pytest.approx(1.91)
    explore, adaptive = (loss[name]["less_baseline"] for name in ("explore_instruct", "adaptive"))
    assert explore["mean"] == pytest.approx(-0.3)
    assert explore["over_seeds"] == pytest.approx([-0.3, -0.3])
    assert explore["over_questions"] == pytest.approx([-0.35, -0.25])
    assert explore["told_from_noise"] is True
    # -0.05, 0.04, 0.13: the standard deviation is 0.09, and 4.303 × 0.09 / √3 = 0.2236
    assert adaptive["over_seeds"] == pytest.approx([0.04 - 0.2236, 0.04 + 0.2236], abs=1e-4)
    assert adaptive["told_from_noise"] is False
    judged = found["judge"]["explore_instruct against self_instruct"]
    assert judged["win_rate"]["told_from_noise"] is True
    assert found["judge"]["adaptive against self_instruct"]["beat_rate"] is None
    assert found["mathematics"]["untrained"]["less_baseline"]["told_from_noise"] is False
    text = (tmp_path / "out" / "results.md").read_text(encoding="utf-8")
    assert "| explore_instruct | 1.610 (1.600 to 1.620) | -0.300 | -0.350 to -0.250 | -0.300 to -0.300 | yes |" in text
    assert (
        "| 12 : 6 : 2 (1); 12 : 6 : 2 (1); 12 : 6 : 2 (1) | 0.75 | 0.75 | 0.60 to 0.90 | 0.75 to 0.75 | yes |" in text
    )


def test_the_config_and_the_questions_are_fit(tmp_path: Path) -> None:
    """The domain loads with each strategy, no question is in it, and references stand in the answers of people."""
    config = yaml.safe_load((EXAMPLE / "config.yaml").read_text(encoding="utf-8"))
    (tmp_path / "domain.yaml").write_text(yaml.safe_dump(config["domain"]))
    for strategy in config["strategies"]:
        load(str(tmp_path / "domain.yaml"), ["targets={token_budget: 1}", f"exploration.strategy={strategy}"])
    questions = [json.loads(line) for line in (EXAMPLE / config["questions"]).read_text(encoding="utf-8").splitlines()]
    assert len({question["instruction"] for question in questions}) == len(questions) >= 20
    for question in questions:
        assert question["output"].endswith(f"The answer is {question['reference']}.")
        assert question["instruction"] not in str(config["domain"])
