"""The command train: rows in, a folder with a model out. Torch is loaded once the data is read."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explore_async.curation.collections.collection import Collection
from explore_async.curation.selection import Marked
from explore_async.errors import ConfigError
from explore_async.storage.whole_files import replacing_directory, storage_errors, write_whole
from explore_async.terminal.counts import counted
from explore_async.training.card import make_card
from explore_async.training.examples import Rows, left_out, training_rows, with_input_below
from explore_async.training.extra import is_main_process, need_extra
from explore_async.training.folder import TrainingFolder, digest_of_model
from explore_async.training.intervals import difference, ratio
from explore_async.training.recipe import (
    EPOCHS,
    LEARNING_RATES,
    LORA_RANK,
    MEASURED,
    PRESETS,
    Method,
    PresetName,
    Recipe,
    TooLong,
    steps_of,
)
from explore_async.training.tokens import Encoded, Fitted, encode, fit
from explore_async.training.watch import Watch

if TYPE_CHECKING:
    from explore_async.training.tune import Trained


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The settings of a training as they were asked for; None is what the preset, or the method, has."""

    model: str
    model_revision: str = ""
    preset: PresetName = "chat"
    method: Method | None = None
    lora_rank: int | None = None
    learning_rate: float | None = None
    batch_size: int | None = None
    max_length: int | None = None
    too_long: TooLong = "stop"
    epochs: float | None = None
    steps: int | None = None
    every: int | None = None
    seed: int = 0
    marked: Marked = "not-bad"
    validation: float = 0.0
    adapter: bool = False
    more: Mapping[str, Any] = field(default_factory=dict)
    at_once: int | None = None
    """Examples that a device takes at once: no setting of the recipe."""


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A recipe, the tokenizer with its template, and the rows in tokens."""

    recipe: Recipe
    tokenizer: Any
    train: Sequence[Encoded]
    held_out: Sequence[Encoded]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a start: the result where the training has ended, else the step at which it stopped."""

    result: Mapping[str, Any] | None
    step: int
    steps: int


def train(
    source: Collection,
    held_out: Collection | None,
    out: Path,
    wanted: Wanted,
    watch: Watch,
    *,
    command: Sequence[str],
    only_count: bool = False,
) -> Outcome:
    """Trains, and writes the model, its tokenizer, a card and training.json to `out`; the same call goes on.

    Raises ConfigError for settings that do not fit, DataError for a fault in a row, StorageError for what cannot be
    written, SystemLimit where memory ends.
    """
    need_extra("train")
    if wanted.adapter and _method(wanted) != "lora":
        raise ConfigError("--adapter: only --method lora has an adapter")
    digest = digest_of_model(wanted.model)
    folder = TrainingFolder(out)
    found = folder.read()  # refuses the folder of something else before the work begins
    rows, apart = training_rows(
        source, share=wanted.validation, held_out=held_out, seed=wanted.seed, marked=wanted.marked
    )
    _tell_rows(rows, apart, watch)
    prepared = _prepared(wanted, digest, rows, apart, watch)
    recipe = prepared.recipe
    if only_count:
        return Outcome(None, 0, recipe.steps)
    if not is_main_process():
        if found is not None and found["result"] is not None:  # then the main process trains nothing
            return Outcome(None, recipe.steps, recipe.steps)
        return Outcome(None, _trained(prepared, folder, wanted, watch).step, recipe.steps)
    with folder.entered():
        if (result := folder.begin(recipe, shlex.join(["explore-async", *command]))) is not None:
            folder.tidy()
            watch.say("this training has ended before")
            return Outcome(result, recipe.steps, recipe.steps)
        trained = _trained(prepared, folder, wanted, watch)
        if trained.is_stopped:
            return Outcome(None, trained.step, recipe.steps)
        result = _result(trained, prepared)
        watch.progress("saving the model", recipe.steps, recipe.steps)
        _place(prepared, trained, folder, make_card(recipe, result, source, shown(command)))
        folder.finish(recipe, shlex.join(["explore-async", *command]), result)
        return Outcome(result, recipe.steps, recipe.steps)


def _method(wanted: Wanted) -> Method:
    return wanted.method or PRESETS[wanted.preset].method


def _tell_rows(rows: Rows, apart: Rows | None, watch: Watch) -> None:
    held_out = "none held out" if apart is None else f"{len(apart.turns):,} held out"
    told = left_out(*(part for part in (rows, apart) if part is not None))
    watch.say(f"{counted(len(rows.turns), 'row')} to train on, {held_out}{told}")


