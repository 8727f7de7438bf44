"""Settings as a whole: every key at every level, everything that YAML can turn a text into."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from support.cli import ROOT

from explore_async.config import faults
from explore_async.config import load as config
from explore_async.errors import ConfigError
from explore_async.settings.operation import Operation
from explore_async.settings.recipe import Check, Judging, Recipe
from explore_async.settings.run_settings import RecipeConfig, RunSettings

FULL: dict[str, Any] = {
    "domains": [
        {
            "name": "a",
            "tasks": [{"name": "t", "examples": [{"instruction": "i", "output": "o"}]}],
            "examples": [{"instruction": "i", "output": "o"}],
            "files": [{"path": "a.md"}],
        }
    ],
    "against": [{"path": "a.jsonl"}],
    "targets": {"examples": 5},
    "responses": "separate",
    "judge": {},
    "checks": [{"name": "a", "command": ["a"]}],
    "operation": {"endpoints": [{"url": "http://x"}], "server": {}, "retries": {}},
}
"""One of each thing a config can hold."""

CHANGES: dict[str, Any] = {
    "name": "b", "description": "b", "seed": 1, "model": "m", "models": {"generate": "b"}, "language": "French",
    "answer_format": "text", "extra_body": {"a": 1}, "prompts": {"generate": "[user]\n"}, "window": 7, "lag": 7,
    "shard": "1/1",
    "domains.0.name": "b", "domains.0.description": "b", "domains.0.topics": ["b"], "domains.0.styles": ["b"],
    "domains.0.tasks.0.name": "b", "domains.0.tasks.0.reason": "b", "domains.0.examples.0.instruction": "b",
    "domains.0.examples.0.input": "b", "domains.0.examples.0.output": "b",
    "domains.0.tasks.0.tasks": [{"name": "b"}], "domains.0.tasks.0.examples.0.instruction": "b",
    "domains.0.tasks.0.examples.0.input": "b", "domains.0.tasks.0.examples.0.output": "b",
    "domains.0.files.0.path": "b", "domains.0.files.0.field": "b", "domains.0.files.0.digest": "b",
    "against.0.path": "b", "against.0.field": "b",
    "exploration.depth": 5, "exploration.breadth": [7], "exploration.step": 7, "exploration.attempts": 7,
    "exploration.strategy": "self_instruct", "exploration.order": "breadth_first", "exploration.lookahead": "criterion", "exploration.facets": 7,
    "generation.per_request": 7, "generation.demonstrations": 7, "generation.inputs": False,
    "generation.exhausted_after": 7, "generation.exhausted_below": 0.7,
    "generation.policy": "yield", "generation.covered_at": 0.7, "generation.demonstrations_from": "pool",
    "responses": "joint", "answers_per_instruction": 7, "turns": 7, "domains.0.system": "b", "judge.threshold": 4.5,
    "judge.aspects": {"b": "b"}, "checks": [{"name": "a", "function": "b:c", "version": "b", "timeout_s": 7}],
    **{
        f"sampling.{stage}.{name}": value
        for stage in ("answers", "judging")
        for name, value in {"temperature": 0.5, "top_p": 0.5, "max_tokens": 7, "max_completion_tokens": 7, "stop": ["b"]}.items()
    },
    "targets.examples": 7, "targets.per_task": 7, "targets.token_budget": 7,
    "filters.threshold": 0.5, "filters.task_threshold": 0.5, "filters.scope": "task", "filters.tokenizer": "unicode",
    "filters.min_instruction_words": 7, "filters.max_instruction_words": 7, "filters.min_output_words": 7,
    "filters.max_output_words": 7, "filters.max_repetition": 0.7, "filters.refusals": False, "filters.placeholders": False,
    "filters.missing_inputs": False, "filters.copies": False, "filters.language": True, "filters.banned_words": ["b"],
    "filters.required_words": ["b"],
    "sampling.exploration.temperature": 0.5, "sampling.exploration.top_p": 0.5,
    "sampling.exploration.max_tokens": 7, "sampling.exploration.max_completion_tokens": 7, "sampling.exploration.stop": ["b"],
    "sampling.generation.temperature": 0.5, "sampling.generation.top_p": 0.5,
    "sampling.generation.max_tokens": 7, "sampling.generation.max_completion_tokens": 7, "sampling.generation.stop": ["b"],
    "operation.endpoints.0.url": "http://y", "operation.endpoints.0.concurrency": 7,
    "operation.endpoints.0.api_key_env": "B", "operation.endpoints.0.api_key_file": "b",
    "operation.endpoints.0.ca_file": "b", "operation.endpoints.0.requests_per_minute": 7,
    "operation.endpoints.0.model": "b", "operation.endpoints.0.weight": 7,
    "operation.endpoints.0.tokens_per_minute": 7, "operation.endpoints_file": "b",
    "operation.server.engine": "vllm", "operation.server.vllm.dtype": "b", "operation.server.vllm.tensor_parallel": 7,
    "operation.server.vllm.data_parallel": 7, "operation.server.vllm.api_servers": 7,
    "operation.server.vllm.args": ["--b"], "operation.server.model": "b", "operation.server.slots": 7, "operation.server.context_tokens": 777,
    "operation.retries.attempts": 7, "operation.retries.first_wait_s": 7, "operation.retries.longest_wait_s": 7,
    "operation.stall_s": 7, "operation.failure_rate": 0.7, "operation.wall_time_s": 7, "operation.durability": "full",
    "operation.retry_failed": True, "operation.report": False, "operation.spacy_model": "b",
    "operation.shared_by": 7,
}  # fmt: skip
"""For every setting a value other than the one in FULL."""


def leaves(model: type[BaseModel], above: str = "") -> Iterator[str]:
    """The dotted names of all settings, with 0 for a position in a list."""
    for name, field in model.model_fields.items():
        inner = faults.model_in(field.annotation)
        if inner in {None, model, Check}:  # tasks in tasks; a check has one of two settings
            yield above + name
        else:
            yield from leaves(inner, f"{above}{name}.{'0.' if 'tuple' in str(field.annotation) else ''}")


def mappings(model: type[BaseModel], above: str = "") -> Iterator[str]:
    return iter({"", *(leaf.rpartition(".")[0] for leaf in leaves(model, above))})


def changed(name: str, value: Any) -> dict[str, Any]:
    document = copy.deepcopy(FULL)
    config._override(document, f"{name}={yaml.safe_dump(value, default_flow_style=True)}")
    return document


def written(folder: Path, content: str | bytes) -> str:
    path = folder / "c.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def test_the_table_of_changes_is_complete() -> None:
    """The two tests below go through every setting there is: one that is new has to say in the table what it may be."""
    assert sorted(CHANGES) == sorted(leaves(RunSettings))


@pytest.mark.parametrize("name", CHANGES)
def test_the_digest_is_the_recipes(name: str) -> None:
    """Every setting of the recipe changes the digest, none of the operation does, nor the place where known texts or
    files lie, which are known by what they are; and every one takes effect.
    """
    plain, other = RunSettings.model_validate(FULL), RunSettings.model_validate(changed(name, CHANGES[name]))
    assert plain != other
    same = plain.resolved(model="served").digest == other.resolved(model="served").digest
    assert same is (name.startswith("operation.") or name in {"against.0.path", "domains.0.files.0.path"})


def test_the_two_parts_share_no_name() -> None:
    """Recipe and operation divide the settings: the recipe of a run holds nothing of its operation."""
    assert not set(RecipeConfig.model_fields) & set(Operation.model_fields)
    assert set(RunSettings.model_fields) - set(RecipeConfig.model_fields) == {"operation"}
    assert "operation" not in RunSettings.model_validate(FULL).resolved(model="m").model_dump()


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("judge=true", "judge: input should be settings, such as {threshold: 3} (given: true)"),
        ("generation=5", "generation: input should be settings, such as {per_request: 10} (given: 5)"),
        ("domains=x", "domains: input should be a list, such as [{name: …}] (given: x)"),
        ("against=[5]", "against.0: input should be a text or settings, such as {path: …} (given: 5)"),
        ("checks.0.version=2", 'checks.0.version: input should be a text: write "2" (given: 2)'),
        ("window=x", "window: input should be a whole number or 'auto' (given: x)"),
        ("domains.0.topics=x", "domains.0.topics: input should be a list (given: x)"),
        ("judge.aspects=[a]", "judge.aspects: input should be a mapping, such as {name: value}"),
        (
            "operation.endpoints.0.model=[a]",
            "operation.endpoints.0.model: input should be a text or a mapping, such as {name: value}",
        ),
        ("judge.aspects={A b: x}", "judge.aspects.A b: its name should match pattern '^[a-z_]{1,40}$' (given: A b)"),
        ("domains=[]", "domains: input should have at least 1 entry"),
        ("targets.examples=yes", "targets.examples: input should be a whole number (given: true)"),
        ("filters.threshold=on", "filters.threshold: input should be a number (given: true)"),
        ("targets.per_task=[yes, 5]", "targets.per_task: input should be a whole number"),
        ("seed=12:30", "seed: input should be a whole number (given: 12:30)"),
        (
            "language=no",
            (
                "language: input should be a text: put it between quotation marks, as yes, no, on and off are true or "
                "false (given: false)"
            ),
        ),
    ],
)
def test_what_is_of_another_kind_is_told_with_the_right_form(tmp_path: Path, override: str, says: str) -> None:
    """One complaint for one mistake, in the words of YAML and not in those of the validator."""
    with pytest.raises(ConfigError) as caught:
        config.load(written(tmp_path, yaml.safe_dump(FULL)), [override])
    name, _, fault = says.partition(": ")
    option = override.partition("=")[0]
    place = f"--set {option}" + (f": {name.removeprefix(option).strip('.')}" if name != option else "")
    assert str(caught.value) == f"{place}: {fault}"


def test_an_aspect_with_the_name_of_another_key_is_refused(tmp_path: Path) -> None:
    """A judge's reply has a reason beside its scores. A recipe that is stored with such an aspect still opens."""
    aspects = {"reason": "it is sound"}
    with pytest.raises(ConfigError, match=r"judge.aspects.reason: the judge's reply has a key of this name"):
        config.load(written(tmp_path, yaml.safe_dump({**FULL, "judge": {"aspects": aspects}})))
    with pytest.raises(ConfigError, match=r"--set judge.aspects: reason: the judge"):
        config.load_revision("rate", {}, ["judge.aspects={reason: it is sound}"])
    stored = RunSettings.model_validate(FULL).resolved(model="m").model_dump(mode="json")
    assert Recipe.model_validate({**stored, "judge": {"aspects": aspects}}).judge == Judging(aspects=aspects)


