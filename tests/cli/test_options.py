"""Options of the command line: their choices, their bounds, and those that exclude one another."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from blockbuster import BlockBuster
from support.cli import in_process
from typer.models import ArgumentInfo

import explore_async as ea
from explore_async.cli import choices, options
from explore_async.cli.app import app
from explore_async.curation.collections.written_originals import ORIGINAL
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
        (["rate", "x", "--out", "y", "--model", "a", "--quiet", "--quiet", "--model=b"], ["--model is given twice", "another --out"]),
        (["import", "x", "--out", "y", "--column", "input=a", "--column", "input=b"], ["input=b", "input is already a"]),
        (["run", "x", "--out", "y", "--seed", "1", "--out", "z"], ["--out is given twice"]),
        (["serve", "--engine", "odd"], ["--engine", "vllm", "embedded"]),
        (["serve", "--engine", "simulated", "--", "--more"], ["--more", "vLLM"]),
        (["export", "x", "--out", "y", "--format", "odd"], ["--format", "alpaca", "explore-instruct"]),
        (["export", "x", "--out", "y", "--validation", "2"], ["--validation", "1"]),
        (["sample", "x", "--out", "y", "-n", "1", "--validation", "1"], ["--validation", "below 1"]),
        (["prune", "x", "--threshold", "0"], ["--threshold", "above 0"]),
        (["filter", "x", "--out", "y", "--semantic-threshold", "nan"], ["--semantic-threshold", "at most 1"]),
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


def test_every_path_of_a_command_takes_urls_or_refuses_them() -> None:
    """No option and no argument reads a URL as a path that has lost a slash."""
    readers, without = {options.path_or_url, options.local_path}, []
    for command in app.registered_commands:
        assert command.callback is not None
        for name, hint in get_type_hints(command.callback, include_extras=True).items():
            if "Path" in str(get_args(hint)[:1]) and getattr(hint.__metadata__[0], "parser", None) not in readers:
                without.append((command.callback.__name__, name))
    assert not without


def test_every_argument_has_a_name_in_capitals() -> None:
    """The help shows what a user puts there in one way, and not the name of a variable."""
    named = {}
    for command in app.registered_commands:
        assert command.callback is not None
        for name, hint in get_type_hints(command.callback, include_extras=True).items():
            for argument in getattr(hint, "__metadata__", ()):
                if isinstance(argument, ArgumentInfo):
                    named[command.callback.__name__, name] = argument.metavar or name
    assert len(named) > 20
    assert not {where: shown for where, shown in named.items() if shown != shown.upper()}


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "small.yaml", "--out", "URL"],
        ["run", "URL"],
        ["demo", "--out", "URL"],
        ["init", "plants", "--prompts", "URL"],
        ["plan", "small.yaml", "--profile", "URL.json"],
        ["bench", "http://127.0.0.1:9/v1", "--out", "URL.json"],
        ["answer", "rows.jsonl", "--out", "URL"],
        ["rate", "rows.jsonl", "--out", "URL"],
        ["judge", "rows.jsonl", "rows.jsonl", "--out", "URL"],
        ["compare", "rows.jsonl", "rows.jsonl", "--verdicts", "URL", "--results"],
        ["train", "rows.jsonl", "--model", "m", "--out", "URL"],
        ["view", "URL"],
        ["doctor", "URL"],
        ["run", "small.yaml", "--set", "operation.endpoints_file=URL"],
        ["run", "small.yaml", "--set", "against=[URL]"],
        ["run", "small.yaml", "--set", "domains.0.files=[{path: URL}]"],
        ["run", "small.yaml", "--set", "operation.endpoints=[{url: http://127.0.0.1:9, api_key_file: URL}]"],
        ["run", "small.yaml", "--set", "prompts=URL"],
    ],
    ids=lambda arguments: " ".join(arguments).partition(" URL")[0],
)  # fmt: skip
def test_what_has_to_be_on_this_machine_is_no_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    """A URL is refused at once with code 2, whatever packages are there; no secret is told, and no folder is made of it."""
    monkeypatch.chdir(tmp_path)
    small = "domains: [{name: a}]\ntargets: {examples: 5}\n"
    (tmp_path / "small.yaml").write_text(small, encoding="utf-8")
    (tmp_path / "rows.jsonl").write_text('{"instruction": "Name a river", "output": "Rhine"}\n', encoding="utf-8")
    result = in_process(*(argument.replace("URL", "s3://me:secret@lab/there") for argument in arguments))
    assert result.code == 2
    assert "a URL cannot be used here; give a path on a local disk" in result.stderr
    assert "secret" not in result.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"small.yaml", "rows.jsonl"}


def test_a_file_url_is_the_path(tmp_path: Path, blockbuster: BlockBuster) -> None:
    """file:// is the path that it names, for options, settings and the functions of the library alike."""
    blockbuster.deactivate()  # a start looks for its directory on the loop, when nothing else is going on
    source = tmp_path / "rows.jsonl"
    source.write_text('{"instruction": "Name a river", "output": "Rhine"}\n', encoding="utf-8")
    (tmp_path / "small.yaml").write_text("domains: [{name: a}]\ntargets: {examples: 5}\n", encoding="utf-8")
    settings = ea.load(f"file://{tmp_path}/small.yaml", [f"against=[file://{source}]"])
    assert settings.against[0].path == str(source)
    assert in_process("init", "plants", "--prompts", f"file://{tmp_path}/prompts").code == 0
    assert (tmp_path / "prompts").is_dir()
    with pytest.raises(ea.StorageError, match="no run to go on with offline"):
        ea.run_sync(settings, f"file://{tmp_path}/run", mode="offline")
    for start in (
        lambda: ea.run_sync(settings, "s3://lab/run"),
        lambda: ea.rate_sync(source, "s3://lab/run"),
        lambda: ea.judge_sync(source, source, "s3://lab/run"),
    ):
        with pytest.raises(ea.ConfigError, match="s3://lab/run: a URL cannot be used here"):
            start()


def test_quiet_commands_say_nothing(tmp_path: Path) -> None:
    """Each command on data takes --quiet: it says nothing on stderr, also of files that it replaces, and does the same."""
    row = '{{"instruction": "Name {} of the {} rivers of the north", "output": "{}"}}\n'
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(row.format(word, 3 * n, n) for n, word in enumerate("abc")), encoding="utf-8")
    export, sample, dedup = (tmp_path / f"{name}.jsonl" for name in ("export", "sample", "dedup"))
    for arguments in (
        ("export", source, "--out", export),
        ("sample", source, "-n", "2", "--out", sample),
        ("dedup", source, "--out", dedup),
        ("import", source, "--out", tmp_path / "import"),
        ("filter", source, "--out", tmp_path / "filter", "--field", "instruction"),
        ("merge", source, export, "--out", tmp_path / "merge", "--field", "output"),
        ("decontaminate", source, "--out", tmp_path / "clean", "--against", source, "--benchmark-field", "output"),
        ("prune", tmp_path / "import"),
    ):
        before = in_process(*arguments)
        assert before.code == 0, before.stderr
        assert before.stderr
        result = in_process(*arguments, "--quiet")
        assert (result.code, result.stderr, result.stdout) == (0, "", ""), arguments
    assert "--quiet" in in_process("analyze", "--help").stdout + in_process("reparse", "--help").stdout
