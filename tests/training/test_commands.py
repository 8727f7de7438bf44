"""The commands train and likelihood, as far as they go without torch."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.cli import in_process

from explore_async.training import extra, recipe

ROWS = '{"instruction": "a", "output": "b"}\n'


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text(ROWS)
    return path


@pytest.mark.parametrize("command", ["train", "likelihood"])
def test_without_the_extra_the_command_says_what_to_install(
    rows: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an error with code 2, before anything is read or written."""
    monkeypatch.setattr(extra, "_NEEDED", ("a_library_that_nobody_has",))
    out = ["--out", rows.parent / "out"] if command == "train" else []
    result = in_process(command, rows, "--model", "org/model", *out, "--json")
    assert result.code == result.json["exit_code"] == 2
    assert result.json["error"] == f"{command} needs a_library_that_nobody_has: pip install 'explore-async[train]'"
    assert [path.name for path in rows.parent.iterdir()] == ["rows.jsonl"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--epochs", "1", "--steps", "2"], "only one of --epochs and --steps"),
        (["--validation", "0.1", "--held-out", "x"], "only one of --validation and --held-out"),
        (["--method", "full", "--lora-rank", "4"], "--lora-rank"),
        (["--preset", "odd"], "--preset"),
        (["--too-long", "odd"], "--too-long"),
        (["--model", "./nowhere"], "there is no such folder"),
        (["--model", "."], "no config.json"),
        (["--method", "full", "--adapter"], "--adapter"),
        (["--preset", "paper", "--adapter"], "--adapter"),
    ],
)
def test_a_wrong_option_is_said_at_once(
    rows: Path, options: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before torch is loaded, with code 2."""
    monkeypatch.setattr(extra, "_NEEDED", ())
    model = [] if "--model" in options else ["--model", "org/model"]
    result = in_process("train", rows, *model, "--out", rows.parent / "out", *options)
    assert result.code == 2
    assert said in result.stderr


def test_a_folder_of_something_else_is_refused(rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With code 4, and nothing in it changes."""
    monkeypatch.setattr(extra, "_NEEDED", ())
    result = in_process("train", rows, "--model", "org/model", "--out", rows.parent)
    assert result.code == 4
    assert "something else" in result.stderr
    assert rows.read_text() == ROWS


def test_what_libraries_are_told_does_not_replace_what_the_user_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """TRL is kept from telling a server about each training, unless the environment says otherwise."""
    monkeypatch.setattr(extra, "_NEEDED", ())
    monkeypatch.delenv("HF_HUB_DISABLE_TELEMETRY", raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    extra.need_extra("train")
    assert extra.os.environ["HF_HUB_DISABLE_TELEMETRY"] == "1"
    assert extra.os.environ["OMP_WAIT_POLICY"] == "active"


def test_the_defaults_are_named_in_the_help() -> None:
    """The help states defaults that a preset or a method decides: those that the recipe has."""
    told = " ".join(in_process("train", "--help").stdout.replace("│", " ").split())
    assert f"chat {recipe.PRESETS['chat'].batch_size}, paper {recipe.PRESETS['paper'].batch_size}" in told
    assert f"(default: {recipe.LORA_RANK})" in told
