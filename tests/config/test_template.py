"""The config that `init` prints, and the templates that it writes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from support.cli import filled, in_process

from explore_async.config.load import load
from explore_async.config.template import prompt_files, run_name, template
from explore_async.errors import ConfigError
from explore_async.exploration.kinds import KINDS
from explore_async.exploration.prompt_values import EXPLAINED, GLOBALS, of_recipe
from explore_async.exploration.prompts import PromptBook
from explore_async.planning.expectation import sample_prompts
from explore_async.settings.run_settings import RunSettings

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@settings(max_examples=30)
@given(TEXTS, TEXTS, TEXTS)
def test_the_config_holds_any_text(domain: str, language: str, prompts: str) -> None:
    """The config is YAML with exactly the texts that were typed, whatever YAML makes of such texts elsewhere, and a name
    that is one for a run directory.
    """
    document = yaml.safe_load(template(domain, language=language, prompts=prompts))
    assert (document["domains"][0]["name"], document["language"]) == (domain, language)
    assert document.pop("prompts") == prompts
    RunSettings.model_validate(document)
    assert "prompts" not in yaml.safe_load(template(domain))


@pytest.mark.parametrize(
    ("domain", "name"),
    [
        ("Answer questions about houseplants", "answer-questions-about-houseplants"),
        ("Fragen über Zimmerpflanzen", "fragen-über-zimmerpflanzen"),
        ("../../etc: *", "etc"),
        ("???", "my-domain"),
        ("x" * 200, "x" * 60),
        ("word " * 40, "-".join(["word"] * 12)),
    ],
)
def test_the_name_of_the_run_is_the_domains(domain: str, name: str) -> None:
    """Its words with hyphens, so many as fit: two domains have two run directories."""
    assert run_name(domain) == name
    assert yaml.safe_load(template(domain))["name"] == name


def test_a_run_refuses_what_is_not_filled_in(tmp_path: Path) -> None:
    """A run names each place that still holds a text of `init`; the dry run shows its prompts and tells them; plan and a
    filled config take no offence.
    """
    path = tmp_path / "plants.yaml"
    path.write_text(template("Water plants", language="German"), encoding="utf-8")
    places = ["domains.0.description", "domains.0.examples.0.instruction", "domains.0.examples.0.output"]
    assert load(path).places_to_fill() == places
    refused = in_process("run", path, "--endpoint", "http://127.0.0.1:9", "--out", tmp_path / "run")
    assert refused.code == 2
    assert all(place in refused.stderr for place in places)
    assert not (tmp_path / "run").exists()
    shown = in_process("run", path, "--dry-run", "--json")
    assert shown.code == 0
    (told,) = (warning for warning in shown.json["warnings"] if "REPLACE ME" in warning)
    assert all(place in told for place in places)
    path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")
    assert load(path).places_to_fill() == []
    assert in_process("run", path, "--dry-run", "--json").json["warnings"] == []


def test_written_templates_say_the_same(tmp_path: Path) -> None:
    """A run with the templates that `init --prompts` writes, unchanged, asks exactly what a run without them asks."""
    folder = tmp_path / "own"
    printed = in_process("init", "Water plants", "--language", "German", "--prompts", folder)
    assert printed.code == 0
    path = tmp_path / "plants.yaml"
    path.write_text(printed.stdout, encoding="utf-8")
    ours = load(path)
    assert set(ours.prompts) == set(KINDS)
    own, packaged = (sample_prompts(one.resolved(model="m")) for one in (ours, ours.model_copy(update={"prompts": {}})))
    assert own == packaged
    again = in_process("init", "Water plants", "--prompts", folder)
    assert (again.code, again.stdout) == (2, "")
    assert "generate.j2" in again.stderr


def test_instructions_alone_have_a_template_of_their_own(tmp_path: Path) -> None:
    """With `responses: separate` the folder's generate_instructions.j2 is the template of generate requests; unchanged
    templates ask what a run without them asks, and a changed one is asked. A folder that has only the other one is refused.
    """
    folder = tmp_path / "own"
    path = tmp_path / "plants.yaml"
    printed = in_process("init", "Water plants", "--prompts", folder).stdout
    path.write_text(printed + "responses: separate\njudge: {}\n", encoding="utf-8")
    ours = load(path)
    own, packaged = (sample_prompts(one.resolved(model="m")) for one in (ours, ours.model_copy(update={"prompts": {}})))
    assert own == packaged
    file = folder / "generate_instructions.j2"
    file.write_text(file.read_text().replace("Write no answers.", "Answers come later."))
    (changed,) = (text for name, text in load(path).prompts.items() if name == "generate")
    assert "Answers come later." in changed
    file.unlink()
    with pytest.raises(ConfigError, match=r"generate\.j2 is not for this run.*it takes generate_instructions\.j2"):
        load(path)
    (folder / "generate.j2").unlink()
    assert "generate" not in load(path).prompts


def test_every_value_of_a_template_is_explained() -> None:
    """Each name that a template may use has an explanation, and none that is unknown; a written template names exactly
    those that may stand in it.
    """
    assert set(of_recipe(load("quickstart").resolved(model="m"))) == set(GLOBALS)
    assert set(EXPLAINED) == {name for kind in KINDS.values() for name in kind.trial} | set(GLOBALS)
    for kind in KINDS.values():
        text = prompt_files()[f"{kind.name}.j2"]
        head = text[text.index("{#") : text.index("#}")]
        names = {line.split()[0] for line in head.splitlines()[1:]}
        assert names == set(kind.trial) | set(GLOBALS)


def test_a_template_of_an_empty_folder_is_the_programs_own(tmp_path: Path) -> None:
    """With one template removed, the rest of the folder still holds."""
    in_process("init", "Water plants", "--prompts", tmp_path / "own")
    (tmp_path / "own" / "lookahead.j2").unlink()
    path = tmp_path / "plants.yaml"
    path.write_text(template("Water plants", prompts="own"), encoding="utf-8")
    PromptBook(load(path).resolved(model="m"))


@pytest.mark.parametrize("arguments", [("init", " "), ("init", "a", "--language", " ")])
def test_blanks_are_no_domain(arguments: tuple[str, ...]) -> None:
    """A config that no run could use is not printed."""
    result = in_process(*arguments)
    assert (result.code, result.stdout) == (2, "")
