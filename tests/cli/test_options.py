"""Options of the command line: their choices, their bounds, and those that exclude one another."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from support.cli import in_process

from explore_async.cli import choices
from explore_async.curation.exporting import ORIGINAL
from explore_async.curation.sampling import METHODS
from explore_async.curation.trainer_formats import SHAPES
from rouge_kernels import TOKENIZERS


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        (choices.Format, [*SHAPES, ORIGINAL]),
        (choices.Method, METHODS),
        (choices.TokenizerName, ["auto", *(name for name in TOKENIZERS if name != "unicode-1")]),
    ],
)
def test_choices_are_the_names_that_the_owner_knows(choice: Any, names: Any) -> None:
    """The command line offers exactly what the module behind it accepts."""
    assert sorted(get_args(choice)) == sorted(names)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["plan", "quickstart", "--profile", "h100"], ["--profile", "h100-qwen3-8b", "h100-gpt-oss-20b"]),
        (["rate", "x", "--out", "y", "--model", "a", "--quiet", "--quiet", "--model=b"], ["--model is given twice"]),
        (["run", "x", "--out", "y", "--seed", "1", "--out", "z"], ["--out is given twice"]),
        (["serve", "--engine", "odd"], ["--engine", "vllm", "embedded"]),
        (["serve", "--engine", "simulated", "--", "--more"], ["--more", "vLLM"]),
        (["export", "x", "--out", "y", "--format", "odd"], ["--format", "alpaca", "explore-instruct"]),
        (["export", "x", "--out", "y", "--validation", "2"], ["--validation", "1"]),
        (["sample", "x", "--out", "y", "-n", "1", "--method", "odd"], ["--method", "diverse"]),
        (["dedup", "x", "--out", "y", "--on-bad-row", "odd"], ["--on-bad-row", "skip"]),
        (["dedup", "x", "--out", "y", "--exact", "--threshold", "0.5"], ["--exact", "--threshold", "only one"]),
        (["run", "quickstart", "--adopt", "--fresh"], ["--adopt", "--offline", "--fresh", "only one"]),
        (["run", "quickstart", "--engine", "odd"], ["--engine", "local", "ray"]),
        (["run", "quickstart", "--shards", "4"], ["--shards 4", "--engine ray", "--shard I/4"]),
        (["run", "quickstart", "--engine", "ray", "--shard", "1/2"], ["--shard", "--engine ray", "only one"]),
        (["run", "quickstart", "--engine", "ray", "--view"], ["--view", "--engine ray"]),
        (["run", "quickstart", "--engine", "ray", "--shards", "400"], ["at most", "shards"]),
        (["run"], ["CONFIG", "--help"]),
        (["run", "quickstart", "--wndow", "3"], ["--wndow", "--window"]),
        (["rnu"], ["rnu", "run"]),
        (["tree", ""], ["empty"]),
    ],
)  # fmt: skip
def test_a_wrong_option_is_an_error_with_code_2(arguments: list[str], parts: list[str]) -> None:
    """The message names the option and what it takes; with --json it is the last line of stdout, too."""
    result = in_process(*arguments[:1], "--json", *arguments[1:]) if arguments[0] != "serve" else in_process(*arguments)
    assert result.code == 2
    assert result.stderr.startswith("error: ")
    for part in parts:
        assert part in result.stderr
    if "serve" not in arguments and arguments != ["rnu"]:
        assert result.json["exit_code"] == 2


def test_no_command_shows_the_help() -> None:
    """Without a command the help is shown, and the exit code says that nothing was done."""
    result = in_process()
    assert result.code == 2
    assert "COMMAND" in result.stdout
