"""Configs: every preset parses, and every mistake is named."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
import yaml

from explore_async.config import load as config
from explore_async.errors import ConfigError
from explore_async.exploration.prompts import PromptBook
from explore_async.settings.recipe import Recipe
from explore_async.settings.run_settings import RunSettings


@pytest.mark.parametrize("name", sorted(config.presets()))
def test_every_preset_parses(name: str) -> None:
    """Each packaged config is valid, says what it is for, and has seeds of its own."""
    settings = config.load(name)
    assert all(domain.examples for domain in settings.domains)
    PromptBook(settings.resolved(model="m"))


@pytest.mark.parametrize("name", ["brainstorming", "rewriting", "mathematics"])
def test_the_papers_settings(name: str) -> None:
    """The presets of the paper's domains have its depth, breadth, sampling and threshold."""
    settings = config.load(name)
    assert settings.exploration.depth == 2
    assert settings.exploration.breadth == (8, 6)
    assert settings.filters.threshold == settings.filters.task_threshold == 0.7
    assert settings.sampling.generation.temperature == settings.sampling.generation.top_p == 1.0
    assert (settings.generation.per_request, settings.generation.demonstrations) == (10, 2)
    assert settings.targets.per_task == 500


BASE = {"domains": [{"name": "a"}], "targets": {"examples": 5}}


@pytest.mark.parametrize(
    ("sampling", "sent"),
    [
        ({}, {"temperature": 1.0, "top_p": 1.0, "max_tokens": 1024}),
        ({"temperature": None, "top_p": None}, {"max_tokens": 1024}),
        ({"max_tokens": None, "stop": ["\n"]}, {"temperature": 1.0, "top_p": 1.0, "stop": ["\n"]}),
        ({"max_completion_tokens": 9}, {"temperature": 1.0, "top_p": 1.0, "max_completion_tokens": 9}),
        ({"max_tokens": 7, "max_completion_tokens": None, "top_p": None}, {"temperature": 1.0, "max_tokens": 7}),
    ],
)
def test_what_is_null_is_left_out(sampling: dict, sent: dict) -> None:
    """The body has the values that are given, and one name for the limit. A recipe that is written down loads as it was,
    and only one that has the new name is another than before.
    """
    recipe = RunSettings.model_validate({**BASE, "sampling": {"generation": sampling}}).resolved(model="m")
    assert recipe.sampling.generation.body() == sent
    assert recipe.sampling.generation.limit == sent.get("max_tokens", sent.get("max_completion_tokens"))
    document = orjson.loads(orjson.dumps(recipe.model_dump(mode="json")))
    assert Recipe.model_validate(document) == recipe
    assert ("max_completion_tokens" in document["sampling"]["generation"]) == ("max_completion_tokens" in sent)


def test_without_a_seed_the_run_draws_as_ever_and_sends_none() -> None:
    """`seed: null` is a recipe like any other; its requests are told apart by numbers that no server sees."""
    recipe = RunSettings.model_validate({**BASE, "seed": None}).resolved(model="m")
    assert Recipe.model_validate(orjson.loads(orjson.dumps(recipe.model_dump(mode="json")))) == recipe
    assert not any(form.request.sends_seed for form in PromptBook(recipe).forms())
    again = RunSettings.model_validate(BASE).resolved(model="m")
    assert all(form.request.sends_seed for form in PromptBook(again).forms())
    assert recipe.digest != again.digest


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"explration": {}}, "did you mean exploration?"),
        ({"generation": {"demonstratons": 1}}, "did you mean demonstrations?"),
        ({"domains": [{"name": "a", "examples": [{"instruktion": "b", "output": "c"}]}]}, "did you mean instruction?"),
        ({"operation": {"endpoints": [{"url": "http://x", "concurency": 3}]}}, "did you mean concurrency?"),
        ({"operation": {"server": {"slot": 3}}}, "did you mean slots?"),
        ({"exploration": {"depth": -1}}, "exploration.depth"),
        ({"exploration": {"breadth": []}}, "breadth"),
        ({"exploration": {"breadth": [0]}}, "exploration.breadth"),
        ({"targets": {}}, "give examples, per_task or token_budget"),
        ({"domains": []}, "domains"),
        ({"domains": [{"name": "a"}, {"name": "A "}]}, "a name of its own"),
        ({"filters": {"threshold": 1.5}}, "filters.threshold"),
        ({"filters": {"threshold": "high"}}, "filters.threshold"),
        ({"window": "wide"}, "window"),
        ({"window": 0}, "window"),
        ({"sampling": {"generation": {"temperature": -1}}}, "sampling.generation.temperature"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, change: dict, says: str) -> None:
    """A wrong setting is a ConfigError that names the file and the key, and suggests what was meant."""
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump({**BASE, **change}))
    with pytest.raises(ConfigError) as caught:
        config.load(str(path))
    assert says in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"- a\n- b\n", "mapping"),
        (b"a: [1\n", "not valid YAML"),
        (b"name: caf\xe9\n", "UTF-8"),
        (b"!!python/object/apply:os.system ['true']\n", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_config(tmp_path: Path, content: bytes, says: str) -> None:
    """Files that cannot be read as a config say so; YAML runs nothing."""
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=says):
        config.load(str(path))


def test_overrides_reach_everything(tmp_path: Path) -> None:
    """--set changes values in mappings and lists, and complains of what is not there."""
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(BASE))
    settings = config.load(str(path), ["domains.0.name=b", "exploration.breadth=[3]", "operation.stall_s=5"])
    assert settings.domains[0].name == "b"
    assert settings.exploration.breadth == (3,)
    assert settings.operation.stall_s == 5
    for wrong in ("domains.4.name=b", "nothing", "=3", "targets.examples.deep=3", "a=[1"):
        with pytest.raises(ConfigError, match="--set"):
            config.load(str(path), [wrong])


def test_prompts_of_ones_own(tmp_path: Path) -> None:
    """A folder of templates becomes part of the recipe; a faulty one, or one that reaches for Python, is refused."""
    folder = tmp_path / "prompts"
    folder.mkdir()
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump({**BASE, "prompts": "prompts"}))
    with pytest.raises(ConfigError, match="contains none"):
        config.load(str(path))
    (folder / "generate.j2").write_text("[user]\nWrite about {{ task }}, {{ count }} times.")
    settings = config.load(str(path))
    assert "Write about" in settings.prompts["generate"]
    recipe = settings.resolved(model="m")
    assert recipe.digest != config.load(str(path), ["prompts={}"]).resolved(model="m").digest
    PromptBook(recipe)
    for faulty in ("no part", "[user]\n{{ tsk }}", "[user]\n{% if %}", "[user]\n{{ ''.__class__.__mro__ }}"):
        (folder / "generate.j2").write_text(faulty)
        with pytest.raises(ConfigError, match=r"generate\.j2"):
            PromptBook(config.load(str(path)).resolved(model="m"))


def test_the_operation_is_not_digested() -> None:
    """Endpoints, concurrency and the like leave the digest alone; every recipe field changes it."""
    plain, operated = _digest(BASE), _digest({**BASE, "operation": {"wall_time_s": 3, "server": {}}})
    assert plain == operated
    for change in ({"seed": 1}, {"language": "French"}, {"filters": {"threshold": 0.5}}, {"extra_body": {"a": 1}}):
        assert _digest({**BASE, **change}) != plain


def _digest(document: dict) -> str:
    return RunSettings.model_validate(document).resolved(model="m").digest