@pytest.mark.parametrize("name", [name for name in sorted(set(mappings(RunSettings))) if name])
def test_no_group_of_settings_is_told_in_the_validators_words(tmp_path: Path, name: str) -> None:
    """A number in place of any group: the message shows settings of that group, in their right form."""
    document = changed(name.removesuffix(".0"), [7] if name.endswith(".0") else 7)
    with pytest.raises(ConfigError, match=r"input should be (a text or )?settings, such as \{\w+: ") as caught:
        config.load(written(tmp_path, yaml.safe_dump(document)))
    assert not re.search("dictionary|instance|tuple|string", str(caught.value))


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("meaning=2", "meaning: explore_async writes this"),
        ("against.0.digest=b", "against.0.digest: explore_async comp"),
        ("operation.checkpoint_every=40", "operation.checkpoint_every: no longer a setting: .* every 20,000"),
    ],
)
def test_a_key_to_remove_is_explained(tmp_path: Path, override: str, says: str) -> None:
    """Fields of a resolved recipe that a config does not have, and settings of earlier versions: the message says what
    they are, and to remove them.
    """
    with pytest.raises(ConfigError, match=f"{says}.*remove it"):
        config.load(written(tmp_path, yaml.safe_dump(FULL)), [override])


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_a_misspelling_gets_a_suggestion(tmp_path: Path, name: str) -> None:
    """A letter doubled in any key at any level: the error names the option with the path and the key that was meant."""
    above, _, last = name.rpartition(".")
    wrong = f"{above}.{last}{last[-1]}" if above else last + last[-1]
    path = written(tmp_path, yaml.safe_dump(FULL))
    with pytest.raises(ConfigError) as caught:
        config.load(path, [f"{wrong}=1"])
    (line,) = (line for line in str(caught.value).splitlines() if "unknown key" in line)
    assert line == f"--set {wrong}: unknown key; did you mean {last}?"


