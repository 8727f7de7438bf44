"""The JSON schema of a config accepts what the program accepts, and says what is in it."""

from __future__ import annotations

import copy
from typing import Any

import orjson
import pytest
import yaml
from config.test_load import CHANGES, FULL, changed
from pydantic import ValidationError
from support.cli import ROOT, in_process
from support.json_schema import fits

from explore_async.config.schema import config_schema
from explore_async.config.template import template
from explore_async.settings.run_settings import RunSettings

SCHEMA = config_schema()


def valid(document: Any) -> bool:
    return fits(document, SCHEMA, SCHEMA)


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_every_config_of_the_repository_is_valid(path: Any) -> None:
    """What the program ships is what its schema describes."""
    assert valid(yaml.safe_load(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_every_setting_is_known(name: str) -> None:
    """Each setting with another value is valid; its misspelling is not, nor is a list in its place."""
    assert valid(changed(name, CHANGES[name]))
    above, _, last = name.rpartition(".")
    assert not valid(changed(f"{above}.{last}{last[-1]}" if above else last + last[-1], 1))
    wrong = changed(name, [[[]]])
    if name != "extra_body":
        assert not valid(wrong)


@pytest.mark.parametrize(
    "shorthand",
    [
        {"operation": {"endpoints": ["http://x"]}}, {"against": ["a.jsonl"]}, {"exploration": {"breadth": 4}}, {"prompts": "./prompts"},
        {"targets": {"per_task": 5}}, {"targets": {"per_task": [5, 4]}}, {"window": "auto"}, {"window": 5},
    ],
)  # fmt: skip
def test_what_a_user_may_shorten_is_valid(shorthand: dict[str, Any]) -> None:
    """One text in place of an endpoint or of known texts, a number for all levels, the folder of prompts."""
    assert valid({**copy.deepcopy(FULL), **shorthand})


@pytest.mark.parametrize(
    "wrong",
    [
        {"targets": {"examples": 0}}, {"answer_format": "xml"}, {"exploration": {"depth": 11}}, {"exploration": {"breadth": 0}}, {"domains": []},
        {"name": "a/b"}, {"models": {"generat": "m"}}, {"operation": {"endpoints": [5]}}, {"seed": "1x"}, {"filters": {"refusals": "maybe"}},
    ],
)  # fmt: skip
def test_what_the_program_refuses_is_not_valid(wrong: dict[str, Any]) -> None:
    """Bounds, choices and types are those of the program."""
    document = {**copy.deepcopy(FULL), **wrong}
    with pytest.raises(ValidationError):
        RunSettings.model_validate(document)
    assert not valid(document)


def test_an_editor_can_explain_settings() -> None:
    """The docstring below a field is its description, in nested groups and inherited ones; the command prints the
    schema, and what `init` prints names the file that it goes to.
    """
    assert "ROUGE-L" in SCHEMA["$defs"]["Filters"]["properties"]["threshold"]["description"]
    assert "runs/" in SCHEMA["properties"]["name"]["description"]
    assert (
        "environment variable"
        in SCHEMA["$defs"]["EndpointSettings"]["anyOf"][1]["properties"]["api_key_env"]["description"]
    )
    assert "folder" in SCHEMA["properties"]["prompts"]["description"]
    printed = in_process("schema")
    assert (printed.code, orjson.loads(printed.stdout)) == (0, SCHEMA)
    first, second, *_ = template("a").splitlines()
    assert first == "# yaml-language-server: $schema=explore.schema.json"
    assert "explore-async schema > explore.schema.json" in second
