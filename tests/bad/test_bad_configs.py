"""Configs that are none, nearly one, or strange ones: taken, or refused as documented; what is taken can be tried."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from support.damage import altered, attempted, cases, damaged, deep, in_json, in_yaml, texts, values

from explore_async.config import load as config
from explore_async.config.endpoints_file import read_endpoints
from explore_async.errors import ConfigError
from explore_async.serving.endpoints.values import normalise_url

FULL: dict[str, Any] = yaml.safe_load("""
name: full
description: all there is
seed: 3
model: m
models: {lookahead: n}
language: English
answer_format: json
window: 64
lag: 4
domains:
  - name: Look after a garden
    description: plants
    topics: [roses, soil]
    styles: [short]
    tasks: [{name: Prune, reason: r, examples: [{instruction: a b c, input: d, output: e}], tasks: [{name: Cut}]}]
    examples: [{instruction: Say when to prune roses, output: In late winter.}]
exploration: {depth: 2, breadth: [4, 3], step: 2, attempts: 2, order: depth_first}
generation: {per_request: 3, demonstrations: 1, inputs: true, exhausted_after: 3, exhausted_below: 0.1}
targets: {examples: 20, per_task: [3, 2], token_budget: 100000}
filters: {threshold: 0.7, task_threshold: 0.7, scope: run, tokenizer: auto, min_instruction_words: 3, max_instruction_words: 400,
  min_output_words: 1, max_output_words: 4000, max_repetition: 0.5, refusals: true, placeholders: true, missing_inputs: true, language: false,
  copies: true, banned_words: [nope]}
sampling:
  exploration: {temperature: 1.0, top_p: 1.0, max_tokens: 512, stop: [x]}
  generation: {temperature: 1.0, top_p: 1.0, max_tokens: 512}
extra_body: {a: {b: [1, null]}}
prompts: {generate: "[user]\\nWrite about {{ task }}, {{ count }} times."}
against: [{path: known.jsonl, field: instruction}]
operation:
  endpoints: [{url: 'http://x', concurrency: 3, weight: 1.0, api_key_env: KEY, requests_per_minute: 9, tokens_per_minute: 9, model: m}]
  endpoints_file: list.yaml
  server: {engine: vllm, model: m, slots: 3, context_tokens: 512, vllm: {dtype: auto, tensor_parallel: 1, args: [--a]}}
  retries: {attempts: 3, first_wait_s: 0.5, longest_wait_s: 30}
  stall_s: 600
  wall_time_s: 60
  durability: normal
  retry_failed: false
  report: true
  spacy_model: en
