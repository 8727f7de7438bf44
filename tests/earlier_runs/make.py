"""Makes the archives beside this file with the installed version: `python make.py FOLDER`.

Each archive holds a run directory, the config that it was made with, and `expected.json`: digests of the files that
commands derived from it. The endpoint is the simulated server, so nothing in an archive comes from a real model.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sqlite3
import subprocess
import sys
import tarfile
from contextlib import closing, contextmanager
from pathlib import Path

BASE = """
name: earlier
domains:
  - name: Look after a garden
    description: plants and tools
    examples:
      - {instruction: Say when to prune roses, output: In late winter.}
    topics: [roses, soil, birds]
    styles: [a question, an order]
    tasks:
      - {name: Water plants, reason: they need it, tasks: [{name: Water in a drought}]}
exploration: {depth: 2, breadth: [4, 3], step: 2}
generation: {per_request: 3, demonstrations: 1}
targets: {examples: 60}
window: 24
operation: {report: false}
"""
TWO_DOMAINS = """
name: two
language: German
answer_format: text
domains:
  - {name: Kochen, topics: [Brot, Suppe]}
  - {name: Wandern, description: in den Bergen}
against: [known.jsonl]
exploration: {depth: 1, breadth: 3, order: breadth_first}
generation: {per_request: 4, inputs: false}
filters: {scope: domain, threshold: 0.5, banned_words: [drought]}
targets: {per_task: [2, 5]}
sampling: {generation: {max_tokens: 700, temperature: 0.7}}
window: 16
models: {generate: other}
seed: 3
operation: {report: false}
"""
KNOWN = "".join(json.dumps({"instruction": text}) + "\n" for text in ("Bake a loaf of bread", "Cook a soup"))
RUNS = {
    "plain": (BASE, []),
    "two-domains": (TWO_DOMAINS, []),
    "token-budget": (BASE, ["--token-budget", "9000"]),
    "brainstorming": ("brainstorming", ["--max-examples", "40", "--window", "32"]),
    "rewriting": ("rewriting", ["--max-examples", "40", "--window", "32"]),
    "mathematics": ("mathematics", ["--max-examples", "40", "--window", "32"]),
}
COMMANDS = {
    "messages.jsonl": ("export", "RUN", "--format", "messages", "--out", "OUT"),
    "alpaca.json": ("export", "RUN", "--format", "alpaca", "--out", "OUT"),
    "sample": ("sample", "RUN", "-n", "20", "--out", "OUT"),
    "filter": ("filter", "RUN", "--threshold", "0.5", "--out", "OUT"),
}
DERIVED = ("dataset.jsonl", "tree.json", "decisions.jsonl")


def digests(path: Path) -> dict[str, str]:
    """The digest of a file, or of a directory's derived files."""
    files = [path] if path.is_file() else [path / name for name in DERIVED if (path / name).exists()]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def explore(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "explore_async", *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


@contextmanager
def endpoint():
    """The URL of a simulated server of the command line."""
    command = [sys.executable, "-m", "explore_async", "serve", "--engine", "simulated", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            yield next(found[0] for line in server.stderr if (found := re.search(r"http://\S+/v1", line)))
        finally:
            server.terminate()


def as_format_1(database: Path) -> None:
    """The store as the version before checksums wrote it."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
        connection.execute("ALTER TABLE outcomes DROP COLUMN checksum")
        connection.execute("PRAGMA user_version=1")


def make(name: str, folder: Path, url: str) -> None:
    text, options = RUNS[name.removesuffix("-format-1")]
    work = folder / name
    work.mkdir()
    (work / "known.jsonl").write_text(KNOWN, encoding="utf-8")
    config: object = text
    if "\n" in text:
        config = work / "config.yaml"
        config.write_text(text, encoding="utf-8")
    models = (
        ("--model", "simulated")
        if "models:" not in text
        else ("--model", "simulated", "--set", "models.generate=simulated")
    )
    arguments = [config.name if isinstance(config, Path) else config, *options, *models]
    explore("run", config, *options, *models, "--endpoint", url, "--out", work / "run", "--quiet")
    run = work / "run"
    expected = {"run": digests(run)}
    for output, command in COMMANDS.items():
        target = work / output
        explore(*[{"RUN": run, "OUT": target}.get(part, part) for part in command])
        expected[output] = digests(target)
        shutil.rmtree(target) if target.is_dir() else target.unlink()
    for name_of_other in ("report.html", "server.log"):
        (run / name_of_other).unlink(missing_ok=True)
    with closing(sqlite3.connect(run / "completions.sqlite")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    if name.endswith("-format-1"):
        as_format_1(run / "completions.sqlite")
    for left in run.glob("*.sqlite-*"):
        left.unlink()
    (work / "expected.json").write_text(
        json.dumps({"arguments": [str(part) for part in arguments], "files": expected}, indent=1), encoding="utf-8"
    )
    with tarfile.open(folder / f"{name}.tar.xz", "w:xz") as archive:
        for path in sorted(work.rglob("*")):
            if path.is_file():
                info = archive.gettarinfo(path, str(path.relative_to(folder)))
                info.uid = info.gid = info.mtime = 0
                info.uname = info.gname = ""
                with path.open("rb") as file:
                    archive.addfile(info, file)
    shutil.rmtree(work)


def main(folder: Path) -> None:
    with endpoint() as url:
        for name in (*RUNS, "plain-format-1"):
            make(name, folder, url)
            sys.stdout.write(f"{name}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