@pytest.mark.parametrize("name", sorted(CHANGES))
@pytest.mark.parametrize("value", [{"a": {"b": 1}}, [[[]]], "\x01"], ids=str)
def test_a_wrong_type_is_named_by_its_path(tmp_path: Path, name: str, value: Any) -> None:
    """Whatever stands in the place of any setting: it is taken or refused, never a crash; what is refused is named."""
    try:
        config.load(written(tmp_path, yaml.safe_dump(changed(name, value))))
    except ConfigError as error:
        assert name.removesuffix(".0") in str(error)  # noqa: PT017 - it may well be taken
    else:
        assert not isinstance(value, list)


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_every_config_of_the_repository_parses(path: Path) -> None:
    """Each file in configs/ is a preset by its name and the same by its path."""
    assert config.presets()[path.stem].read_bytes() == path.read_bytes()
    assert config.load(str(path)) == config.load(path.stem)


@pytest.mark.parametrize(
    "content",
    [
        b"name: 2026-13-45\n", b"seed: 0b_\n", b"a: " + b"[" * 1200, b"name: [1\n", b"\tname: a\n", b"a: b: c\n",
        b"? [a]\n: 1\n", b"a: *b\n", b"--- a\n--- b\n", b"name: \x00\n", b"!!python/object/apply:os.getcwd []\n",
        b"5\n", b"words\n", b"[]\n", b"# nothing\n", b"\xff\xfe\x00", b"name: caf\xe9\n", b"1: 2\n", b"null: 2\n",
        b"{}\n", b"seed: " + b"9" * 40 + b"\n", b'name: "\\ud800"\n', b"extra_body: &x {a: *x}\n",
        b"extra_body: {a: 2020-01-01}\n", b"extra_body: {a: !!set {b}}\n", b"extra_body: {a: {1: 2}}\n",
        b"filters: {banned_words: ['']}\n", b"exploration: {depth: -1}\n", b"filters: {threshold: .nan}\n",
        b"prompts: nowhere\n", b"prompts: {genrate: x}\n", b"domains: {name: a}\n", b"domains: [null]\n",
        b"prompts: " + b"a" * 300 + b"\n",
    ],
)  # fmt: skip
def test_what_is_no_config_is_said_with_its_file(tmp_path: Path, content: bytes) -> None:
    """Whatever a file holds, it is a ConfigError with the file's name and no traceback; nothing in it is run."""
    for rest in (b"", b"targets: {examples: 5}\n"):
        with pytest.raises(ConfigError) as caught:
            config.load(written(tmp_path, content + rest))
        assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("content", [b"seed: " + b"9" * 40, b"extra_body: {a: 2020-01-01}", b"filters: {banned_words: ['']}", b'name: "\\ud800"', b"extra_body: {a: {1: 2}}"])  # fmt: skip