""")
SMALL = {"domains": [{"name": "a"}], "targets": {"examples": 5}, "exploration": {"depth": 1, "breadth": [2]}}
PRESETS = [path.read_bytes() for path in config.presets().values()]


def tried(folder: Path, *more: str) -> None:
    result = attempted("run", folder / "c.yaml", "--dry-run", *more, among=folder)
    assert result.code in {0, 2}, result
    if result.code == 2:
        assert "c.yaml" in result.stderr or "prompts" in result.stderr or "--set" in result.stderr, result


@cases(50)
@given(altered(FULL, values | deep))
def test_any_value_in_any_place(tmp_path: Path, document: Any) -> None:
    """Any key of a full config gets any value, goes, is called otherwise or is there twice."""
    (tmp_path / "c.yaml").write_bytes(in_yaml(document))
    tried(tmp_path)


@cases(40)
@given(st.sampled_from([*PRESETS, yaml.safe_dump(FULL).encode()]).flatmap(damaged))
def test_any_text(tmp_path: Path, content: bytes) -> None:
    """The text of a config with any damage."""
    (tmp_path / "c.yaml").write_bytes(content)
    tried(tmp_path)


SETTINGS = ["seed", "domains.0.name", "domains.7.name", "exploration.breadth", "extra_body.a", "operation", "operation.endpoints.0.url", "targets.examples", "filters.threshold", "window", "prompts", "against", "domains"]  # fmt: skip


@cases(40)
@given(st.sampled_from(SETTINGS) | texts, altered({"a": [1, None]}).map(lambda one: in_json(one).decode()) | texts)
def test_any_override(tmp_path: Path, name: str, value: str) -> None:
    """Any --set."""
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(SMALL))
    tried(tmp_path, "--set", f"{name}={value}")


@cases(40)
@given(st.sampled_from(["lookahead", "backtrack", "generate"]), st.sampled_from([
    b"[system]\nYou.\n[user]\n{% for one in demonstrations %}{{ one.instruction }}{% endfor %} {{ task|upper }} {{ [one]|as_json }}",
    b"[user]\n{% macro a(x) %}{{ x }}{% endmacro %}{{ a(count / 2) }}{% set b = namespace(c=1) %}{{ existing|join(',') }}{{ 'a' * count }}",
    b"[user]\n{{ count ** 9 }}{{ range(count)|list }}{% include 'x' %}{{ task.format(1) }}{{ topic[0] }}{% raw %}{{ {% endraw %}",
]).flatmap(damaged))  # fmt: skip
def test_any_template(tmp_path: Path, kind: str, content: bytes) -> None:
    """A folder of prompts with anything in it."""
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({**SMALL, "prompts": "own"}))
    shutil.rmtree(tmp_path / "own", ignore_errors=True)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / f"{kind}.j2").write_bytes(content)
    tried(tmp_path)


@cases(40)
@given(
    altered([{"url": "http://x", "concurrency": 3, "weight": 1.0, "model": {"a": "b"}}, "http://y/v1"]).map(in_yaml)
    | damaged(b"- http://x\n- url: http://y\n  weight: 2\n")
)
def test_any_list_of_endpoints(tmp_path: Path, content: bytes) -> None:
    """A file of endpoints is read, or named with what is wrong in it."""
    path = tmp_path / "list.yaml"
    path.write_bytes(content)
    try:
        assert read_endpoints(path)
    except ConfigError as error:
        assert str(error).startswith(f"{path}: ")  # noqa: PT017 - it may well be taken


NINE = ", ".join(["*a{}"] * 9)
BOMB = "".join(f"  a{n}: &a{n} [{NINE.replace('{}', str(n - 1))}]\n" for n in range(1, 9))
MERGED = "".join(f"  a{n}: &a{n} {{<<: [{NINE.replace('{}', str(n - 1))}]}}\n" for n in range(1, 9))


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (f"extra_body:\n  a0: &a0 [1]\n{BOMB}", "its aliases stand for"),
        (f"extra_body:\n  a0: &a0 {{b: 1}}\n{MERGED}", "its aliases stand for"),
        ("window: 0x" + "f" * 5000, "a number of thousands of digits"),
        ("name: 0x" + "f" * 5000, "a number of thousands of digits"),
        ("extra_body: {a: .nan}", "extra_body.a"),
        ("extra_body: {a: " + "[" * 252 + "]" * 252 + "}", "cannot be written as JSON"),
        (f"seed: {10**30}", "seed: cannot be written as JSON: Integer exceeds 64-bit"),
        (f"lag: {10**30}", "lag: cannot be written"),
        (f"generation: {{exhausted_after: {10**30}}}", "generation.exhausted_after: cannot be written"),
        (f"operation: {{retries: {{attempts: {10**30}}}}}", "operation.retries.attempts: cannot be written"),
        (f"extra_body: {{a: [1, {{b: {10**30}}}]}}", "extra_body.a.1.b: cannot be written"),
        ("operation: {endpoints: [{url: 'http://x', weight: .inf}]}", "finite"),
        ('against: ["a\\0b"]', "against.0.path"),
        ('operation: {endpoints_file: "a\\0b"}', "operation.endpoints_file"),
        ('operation: {spacy_model: "a\\0b"}', "operation.spacy_model"),
        ('operation: {server: {vllm: {args: ["a\\0b"]}}}', "operation.server.vllm.args.0"),
    ],
)  # fmt: skip
def test_what_once_went_through(tmp_path: Path, more: str, says: str) -> None:
    """Aliases that unfold without end, numbers that Python does not print, values that no request, no file and no
    program's argument can hold: refused where they are read.
    """
    (tmp_path / "c.yaml").write_text(f"{yaml.safe_dump(SMALL)}{more}\n")
    result = attempted("run", tmp_path / "c.yaml", "--dry-run", among=tmp_path)
    assert result.code == 2
    assert says in result.stderr


@pytest.mark.parametrize("host", ["a" * 300, "..", "a..b"])
def test_a_host_that_cannot_be_looked_up(host: str) -> None:
    """A name that no resolver takes is refused as a URL, before anything is looked up."""
    with pytest.raises(ConfigError, match="URL is not valid"):
        normalise_url(f"http://{host}/v1")


@cases(10)
@given(altered(SMALL, st.integers(-1, 30) | values))
def test_plans_of_any_config(tmp_path: Path, document: Any) -> None:
    """Every valid config can be rehearsed, whatever its numbers."""
    (tmp_path / "c.yaml").write_bytes(in_yaml(document))
    assert attempted("plan", tmp_path / "c.yaml", "--json", among=tmp_path).code in {0, 2}
