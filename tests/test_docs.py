"""What the pages tell readers to type and to write exists: commands, options, files, configs."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
import yaml
from config.test_load import FULL
from pydantic import BaseModel
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


def headings(page: Path) -> set[str]:
    """The names by which links lead to the headings of a page."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    found = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE))
    return {heading.replace(" ", "-") for heading in found}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    """Each relative link of a page is a file of the repository, and what follows a # is a heading there."""
    for link, heading in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        target = page.parent / link if link else page
        assert target.exists(), link
        assert not heading or heading in headings(target), f"{link}#{heading}"


def test_each_command_option_and_setting_is_told() -> None:
    """The table of docs/usage.md has every command, and the pages name every option and every setting of a config."""
    table = (ROOT / "docs" / "usage.md").read_text(encoding="utf-8").split("\n## ")[1]
    assert {name for name in COMMANDS if not re.search(rf"`{name}\b", table)} == set()
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    parameters = [one for command in COMMANDS.values() for one in command.params if not getattr(one, "hidden", False)]
    options = {name for parameter in parameters for name in parameter.opts if name.startswith("--")}
    assert options - set(re.findall(r"--[a-z-]+", text)) == set()
    assert settings_in(RunSettings) - set(re.findall(r"\w+", text)) == set()


def settings_in(model: type[BaseModel]) -> set[str]:
    """The names of the settings of a model and of all models inside it."""
    found, waiting = set[str](), [model]
    seen = {model}
    while waiting:
        for name, field in waiting.pop().model_fields.items():
            found.add(name)
            inside = [inner for inner in models_in(field.annotation) if inner not in seen]
            seen.update(inside)
            waiting += inside
    return found


def models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in models_in(inner)]


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