def test_what_cannot_be_written_is_refused(tmp_path: Path, content: bytes) -> None:
    """A config that is whole but for one value that JSON has no form for is refused for that value."""
    whole = yaml.safe_dump(FULL).encode()
    config.load(written(tmp_path, whole))
    with pytest.raises(ConfigError, match=r"JSON|text|character"):
        config.load(written(tmp_path, whole + content))


def test_numbers_are_those_of_yaml_1_2(tmp_path: Path) -> None:
    """A zero in front makes no number octal; numbers in other systems say which."""
    for text, number in (("0123", 123), ("083", 83), ("0x10", 16), ("1_000", 1000), ("-0", 0)):
        assert (
            config.load(written(tmp_path, f"domains: [{{name: a}}]\ntargets: {{examples: 3}}\nseed: {text}\n")).seed
            == number
        )


def test_a_key_that_stands_there_twice_is_refused(tmp_path: Path) -> None:
    """Of two equal keys YAML would silently take the last; here the place of the second is named."""
    for content in ("seed: 1\nseed: 2\n", "targets: {examples: 1}\ndomains: []\ntargets: {examples: 2}\n"):
        with pytest.raises(ConfigError, match=r"twice[^$]*line [23]"):
            config.load(written(tmp_path, content))


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", "/absolute", "a\x00b", "x" * 101])
def test_a_name_that_is_no_directory(name: str) -> None:
    """The name becomes that of a directory below runs/, and of nothing else."""
    with pytest.raises(ValidationError):
        RunSettings.model_validate({**FULL, "name": name})


