"""Trains by TRL's SFTTrainer and PEFT, from a checkpoint where there is one. Needs the extra `train`."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import datasets
import numpy as np
import orjson
import torch
from accelerate.utils import gather_object
from peft import LoraConfig, PeftModel
from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer

from explore_async.errors import ConfigError, SystemLimit
from explore_async.storage.whole_files import storage_errors, write_json
from explore_async.training import models
from explore_async.training.extra import is_main_process, processes
from explore_async.training.folder import COMPLETE, TrainingFolder
from explore_async.training.intervals import Values, ratio
from explore_async.training.recipe import Recipe, batches_of
from explore_async.training.tokens import Encoded
from explore_async.training.watch import Watch

_NOT_LEARNED: Final = -100
_AT_ONCE: Final = {"cuda": 8}
_AT_ONCE_ELSEWHERE: Final = 4
_STATE: Final = "trainer_state.json"


@dataclass(frozen=True, slots=True)
class Trained:
    """The end of a training."""

    step: int
    checkpoint: Path
    log: Sequence[Mapping[str, Any]]
    """What was measured, in the order of the steps."""
    costs: tuple[Values, Values] | None
    """Of each held-out row before the first step and after the last; None before the end, or where none is held out."""
    is_stopped: bool


class _Trainer(SFTTrainer):  # type: ignore[misc]
    """SFTTrainer whose held-out loss is that of all learned tokens together, with its interval."""

    def __init__(
        self, *, rows: Sequence[Encoded], folder: TrainingFolder, watch: Watch, earlier: float, **given: Any
    ) -> None:
        super().__init__(**given)
        self._rows, self._folder, self._watch = rows, folder, watch
        self._began = time.monotonic() - earlier

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        logs["seconds"] = round(time.monotonic() - self._began, 1)
        super().log(logs, start_time)

    def evaluate(self, *_args: Any, **_options: Any) -> dict[str, float]:
        step, steps = self.state.global_step, self.state.max_steps
        pad = self.processing_class.pad_token_id

        def show(done: int) -> None:
            self._watch.progress(f"step {step} of {steps}: {done:,} held-out rows measured", step, steps)

        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        found = models.row_costs(self.model_wrapped, self._rows, pad, part=rank, parts=world, on_row=show)
        costs = np.zeros(len(self._rows))
        for place, cost in gather_object(found):
            costs[place] = cost
        loss = ratio(costs, models.sizes(self._rows))
        if is_main_process():
            if step in {0, steps}:
                write_json(_costs_file(self._folder, step), costs.tolist())
            self._watch.say(f"held-out loss at step {step} of {steps}: {loss.text()}")
        metrics = {"held_out_loss": loss.value, "held_out_low": loss.low, "held_out_high": loss.high}
        self.log(dict(metrics))
        self.control: Any = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


class _Steps(TrainerCallback):  # type: ignore[misc]
    """Shows each step, stops when asked to, and marks a checkpoint that is whole."""

    def __init__(self, folder: TrainingFolder, watch: Watch) -> None:
        self._folder, self._watch = folder, watch
        self._first: tuple[float, int] | None = None
        self.is_stopped = False
        self.trainer: Any = None

    def on_step_begin(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        if self._first is None:
            self._first = (time.monotonic(), state.global_step)

    def on_step_end(self, _args: Any, state: Any, control: Any, **_: Any) -> Any:
        is_last = state.global_step >= state.max_steps
        if not is_last and self._all_agree():
            self.is_stopped = control.should_training_stop = True
        control.should_save = control.should_save or is_last or self.is_stopped
        if is_last and self.trainer.eval_dataset is not None:
            control.should_evaluate = True
        return control

    def on_log(self, _args: Any, state: Any, _control: Any, logs: Mapping[str, Any], **_: Any) -> None:
        if "loss" not in logs or self._first is None:
            return
        began, first = self._first
        each = (time.monotonic() - began) / max(1, state.global_step - first)
        left = each * (state.max_steps - state.global_step)
        self._watch.progress(
            f"step {state.global_step} of {state.max_steps}: loss {logs['loss']:.3f}, {each:.1f} s a step, "
            f"{left / 60:.0f} min left",
            state.global_step,
            state.max_steps,
        )

    def on_save(self, args: Any, state: Any, _control: Any, **_: Any) -> None:
        if is_main_process():
            place = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            (place / COMPLETE).touch()

    def _all_agree(self) -> bool:
        """True in all processes where any of them is asked to stop."""
        mine = self._watch.is_stopping()
        return mine if processes() == 1 else any(gather_object([mine]))


def tune(
    recipe: Recipe,
    tokenizer: Any,
    train: Sequence[Encoded],
    held_out: Sequence[Encoded],
    folder: TrainingFolder,
    *,
    at_once: int | None,
    watch: Watch,
) -> Trained:
    """Trains to the end, or until asked to stop. Raises ConfigError for settings that do not fit, SystemLimit."""
    latest = folder.latest()
    if latest is not None and latest[0] >= recipe.steps:
        return _ended(recipe, folder, latest[1], is_stopped=False)
    earlier = 0.0
    if is_main_process():
        for path in folder.checkpoints.glob("checkpoint-*"):
            if latest is None or path != latest[1]:
                shutil.rmtree(path, ignore_errors=True)  # a half one, or one before the latest
    if latest is not None:
        watch.say(f"goes on from step {latest[0]} of {recipe.steps}")
        earlier = max((line.get("seconds", 0.0) for line in _log(latest[1])), default=0.0)
    arguments = _arguments(recipe, folder, held_out=bool(held_out), at_once=at_once, is_new=latest is None)
    use_bf16 = models.is_quicker_in_bf16()
    dtype = torch.bfloat16 if use_bf16 and recipe.method == "lora" else torch.float32
    steps = _Steps(folder, watch)
    trainer = _Trainer(
        rows=held_out,
        folder=folder,
        watch=watch,
        earlier=earlier,
        model=models.load_model(recipe.model, recipe.model_revision, dtype),
        args=arguments,
        train_dataset=_dataset(train),
        eval_dataset=_dataset(held_out) if held_out else None,
        processing_class=tokenizer,
        peft_config=_lora(recipe),
        callbacks=[steps],
    )
    steps.trainer = trainer
    if trainer.is_fsdp_enabled:
        trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")  # a checkpoint is a model
    for callback in list(trainer.callback_handler.callbacks):
        if type(callback).__name__ in {"PrinterCallback", "ProgressCallback"}:
            trainer.remove_callback(callback)
    try:
        trainer.train(resume_from_checkpoint=None if latest is None else str(latest[1]))
    except torch.OutOfMemoryError as error:
        raise SystemLimit(
            "memory of the accelerator (--method lora, a smaller --device-batch-size or --max-length need less)"
        ) from error
    last = folder.checkpoints / f"checkpoint-{trainer.state.global_step}"
    return _ended(recipe, folder, last, is_stopped=steps.is_stopped)


def save(recipe: Recipe, tokenizer: Any, checkpoint: Path, place: Path) -> None:
    """Writes the trained model as its tools serve it, in the number format of the model that it came from."""
    with storage_errors(place):
        if recipe.adapter:
            place.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(checkpoint / "adapter_model.safetensors", place / "adapter_model.safetensors")
            described = orjson.loads((checkpoint / "adapter_config.json").read_bytes())
            described["base_model_name_or_path"] = recipe.model
            write_json(place / "adapter_config.json", described)
        else:
            config = models.load_config(recipe.model, recipe.model_revision)
            dtype = getattr(config, "dtype", None) or torch.float32
            if recipe.method == "lora":
                base = models.load_model(recipe.model, recipe.model_revision, dtype)
                model = PeftModel.from_pretrained(base, str(checkpoint)).merge_and_unload(safe_merge=True)
            else:
                model = models.load_model(str(checkpoint), "", dtype)
            model.config.use_cache = getattr(config, "use_cache", True)  # off while activations are checkpointed
            model.save_pretrained(place)
        tokenizer.save_pretrained(place)


def _arguments(
    recipe: Recipe, folder: TrainingFolder, *, held_out: bool, at_once: int | None, is_new: bool
) -> SFTConfig:
    where = models.device().type
    most = at_once or _AT_ONCE.get(where, _AT_ONCE_ELSEWHERE)
    taken, times = batches_of(recipe.batch_size, processes(), most)
    settings: dict[str, Any] = {
        "output_dir": str(folder.checkpoints),
        "learning_rate": recipe.learning_rate,
        "max_steps": recipe.steps,
        "warmup_steps": recipe.warm_up_steps,
        "lr_scheduler_type": "cosine",
        "weight_decay": 0.0,
        "per_device_train_batch_size": taken,
        "gradient_accumulation_steps": times,
        "max_length": None,  # the rows are fitted already
        "seed": recipe.seed,
        "data_seed": recipe.seed,
        "bf16": models.is_quicker_in_bf16(),
        "use_cpu": where == "cpu",
        "gradient_checkpointing": where != "cpu",
        "eval_strategy": "steps" if held_out else "no",
        "eval_steps": recipe.every,
        "eval_on_start": held_out and is_new,
        "save_strategy": "steps",
        "save_steps": recipe.every,
        "save_total_limit": 2,  # the earlier one is removed before the later one is marked whole
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        "report_to": "none",
    }
    known = {field.name for field in dataclasses.fields(SFTConfig) if field.init}
    for name in recipe.more:
        if name in settings and name not in {"gradient_checkpointing", "bf16", "weight_decay", "lr_scheduler_type"}:
            raise ConfigError(f"--set {name}: it is set by the other options of this command")
        if name not in known:
            raise ConfigError(f"--set {name}: TRL's SFTConfig has no such setting")
    try:
        arguments = SFTConfig(**{**settings, **recipe.more})
    except (ValueError, TypeError) as error:
        raise ConfigError(f"TRL does not take the settings: {error}") from error
    arguments._n_gpu = min(1, arguments.n_gpu)  # noqa: SLF001 - else one process would copy the model to all GPUs
    return arguments


def _lora(recipe: Recipe) -> LoraConfig | None:
    if recipe.method != "lora":
        return None
    return LoraConfig(
        r=recipe.lora_rank, lora_alpha=2 * (recipe.lora_rank or 1), target_modules="all-linear", task_type="CAUSAL_LM"
    )


def _dataset(rows: Sequence[Encoded]) -> Any:
    """Tokens and labels: the trainer takes them as they are."""
    ids = [np.array(row.ids, dtype=np.int32) for row in rows]
    labels = [
        np.where(np.frombuffer(row.learned, dtype=np.uint8), tokens, _NOT_LEARNED).astype(np.int32)
        for row, tokens in zip(rows, ids, strict=True)
    ]
    return datasets.Dataset.from_dict({"input_ids": ids, "labels": labels})


def _ended(recipe: Recipe, folder: TrainingFolder, checkpoint: Path, *, is_stopped: bool) -> Trained:
    files = [_costs_file(folder, step) for step in (0, recipe.steps)]
    costs = None
    if recipe.held_out is not None and all(file.exists() for file in files):
        before, after = (np.array(orjson.loads(file.read_bytes())) for file in files)
        costs = (before, after)
    return Trained(int(checkpoint.name.rpartition("-")[2]), checkpoint, _log(checkpoint), costs, is_stopped)


def _costs_file(folder: TrainingFolder, step: int) -> Path:
    """The costs of the held-out rows at this step."""
    return folder.checkpoints / f"held-out-{step}.json"


def _log(checkpoint: Path) -> list[dict[str, Any]]:
    log: list[dict[str, Any]] = orjson.loads((checkpoint / _STATE).read_bytes())["log_history"]
    return log
