"""Command lines that make no sense: paths that are none, numbers out of range, options that exclude one another."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.damage import attempted, cases

ROWS = b'{"instruction": "Add 2 and 2", "output": "4"}\n{"instruction": "Name a river", "output": "Rhine"}\n'

paths = st.sampled_from([
    "", "-", ".", "..", "/", "//", "/dev/null", "/dev/full", "/proc/self/mem", "x" * 300, "x/" * 3000, "a\nb", "\udcff", "\udcff.jsonl", "a\x1b[31m.jsonl",
    "~", "*.jsonl", "nowhere.jsonl", "nowhere/x.jsonl", "pipe", "pipe.jsonl", "folder", "folder.jsonl", "folder.json", "loop", "loop.jsonl", "rows.jsonl", "rows.jsonl/x.jsonl", "link.jsonl",
    "rows", ".jsonl", "x.", "x.gz", "x.parquet.gz", "x.JSONL", "rows.jsonl ", "--out", "--", "é.txt", "new", "new.jsonl", "new.json.gz", "new.parquet", "new.txt", "new.v1", "new/deeper/x.json",
])  # fmt: skip
sized = st.sampled_from(["-1", "0", "1", "2", "13", "1e3", "nan", "inf", "-inf", "0.7", "1.0", "1.0000001", "9" * 30, "", "x", "０", "1_0", " 1", "true"])  # fmt: skip
words = st.sampled_from(["", "rouge", "unicode", "task", "run", "domain", "example", "stop", "skip", "diverse", "uniform", "rows", "alpaca", "explore-instruct", "messages", "x", "\n", "\udcff", "instruction", "a.b", "=", "a=", "=b", "instruction=output", "task=output", "output=instruction.0", "refusals=maybe", "threshold=2", "scope=[", "banned_words=[a]", "http://x", "quickstart", "cc-by-4.0"])  # fmt: skip
EACH = {
    "--out": paths, "--against": paths, "--evidence": paths, "--report": paths, "--figures": paths, "--config": paths, "-n": sized, "--size": sized, "--cap": sized, "--seed": sized,
    "--validation": sized, "--threshold": sized, "--ngram": sized, "--depth": sized, "--window": sized, "--max-examples": sized, "--gpus": sized, "--example-tokens": sized,
    "--concurrency": sized, "--token-budget": sized, "--most": sized, "--method": words, "--format": words, "--split-by": words, "--license": words, "--tokenizer": words, "--scope": words, "--set": words,
    "--column": words, "--on-bad-row": words, "--field": words, "--group-by": words, "--against-field": words, "--benchmark-field": words, "--profile": words, "--model": words,
    "--marked": words, "--keep": words, "--dropped": words, "--model-revision": words,
    "--endpoint": words, "--exact": None, "--json": None, "--quiet": None, "--adopt": None, "--offline": None, "--fresh": None, "--version": None, "--nonsense": None, "--help": None,
}  # fmt: skip
OF = {
    "import": ["--column", "--on-bad-row"],
    "export": ["--format", "--column", "--validation", "--split-by", "--seed", "--license", "--marked", "--keep"],
    "sample": ["--size", "--method", "--cap", "--seed", "--format", "--validation", "--split-by", "--license", "--marked", "--keep", "--model-revision"],
    "prune": ["--threshold", "--tokenizer"],
    "filter": ["--threshold", "--scope", "--set", "--column"],
    "reparse": [],
    "merge": ["--threshold", "--tokenizer", "--column"],
    "decontaminate": ["--against", "--benchmark-field", "--threshold", "--ngram", "--tokenizer"],
    "tree": ["--depth"],
    "show": ["--dropped"],
    "stats": [],
    "dedup": ["--field", "--threshold", "--tokenizer", "--group-by", "--exact", "--evidence", "--against", "--against-field", "--on-bad-row"],
    "init": [],
    "plan": ["--profile", "--gpus", "--example-tokens", "--set", "--window", "--max-examples"],
    "run": ["--set", "--endpoint", "--model", "--concurrency", "--seed", "--window", "--max-examples", "--token-budget", "--adopt", "--offline", "--fresh"],
}  # fmt: skip


@st.composite
def lines(draw: st.DrawFn) -> list[str]:
    """A command with arguments of its own, mostly, and values that fit at times."""
    command = draw(st.sampled_from(sorted(OF)))
    given_ = [command]
    if draw(st.integers(0, 9)):
        given_ += draw(st.lists(st.just("rows.jsonl") | paths, min_size=1, max_size=2))
    if command == "plan":
        given_ = [command, draw(st.sampled_from(["small.yaml"]) | paths)]
    if command == "run":
        given_ = [command, draw(st.sampled_from(["small.yaml"]) | paths), "--dry-run"]
    if command in {"import", "export", "sample", "filter", "reparse", "merge", "decontaminate", "dedup"}:
        given_ += ["--out", draw(st.sampled_from(["new", "new.jsonl", "new.parquet"]) | paths)]
    options = OF[command] if draw(st.integers(0, 4)) else sorted(EACH)
    for option in draw(st.lists(st.sampled_from([*options, "--json"]), max_size=3)):
        values = EACH[option]
        given_ += [option] if values is None else [option, draw(values)]
    return given_


@cases(120)
@given(lines())
def test_any_command_line(tmp_path: Path, arguments: list[str]) -> None:
    """Done, or refused with a documented code; nothing that was there is touched, and nothing half done stays."""
    place = tmp_path / "bad_place"
    shutil.rmtree(place, ignore_errors=True)
    (place / "folder").mkdir(parents=True)
    (place / "folder.jsonl").mkdir()
    (place / "folder" / "mine.txt").write_text("mine")
    (place / "rows.jsonl").write_bytes(ROWS)
    (place / "small.yaml").write_text(
        "domains: [{name: a}]\ntargets: {examples: 5}\nexploration: {depth: 1, breadth: 2}\n"
    )
    (place / "link.jsonl").symlink_to("rows.jsonl")
    for name in ("loop", "loop.jsonl"):
        (place / name).symlink_to(name)
    for name in ("pipe", "pipe.jsonl"):
        os.mkfifo(place / name)
    before = Path.cwd()
    os.chdir(place)
    try:
        attempted(*arguments, among=place)
    finally:
        os.chdir(before)


def test_names_that_are_no_text(tmp_path: Path) -> None:
    """Files whose names are not UTF-8 are read, written and named, in JSON too."""
    odd = tmp_path / "\udcff.jsonl"
    odd.write_bytes(ROWS)
    for number, arguments in enumerate([
        ["export", odd, "--out", tmp_path / "\udcfe1.jsonl"],
        ["export", odd, "--out", tmp_path / "\udcfe2", "--format", "messages"],
        ["sample", odd, "-n", "1", "--out", tmp_path / "\udcfe3.parquet"],
        ["import", odd, "--out", tmp_path / "\udcfe4"],
        ["filter", tmp_path / "\udcfe4", "--out", tmp_path / "\udcfe5"],
        ["merge", tmp_path / "\udcfe4", odd, "--out", tmp_path / "\udcfe6"],
        ["decontaminate", odd, "--against", odd, "--benchmark-field", "output", "--out", tmp_path / "\udcfe7"],
        ["dedup", odd, "--out", tmp_path / "\udcfe8.json", "--evidence", tmp_path / "\udcfe8.jsonl"],
        ["export", tmp_path / "\udcfe6", "--out", tmp_path / "\udcfe9", "--format", "explore-instruct"],
        ["prune", tmp_path / "\udcfe5"],
        ["dedup", tmp_path / "\udcfa", "--out", tmp_path / "x.json"],
    ]):  # fmt: skip
        result = attempted(*arguments, "--json", among=tmp_path, may_change="pruned.json")
        assert result.code == (2 if number in {8, 10} else 0), result
        assert "out" in result.json or "pruned" in result.json or "error" in result.json


@pytest.mark.parametrize(
    "arguments", [["run", "small.yaml", "--out", ""], ["tree", ""], ["export", "rows.jsonl", "--out", ""]]
)
def test_an_empty_argument_is_no_path(tmp_path: Path, arguments: list[str]) -> None:
    """An empty argument, as a shell makes of an unset variable, does not mean the working directory."""
    result = attempted(*arguments, "--json", among=tmp_path)
    assert result.code == 2
    assert "empty" in result.json["error"]