@given(st.text() | st.binary())
def test_no_override_breaks_anything(override: str | bytes) -> None:
    """Any --set is taken or refused with its text; none is a traceback."""
    text = override if isinstance(override, str) else override.decode("latin-1")
    for given_ in (text, f"name={text}", f"domains.{text}=1", f"domains.0.{text}=[1]"):
        try:
            config._override(copy.deepcopy(FULL), given_)
        except ConfigError as error:
            assert "--set" in str(error)  # noqa: PT017 - it may well be taken


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("domains.1.name=b", "not a position in a list of 1"),
        ("domains.-1.name=b", "not a position"),
        ("domains.name=b", "not a position"),
        ("domains.0.tasks.7=b", "not a position in a list of 1"),
        ("seed", "write it as name=value"),
        (" =1", "write it as name=value"),
        ("seed.deep=1", "seed holds a value"),
        ("name=2026-99-99", "not valid YAML"),
        ("name=" + "[" * 1200, "not valid YAML"),
    ],
)
def test_a_wrong_override_says_why(tmp_path: Path, override: str, says: str) -> None:
    """Positions that are not there, values that hold nothing, texts that are not YAML."""
    with pytest.raises(ConfigError, match=says) as caught:
        config.load(written(tmp_path, yaml.safe_dump({**FULL, "seed": 3})), [override])
    assert str(caught.value).startswith("--set ")


@pytest.mark.parametrize(
    ("overrides", "changes", "begins"),
    [
        ((), {"endpoint": "localhost:8101"}, "--endpoint: an endpoint is an http:// or https:// URL: write http://localhost:8101"),
        ((), {"endpoint": ["http://a/v1", "nowhere"]}, "--endpoint: an endpoint is an http:// or https:// URL"),
        ((), {"endpoint": "http://a/v1", "concurrency": 0}, "--concurrency: input should be greater"),
        ((), {"targets": {"examples": -1}}, "--max-examples: "),
        ((), {"targets": {"token_budget": "much"}}, "--token-budget: "),
        ((), {"window": -1}, "--window: "),
        (["generation.per_request=0"], {}, "--set generation.per_request: input should be greater"),
        (["filters={thresold: 1}"], {}, "--set filters: thresold: unknown key; did you mean threshold?"),
        (["prompts=nowhere"], {}, "--set prompts: "),
        (["prompts=s3://a/b"], {}, "--set prompts: s3://a/b: a URL cannot be used here"),
        ((), {"generation": {"per_request": 0}}, "generation.per_request: "),
        ((), {"shard": "3/2"}, "--shard: 3 of 2 is not one of them"),
        (["checks=[{name: a, function: 'a:b'}, {name: a, function: 'a:b'}]"], {}, "--set checks: two have the same name"),
    ],
)  # fmt: skip
def test_a_fault_of_an_option_names_the_option(
    tmp_path: Path, overrides: list[str], changes: dict[str, Any], begins: str
) -> None:
    """And not the config, which is without fault; beside a fault of the config both are told."""
    path = written(tmp_path, "domains: [{name: a}]\ntargets: {examples: 3}\noperation: {endpoints: []}\n")
    with pytest.raises(ConfigError) as caught:
        config.load(path, overrides, **changes)
    assert str(caught.value).startswith(begins)
    assert str(path) not in str(caught.value)


@pytest.mark.parametrize(
    ("load", "says"),
    [
        (lambda: config.load_revision("answer", {}, vote=True), "--vote: it needs several answers; give --answers N"),
        (
            lambda: config.load_revision("answer", {}, vote=True, answers_per_instruction=2, judge={"threshold": 3}),
            "--vote: with a judge its scores choose the output; leave out one of both",
        ),
        (
            lambda: config.load_revision("rate", {}, ["models.answer=b"], judge={"threshold": 3}),
            "--set models.answer: rate asks for no answers",
        ),
        (lambda: config.load_comparison(judges=["a", "a"]), "--judge: one is there twice; name each model once"),
    ],
)
def test_an_option_that_does_not_fit_the_others_is_named(load: Callable[[], object], says: str) -> None:
    """Nothing stands before its name: the commands on answers have no config that a user could look into."""
    with pytest.raises(ConfigError) as caught:
        load()
    assert str(caught.value) == says


