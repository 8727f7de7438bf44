"""The paper's experiment from one config: data by several strategies at equal cost, a model trained on each, figures.

    python examples/explore_lm/run.py examples/explore_lm/config.yaml --out runs/explore-lm

Each step is a command of the command line, and its JSON object a file: a step whose file is there is skipped, so the
same command goes on after a kill. The data of all seeds comes first; then, seed by seed, models and figures, with all
tables after each. More seeds may be added later.

    OUT/runs/domain/STRATEGY/SEED         the runs, at equal cost (benchmarks/bench_coverage.py)
    OUT/base/                             the answers of the untrained model
    OUT/seed-S/STRATEGY/                  rows, the trained model, its answers
    OUT/seed-S/judge-A-B/                 verdicts of each pair
    OUT/results.json, OUT/results.md      all figures; the tables
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import yaml
from tables import markdown, results

from explore_async.curation.collections.run_data import is_run_data
from explore_async.serving.servers.supervisor import end_with_parent

ROOT = Path(__file__).resolve().parents[2]
SERVER_START_S = 600.0
NEEDED = frozenset(
    {"seeds", "strategies", "questions", "budget", "rows", "generator", "student", "judge", "options", "domain"}
)
COMMANDS = frozenset({"generate", "train", "answer", "judge"})
"""The commands that `options` may name."""
GROWS = "seeds"
"""The setting that may change between two calls."""
OF_DATA = frozenset({"budget", "rows"})
"""Settings that may change until a model is trained, the budget to a higher one: runs go on."""
STEPS_OF_DATA = ("seed-*/coverage.json", "seed-*/*/clean.json", "seed-*/*/rows.json")
"""The results that they change."""
BEGAN = "experiment.json"
PART = ".part"


class Stopped(Exception):
    """The experiment cannot go on; the message says why and what to do."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("config", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="the folder of all that comes out")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # servers are stopped
    try:
        config = load(arguments.config)
        Experiment(config, arguments.config.parent / config["questions"], arguments.out).run()
    except Stopped as stopped:
        sys.exit(f"stopped: {stopped}")
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        sys.exit(130)


def load(path: Path) -> dict[str, Any]:
    """Raises Stopped where the config or the questions cannot be read, or a setting is missing or unknown."""
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise Stopped(f"{path}: {error}") from error
    if not isinstance(config, dict):
        raise Stopped(f"{path}: it has no settings")
    names, commands = set(config), set(config.get("options") or {})
    for fault, found in (
        ("missing", NEEDED - names),
        ("unknown", names - NEEDED - {"reference"}),
        ("unknown in options", commands - COMMANDS),
    ):
        if found:
            raise Stopped(f"{path}: {fault}: {', '.join(sorted(map(str, found)))}")
    if not (questions := path.parent / config["questions"]).is_file():
        raise Stopped(f"{path}: questions: there is no file {questions}")
    return config