def _prepared(wanted: Wanted, digest: str, rows: Rows, apart: Rows | None, watch: Watch) -> _Prepared:
    """Raises ConfigError for rows that are too long, unless told what to do with them."""
    from explore_async.training import models

    models.quiet()
    preset = PRESETS[wanted.preset]
    tokenizer = models.load_tokenizer(wanted.model, wanted.model_revision)
    models.use_template(tokenizer, wanted.model, preset.template)
    max_length = wanted.max_length or preset.max_length
    context = getattr(models.load_config(wanted.model, wanted.model_revision), "max_position_embeddings", None)
    if context is not None and max_length > context:
        if wanted.max_length is not None:
            raise ConfigError(f"--max-length {max_length}: the model takes {context} tokens at most")
        max_length = context

    def tokens(one: Rows | None, what: str) -> Sequence[Encoded]:
        if one is None:
            return ()
        turns = one.turns if preset.template == "alpaca" else map(with_input_below, one.turns)
        fitted = fit(list(encode(turns, tokenizer)), max_length, wanted.too_long, what)
        _tell_tokens(fitted, what, max_length, wanted.too_long, watch)
        return fitted.rows

    train_rows, held_out_rows = tokens(rows, "training"), tokens(apart, "held-out")
    method = _method(wanted)
    batch_size = wanted.batch_size or preset.batch_size
    steps = wanted.steps or steps_of(len(train_rows), batch_size, wanted.epochs or EPOCHS)
    recipe = Recipe(
        model=wanted.model,
        model_revision=wanted.model_revision,
        model_digest=digest,
        preset=wanted.preset,
        template=preset.template,
        method=method,
        lora_rank=(wanted.lora_rank or LORA_RANK) if method == "lora" else None,
        learning_rate=wanted.learning_rate or LEARNING_RATES[method],
        batch_size=batch_size,
        max_length=max_length,
        too_long=wanted.too_long,
        steps=steps,
        every=wanted.every or max(1, steps // MEASURED),
        seed=wanted.seed,
        data=rows.data,
        held_out=None if apart is None else apart.data,
        adapter=wanted.adapter,
        more=dict(wanted.more),
    )
    return _Prepared(recipe, tokenizer, train_rows, held_out_rows)


def _tell_tokens(fitted: Fitted, what: str, max_length: int, too_long: TooLong, watch: Watch) -> None:
    tokens = sum(len(row.ids) for row in fitted.rows)
    learned = sum(row.learned_tokens for row in fitted.rows)
    told = f"{what} rows: {tokens:,} tokens, {learned:,} of them in answers; the longest row has {fitted.longest:,}"
    if fitted.cut:
        told += f"; {fitted.cut:,} are cut to {max_length}, without the mark that ends their answer"
    if fitted.skipped:
        why = "their answer begins beyond that" if too_long == "cut" else f"longer than {max_length}"
        told += f"; {fitted.skipped:,} left out: {why}"
    watch.say(told)
    if unlearned := sum(row.turns_left_out for row in fitted.rows):
        watch.say(
            f"{unlearned:,} answers in the middle of conversations are not learned: the template rewrites them later"
        )


def _trained(prepared: _Prepared, folder: TrainingFolder, wanted: Wanted, watch: Watch) -> Trained:
    from explore_async.training.tune import tune

    recipe = prepared.recipe
    how = f"LoRA of rank {recipe.lora_rank}" if recipe.method == "lora" else "all weights"
    watch.say(f"{recipe.steps:,} steps of {recipe.batch_size}, learning rate {recipe.learning_rate:g}, {how}")
    with storage_errors(folder.checkpoints):
        folder.checkpoints.mkdir(parents=True, exist_ok=True)
    rows = (prepared.train, prepared.held_out)
    return tune(recipe, prepared.tokenizer, *rows, folder, at_once=wanted.at_once, watch=watch)


def _result(trained: Trained, prepared: _Prepared) -> dict[str, Any]:
    from explore_async.training.models import sizes

    losses = [
        {
            "step": line["step"],
            "loss": round(line["held_out_loss"], 4),
            "interval": [round(line["held_out_low"], 4), round(line["held_out_high"], 4)],
        }
        for line in trained.log
        if "held_out_loss" in line
    ]
    training = [(line["step"], line["loss"]) for line in trained.log if "loss" in line]
    result: dict[str, Any] = {
        "steps": trained.step,
        "seconds": max((line.get("seconds", 0.0) for line in trained.log), default=0.0),
        "rows": len(prepared.train),
        "learned_tokens": sum(row.learned_tokens for row in prepared.train),
        "training_loss": {str(step): round(loss, 4) for step, loss in training},
        "held_out": None,
        "versions": _versions(),
    }
    if trained.costs is not None:
        size = sizes(prepared.held_out)
        before, after = trained.costs
        result["held_out"] = {
            "rows": len(prepared.held_out),
            "learned_tokens": int(size.sum()),
            "before": ratio(before, size).document(),
            "after": ratio(after, size).document(),
            "difference": difference(after, size, before, size).document(),
            "during": losses,
        }
    return result


def _place(prepared: _Prepared, trained: Trained, folder: TrainingFolder, card: str) -> None:
    """Puts the files in their places."""
    from explore_async.training.tune import save

    ready = folder.checkpoints / "model"
    with replacing_directory(ready) as place:
        save(prepared.recipe, prepared.tokenizer, trained.checkpoint, place)
        write_whole(place / "README.md", card.encode())
    with storage_errors(folder.path):
        for path in sorted(ready.iterdir()):
            path.replace(folder.path / path.name)


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name).partition("+")[0] for name in ("torch", "transformers", "trl", "peft", "accelerate")}


def shown(command: Sequence[str]) -> str:
    """The command for a card: without the folders of this machine, and without what only tells."""
    parts = (Path(part).name if os.sep in part and Path(part).exists() else part for part in command)
    return shlex.join(["explore-async", *(part for part in parts if part not in {"--json", "--quiet", "-q"})])
