"""The model card of a training. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from explore_async.curation.card_facts import citation, writer
from explore_async.curation.card_text import escape, fenced, section, table, yaml_text
from explore_async.curation.collections.collection import Collection
from explore_async.terminal.counts import counted
from explore_async.training.recipe import WARM_UP, Data, Recipe


def make_card(recipe: Recipe, result: Mapping[str, Any], source: Collection, command: str) -> str:
    """README.md of the folder: what the model is, what it learned from, what came of it, and how to make it again."""
    return "\n".join(_parts(recipe, result, source, command)).rstrip("\n") + "\n"


def _parts(recipe: Recipe, result: Mapping[str, Any], source: Collection, command: str) -> Iterator[str]:
    yield f"---\n{yaml_text(_header(recipe, source))}---\n"
    yield f"# {escape(_model_name(recipe))}, fine-tuned on {escape(source.name)}\n"
    if source.is_simulated:
        yield ("**Trained on texts that a simulated server put together at random: for practice, never for use.**\n")
    how = f"LoRA of rank {recipe.lora_rank}" if recipe.method == "lora" else "all weights trained"
    what = "Its adapter" if recipe.adapter else "The whole model, with the adapter merged into it,"
    here = f" {what} is here." if recipe.method == "lora" else ""
    whose = f"{escape(_model_name(recipe))} after supervised fine-tuning on the answers of {_rows(recipe.data)}"
    yield f"{whose} ({how}).{here}\n"
    yield from section("What it learned from", table(_data(recipe, result, source)))
    yield from section("Held-out loss", _losses(result))
    yield from section("How it was trained", table(_training(recipe, result)))
    yield from section("How to ask it", _asking(recipe))
    yield from section("Making it again", _again(command, result))
    if source.recipe:
        yield from section("Citation", citation(source, ""))


def _header(recipe: Recipe, source: Collection) -> dict[str, Any]:
    is_explored = bool(source.recipe)
    header: dict[str, Any] = {
        "library_name": "peft" if recipe.adapter else "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["sft", "trl", *(["lora"] if recipe.adapter else []), *(["explore-instruct"] if is_explored else [])],
    }
    if not recipe.model_digest:
        header = {"base_model": recipe.model, **header}
    return header


def _model_name(recipe: Recipe) -> str:
    """The name on a hub, or that of the folder without the folders of this machine above it."""
    return Path(recipe.model).name if recipe.model_digest else recipe.model


def _rows(data: Data) -> str:
    return f"{counted(data.rows, 'row')} of `{escape(data.name)}`"


def _data(recipe: Recipe, result: Mapping[str, Any], source: Collection) -> Iterator[tuple[str, Any]]:
    yield "dataset", recipe.data.name
    if source.recipe:
        yield "written by", writer(source)
        yield "digest of its recipe", source.config.get("digest")
    yield "rows", f"{result['rows']:,}"
    yield "tokens of answers", f"{result['learned_tokens']:,}"
    yield "SHA-256 of the rows", recipe.data.digest
    if recipe.held_out is not None:
        yield "held out", f"{recipe.held_out.rows:,} rows of {recipe.held_out.name}"
        yield "SHA-256 of the held-out rows", recipe.held_out.digest
    yield "longer rows", f"{_TOO_LONG[recipe.too_long]} (more than {recipe.max_length} tokens)"


_TOO_LONG = {"stop": "none", "cut": "their end is cut off", "skip": "left out"}


def _losses(result: Mapping[str, Any]) -> Iterator[str]:
    held_out = result["held_out"]
    if held_out is None:
        return
    yield (
        f"Of the answers of {counted(held_out['rows'], 'row')} that it was not trained on, in nats per token, with "
        "bootstrap intervals of 95 % over rows.\n"
    )
    yield "| step | loss | interval |\n|---:|---:|---|"
    yield from (
        f"| {line['step']} | {line['loss']:.4f} | {line['interval'][0]:.4f} to {line['interval'][1]:.4f} |"
        for line in held_out["during"]
    )
    low, high = held_out["difference"]["interval"]
    yield f"\nAfter minus before: {held_out['difference']['value']:+.4f} ({low:+.4f} to {high:+.4f}).\n"


def _training(recipe: Recipe, result: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield "base model", _model_name(recipe)
    yield "its revision", recipe.model_revision
    yield "SHA-256 of its files", recipe.model_digest
    yield "template", "Alpaca's" if recipe.template == "alpaca" else "the chat template of the base model"
    yield "loss", "of the answers alone"
    yield "method", f"LoRA, rank {recipe.lora_rank}" if recipe.method == "lora" else "all weights"
    yield "steps", f"{recipe.steps:,} of {recipe.batch_size} examples"
    schedule = f"cosine, after a warm-up of {WARM_UP:.0%} of the steps"
    yield "learning rate", f"at most {recipe.learning_rate:g}, AdamW; {schedule}"
    yield "longest row", f"{recipe.max_length:,} tokens"
    yield "seed", recipe.seed
    for name, value in recipe.more.items():
        yield f"TRL's {name}", value
    yield "time", f"{result['seconds']:,.0f} s"
    yield "with", ", ".join(f"{name} {version}" for name, version in result["versions"].items())


def _asking(recipe: Recipe) -> Iterator[str]:
    if recipe.adapter:
        yield fenced(f"vllm serve {_model_name(recipe)} --enable-lora --lora-modules trained=THIS_FOLDER", "shell")
    else:
        yield fenced("vllm serve THIS_FOLDER", "shell")
    if recipe.template == "alpaca":
        yield (
            "Its chat template is Alpaca's, so that chat requests reach it in the form that it was trained on. In a "
            "completion request write the template yourself.\n"
        )


def _again(command: str, result: Mapping[str, Any]) -> Iterator[str]:
    versions = " ".join(f"{name}=={version}" for name, version in result["versions"].items())
    yield fenced(f"pip install 'explore-async[train]' {versions}\n{command}", "shell")
    yield "The same rows have the digests above. On other hardware the last digits of the figures differ.\n"