class Experiment:
    """Owns the folder of the experiment, and runs what is not done there yet."""

    def __init__(self, config: Mapping[str, Any], questions: Path, out: Path) -> None:
        self.config, self.out = config, out
        self.questions = questions.resolve()
        self.strategies: list[str] = config["strategies"]
        self.domain = out / "domain.yaml"

    def run(self) -> None:
        self._begin()
        for seed in self.config["seeds"]:  # those with too few rows stop it before any model is trained
            self._made(seed, self._folder(seed))
        ended: list[int] = []
        for seed in self.config["seeds"]:
            self._measured(seed, self._folder(seed))
            ended.append(seed)
            self._write_tables(ended)
        print((self.out / "results.md").read_text(encoding="utf-8"))

    def _begin(self) -> None:
        """Makes the folder, or goes on with it. Raises Stopped for that of something else, or of another config."""
        if around := next((folder for folder in self.out.resolve().parents if is_run_data(folder)), None):
            raise Stopped(f"{around} is a run or data directory: give an --out that is not in it")
        document = {**self.config, "questions": self.questions.read_text(encoding="utf-8")}
        text = json.dumps(document, indent=1, ensure_ascii=False)
        path = self.out / BEGAN
        if path.exists():
            asked, began = json.loads(text), json.loads(path.read_bytes())
            changed = {name for name in {**asked, **began} if name != GROWS and asked.get(name) != began.get(name)}
            if changed:
                self._change(changed, raises=asked["budget"] >= began["budget"])
        elif self.out.exists() and any(found.suffix != PART for found in self.out.iterdir()):
            raise Stopped(f"{self.out}: there is something else in it: give another --out")
        self.out.mkdir(parents=True, exist_ok=True)
        write(path, text)
        domain = {**self.config["domain"], "targets": {"token_budget": self.config["budget"]}}
        write(self.domain, yaml.safe_dump(domain, sort_keys=False))

    def _change(self, changed: set[str], *, raises: bool) -> None:
        """Has the data made further by other settings, where these allow it and no model is trained yet."""
        if not (changed <= OF_DATA and raises) or any(self.out.glob("seed-*/*/model")):
            names = ", ".join(sorted(changed))
            raise Stopped(f"{self.out} began with other settings ({names}): give another --out")
        for pattern in STEPS_OF_DATA:
            for result in self.out.glob(pattern):
                result.unlink()

    def _folder(self, seed: int) -> Path:
        return self.out / f"seed-{seed}"

    def _made(self, seed: int, folder: Path) -> None:
        """The rows of all strategies."""
        self._generated(seed, folder)
        for name in self.strategies:
            self._sampled(seed, name, folder / name)

    def _measured(self, seed: int, folder: Path) -> None:
        """The models that are trained on them, and all their figures."""
        untrained = self.config["student"]["model"]
        for name in self.strategies:
            self._trained(seed, folder / name)
        first, *others = (folder / name for name in self.strategies)
        models = [first / "model", untrained, *(other / "model" for other in others)]  # compared with the first
        of_models = [word for model in models for word in ("--model", model)]
        step(folder / "likelihood.json", lambda: ours("likelihood", self.questions, *of_models))
        self._answered(untrained, self.out / "base")
        for name in self.strategies:
            self._answered(str(folder / name / "model"), folder / name)
        self._judged(seed, folder)
        if column := self.config.get("reference"):
            answers = [one / "answers" for one in (first, self.out / "base", *others)]
            of = ["--questions", self.questions, "--reference", column, "--out", folder / "scores.jsonl"]
            step(folder / "scores.json", lambda: ours("score", *answers, *of))

    def _generated(self, seed: int, folder: Path) -> None:
        """The runs of all strategies at equal cost."""
        words = [sys.executable, ROOT / "benchmarks" / "bench_coverage.py", "--keep", self.out / "runs"]
        words += ["--domains", self.domain, "--seeds", seed, "--budget", self.config["budget"]]
        words += ["--arms", *self.strategies]
        with self._server("generator") as server:
            step(folder / "coverage.json", lambda: [*words, "--endpoint", server(), *self._options("generate")])

    def _sampled(self, seed: int, name: str, folder: Path) -> None:
        """As many rows as of the others, none of them near a question."""
        of_run = name.replace(", ", "-").replace(" ", "-")  # as bench_coverage.py names it
        run = self.out / "runs" / self.domain.stem / of_run / str(seed)
        against = ["--against", self.questions, "--benchmark-field", "instruction"]
        step(folder / "clean.json", lambda: ours("decontaminate", run, *against, "--out", folder / "clean"))
        rows, wanted = folder / "rows.jsonl", self.config["rows"]
        sample = ["--out", rows, "--size", wanted, "--seed", seed]
        step(folder / "rows.json", lambda: ours("sample", folder / "clean", *sample))
        found = len(rows.read_bytes().splitlines())
        if found < wanted:
            raise Stopped(
                f"{name}, seed {seed}: {found} rows for the budget, and {wanted} are wanted: lower rows in the config, "
                "or raise budget; the same command then goes on"
            )

    def _trained(self, seed: int, folder: Path) -> None:
        """The model that learned the rows."""
        rows, student = folder / "rows.jsonl", self.config["student"]["model"]
        how = ["--out", folder / "model", "--seed", seed, "--validation", 0, *self._options("train")]
        step(folder / "train.json", lambda: ours("train", rows, "--model", student, *how))

    def _answered(self, model: str, folder: Path) -> None:
        """The answers of a model to the questions."""
        how = ["--out", folder / "answers", *self._options("answer")]
        with self._server("student", model) as server:
            step(folder / "answers.json", lambda: ours("answer", self.questions, "--endpoint", server(), *how))

    def _judged(self, seed: int, folder: Path) -> None:
        """The verdicts on the answers of each two strategies."""
        how = ["--seed", seed, *self._options("judge")]
        with self._server("judge") as server:

            def of_pair(base: str, other: str) -> list[object]:
                answers = [folder / other / "answers", folder / base / "answers"]
                return ours("judge", *answers, "--out", folder / f"judge-{other}-{base}", "--endpoint", server(), *how)

            for base, other in combinations(self.strategies, 2):
                step(folder / f"judge-{other}-{base}.json", partial(of_pair, base, other))

    def _options(self, command: str) -> list[str]:
        return shlex.split(self.config["options"].get(command) or "")

    @contextmanager
    def _server(self, role: str, model: str = "") -> Iterator[Callable[[], str]]:
        """Gives the URL of a server that is started when it is first asked for, and stopped at the end."""
        settings = self.config[role]
        started: list[tuple[subprocess.Popen[bytes], str]] = []

        def url() -> str:
            if "endpoint" in settings:
                return str(settings["endpoint"])
            if not started:
                port = free_port()
                words = shlex.split(settings["serve"].format(model=shlex.quote(model), port=port))
                started.append((serve(words, self.out / "servers.log"), f"http://127.0.0.1:{port}/v1"))
                wait_for(*started[0], shlex.join(words), self.out / "servers.log")
            return started[0][1]

        try:
            yield url
        finally:
            for process, _ in started:
                process.terminate()
                process.communicate()

    def _write_tables(self, seeds: Sequence[int]) -> None:
        document = results(self.out, self.config, seeds)
        write(self.out / "results.json", json.dumps(document, indent=1, ensure_ascii=False))
        write(self.out / "results.md", markdown(document))