def test_a_setting_that_does_not_fit_the_others_is_named_in_its_group(tmp_path: Path) -> None:
    """The message has the file, then the whole name of the setting, wherever the fault is found."""
    path = written(tmp_path, "domains: [{name: a}, {name: A}]\ntargets: {examples: 3, per_task: []}\n")
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert str(caught.value).splitlines() == [f"{path}:", "  targets.per_task: give at least one number"]
    with pytest.raises(ConfigError) as caught:
        config.load(path, ["targets.per_task=3"])
    assert str(caught.value).splitlines() == [
        f"{path}:",
        "  domains: two have the same name; give each a name of its own",
    ]


def test_faults_of_the_config_and_of_an_option(tmp_path: Path) -> None:
    """Each is told in its place."""
    path = written(tmp_path, "domains: [{name: a}]\ntargets: {examples: 3}\nseed: x\n")
    with pytest.raises(ConfigError) as caught:
        config.load(path, endpoint="localhost:1")
    first, second, third = str(caught.value).splitlines()
    assert (first, second.split(":")[0]) == (f"{path}:", "  seed")
    assert third.startswith("--endpoint: ")


def test_overrides_fill_what_is_empty(tmp_path: Path) -> None:
    """An override goes below a key without a value, in mappings and lists; the later of two wins; = may be in it."""
    path = written(tmp_path, "domains: [null]\ntargets:\n")
    settings = config.load(path, ["domains.0.name=x=y", "targets.examples=3", "targets.examples=4", "seed= 5"])
    assert (settings.domains[0].name, settings.targets.examples, settings.seed) == ("x=y", 4, 5)


def test_changes_of_the_command_line() -> None:
    """None leaves the file's value, a mapping of Nones touches nothing, and endpoints replace what the file asks or starts."""
    plain = config.load("quickstart")
    same = config.load("quickstart", seed=None, operation={"wall_time_s": None}, targets={"examples": None})
    assert same == plain
    more = config.load("quickstart", seed=plain.seed + 1, targets={"examples": 77}, endpoint="http://a/v1")
    assert (more.seed, more.targets.examples, more.domains) == (plain.seed + 1, 77, plain.domains)
    assert plain.operation.server is not None
    assert more.operation.server is None
    two = config.load("quickstart", endpoint=["http://a/v1", "http://b/v1"], concurrency=7).operation.endpoints
    assert [(endpoint.url, endpoint.concurrency) for endpoint in two] == [("http://a/v1", 7), ("http://b/v1", 7)]


@pytest.mark.parametrize("wrong", ["quickstrt", "mathematic", "./mathematics.yml"])
def test_a_missing_config_suggests_a_preset(wrong: str) -> None:
    """A name that is neither file nor preset gets the preset that was meant, and the list of all."""
    meant = "quickstart" if wrong.startswith("q") else "mathematics"
    with pytest.raises(ConfigError, match=f"did you mean {meant}.*presets are") as caught:
        config.load(wrong)
    assert "template" not in str(caught.value)


def test_a_folder_of_prompts_lies_beside_its_config(tmp_path: Path) -> None:
    """The folder is looked for beside the file, wherever one stands; what is no UTF-8 there is named."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "lookahead.j2").write_bytes(b"[user]\r\n{{ task }}\r\n")
    path = written(tmp_path, yaml.safe_dump({**FULL, "prompts": "own"}))
    assert config.load(path).prompts == {"lookahead": "[user]\n{{ task }}\n"}
    (tmp_path / "own" / "lookahead.j2").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="own"):
        config.load(path)


def test_annotations_are_looked_into() -> None:
    """The table above is found by types: a settings model hides behind a tuple, an Annotated or a None all the same."""
    found = {name for name in leaves(RunSettings) if name.count(".") > 1}
    assert {"domains.0.tasks.0.name", "operation.server.slots", "sampling.generation.stop"} <= found
    assert get_args(RunSettings.model_fields["domains"].annotation)
