"""What the pages tell readers to type and to write exists: commands, options, files, configs."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from config.test_load import FULL
from support.cli import ROOT

from explore_async.cli.app import app
from explore_async.config.endpoints_file import read_endpoints
from explore_async.settings.run_settings import RunSettings

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def commands(text: str) -> Iterator[list[str]]:
    """The calls of the program in code that stands on lines of its own, without what follows a pipe or a comment."""
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        call = line.split(" #")[0].strip()
        if line.startswith("    ") and call.startswith("explore-async "):
            yield [word for word in shlex.split(re.split(r" [|>&]", call)[0]) if word != "…"][1:]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_exist(page: Path) -> None:
    """Each call has a command that there is, and options that it takes; what follows `--` is another program's."""
    for command, *arguments in commands(page.read_text(encoding="utf-8")):
        assert command in COMMANDS, command
        known = {option for parameter in COMMANDS[command].params for option in parameter.opts}
        ours = arguments[: arguments.index("--")] if "--" in arguments else arguments
        given = {word.split("=")[0] for word in ours if re.match(r"--?[a-z]", word)}
        assert given <= known, (command, given - known)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    """Each relative link of a page is a file of the repository."""
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert "://" in link or (page.parent / link).exists(), link


def blocks(language: str) -> Iterator[str]:
    for page in PAGES:
        yield from re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_configs_are_configs() -> None:
    """Each block of YAML and JSON can be read, and those that are parts of a config fit into one."""
    ours = 0
    for text in blocks("yaml"):
        for document in yaml.safe_load_all(text):
            if set(document) <= set(RunSettings.model_fields):
                RunSettings.model_validate({**FULL, **document})
                ours += 1
    assert ours >= 3
    for text in blocks("json"):
        json.loads(text)


def test_programs_compile() -> None:
    """Each block of Python that stands by itself is Python."""
    for number, text in enumerate(blocks("python")):
        compile(text, f"block {number}", "exec")


def test_the_list_of_the_engines_on_ray_is_a_list_of_endpoints(tmp_path: Path) -> None:
    """What the program that starts them writes is a file that a run can follow."""
    text = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    line = re.search(r"print\(f'(.*)', file=file\)", text)
    assert line is not None
    path = tmp_path / "endpoints.yaml"
    path.write_text(line[1].format(head="10.0.0.1", number=3), encoding="utf-8")
    (only,) = read_endpoints(path)
    assert (only.url, only.concurrency) == ("http://10.0.0.1:8000/engine-3/v1", 256)


def test_the_list_of_the_slurm_job_is_a_list_of_endpoints(tmp_path: Path) -> None:
    """What the script writes for the nodes of its job is a file that a run can follow."""
    text = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    line = re.search(r"sed 's\|\.\*\|(.*)\|'", text)
    assert line is not None
    path = tmp_path / "endpoints.yaml"
    path.write_text("".join(f"{line[1].replace('&', node)}\n" for node in ("node1", "node2")), encoding="utf-8")
    first, second = read_endpoints(path)
    assert (first.url, second.url) == ("http://node1:8000/v1", "http://node2:8000/v1")
    assert first.api_key_env == "VLLM_API_KEY"