def ours(command: str, *arguments: object) -> list[object]:
    return [sys.executable, "-m", "explore_async", command, *arguments, "--json"]


def step(result: Path, command: Callable[[], Sequence[object]]) -> None:
    """Runs the command, and writes the JSON object with which it ends; does nothing where that is there.

    Raises Stopped where the command fails.
    """
    if result.exists():
        return
    result.parent.mkdir(parents=True, exist_ok=True)
    words = [str(word) for word in command()]
    print(f"{time.strftime('%H:%M:%S')} {result.parent.name}/{result.stem}", flush=True)
    write(result, last_line(words))


def last_line(words: Sequence[str]) -> str:
    """The last line that the command prints; those before are shown. It is killed where this process is.

    Raises Stopped where it fails.
    """
    line = ""
    with subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        env=environment(),
        text=True,
        encoding="utf-8",
        preexec_fn=partial(end_with_parent, os.getpid(), signal.SIGKILL),  # noqa: PLW1509 - there is one thread
    ) as process:
        assert process.stdout is not None
        try:
            for following in process.stdout:
                if line:
                    print(line, end="", flush=True)
                line = following
        except BaseException:  # a signal
            process.kill()
            raise
    if process.returncode:
        raise Stopped(f"code {process.returncode} of: {shlex.join(words)}")
    return line


def write(path: Path, text: str) -> None:
    """The file is there whole, or as it was."""
    part = path.with_name(f".{path.name}{PART}")
    part.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
    part.replace(path)


def environment() -> dict[str, str]:
    """Finds the programs of this Python's environment, and explore_async in this repository."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    packages = os.pathsep.join(filter(None, [str(ROOT), str(ROOT / "kernels"), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PATH": path, "PYTHONPATH": packages, "OMP_WAIT_POLICY": "passive"}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def serve(words: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Starts a server. It ends with all processes that it has started when this process ends, however that does."""
    supervised = [sys.executable, "-m", "explore_async.serving.servers.supervisor", str(os.getpid()), "--", *words]
    with log.open("ab") as file:
        return subprocess.Popen(supervised, stdin=subprocess.PIPE, stdout=file, stderr=file, env=environment())


def wait_for(server: subprocess.Popen[bytes], url: str, command: str, log: Path) -> None:
    """Returns once the server has models. Raises Stopped where it ends before, or takes too long."""
    ends = time.monotonic() + SERVER_START_S
    while server.poll() is None and time.monotonic() < ends:
        try:
            with urllib.request.urlopen(f"{url}/models", timeout=10):  # noqa: S310 - a server of our own
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise Stopped(f"the server did not start: {command}; {log} has its messages")


if __name__ == "__main__":
    main()
