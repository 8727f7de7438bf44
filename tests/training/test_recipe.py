"""The recipe of a training: its steps, its batches, its folder and its card."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from explore_async.curation.collections.open import open_collection
from explore_async.errors import ConfigError, NewerFormat, OtherWork, StorageError
from explore_async.training.card import make_card
from explore_async.training.folder import COMPLETE, TrainingFolder, digest_of_model
from explore_async.training.recipe import PRESETS, Data, Recipe, batches_of, steps_of
from explore_async.training.training import shown

RECIPE = Recipe(
    model="org/model", model_revision="", model_digest="", preset="chat", template="chat", method="lora", lora_rank=16,
    learning_rate=2e-4, batch_size=16, max_length=2048, too_long="stop", steps=30, every=3, seed=0,
    data=Data(name="rows.jsonl", rows=100, digest="d" * 64), held_out=Data(name="held|out", rows=5, digest="e" * 64),
    adapter=False,
)  # fmt: skip
RESULT = {
    "steps": 30, "seconds": 12.0, "rows": 100, "learned_tokens": 4321, "training_loss": {},
    "held_out": {
        "rows": 5, "learned_tokens": 90, "before": {"value": 2.0, "interval": [1.5, 2.5]}, "after": {"value": 1.5, "interval": [1.1, 1.9]},
        "difference": {"value": -0.5, "interval": [-0.7, -0.3]},
        "during": [{"step": 0, "loss": 2.0, "interval": [1.5, 2.5]}, {"step": 30, "loss": 1.5, "interval": [1.1, 1.9]}],
    },
    "versions": {"torch": "2.13.0"},
}  # fmt: skip


@given(batch=st.integers(1, 512), devices=st.integers(1, 16), at_once=st.integers(1, 64))
def test_devices_share_a_batch_evenly_or_not_at_all(batch: int, devices: int, at_once: int) -> None:
    """Each takes as many examples at once as it may and as divide its share: the batch is exactly that of the recipe."""
    if batch % devices:
        with pytest.raises(ConfigError, match=f"--batch-size {batch}: {devices} devices"):
            batches_of(batch, devices, at_once)
        return
    taken, times = batches_of(batch, devices, at_once)
    assert taken * times * devices == batch
    assert taken <= at_once
    assert not any(batch // devices % more == 0 for more in range(taken + 1, min(at_once, batch // devices) + 1))


@given(rows=st.integers(1, 10_000), batch=st.integers(1, 200), epochs=st.floats(0.01, 5))
def test_all_rows_are_learned_in_each_epoch(rows: int, batch: int, epochs: float) -> None:
    steps = steps_of(rows, batch, epochs)
    assert steps * batch >= epochs * rows or math.isclose(steps * batch, epochs * rows)
    assert steps <= epochs * (rows / batch + 1) + 1


def test_the_paper_preset_has_the_settings_of_the_paper() -> None:
    """Alpaca's template, all weights, batches of 128, 512 tokens."""
    paper = PRESETS["paper"]
    assert (paper.template, paper.method, paper.batch_size, paper.max_length) == ("alpaca", "full", 128, 512)


def test_a_folder_goes_on_with_the_same_recipe_alone(tmp_path: Path) -> None:
    """Another recipe is refused once there is a checkpoint, and the message names what differs; the result is there once
    it is finished. Before the first checkpoint, as after a wrong setting, any recipe may begin.
    """
    folder = TrainingFolder(tmp_path / "out")
    folder.path.mkdir()
    changed = replace(RECIPE, seed=1, data=Data(name="rows.jsonl", rows=101, digest="f" * 64))
    assert folder.begin(changed, "a command") is None
    assert folder.begin(RECIPE, "a command") is None
    assert folder.begin(RECIPE, "a command") is None
    (folder.checkpoints / "checkpoint-1").mkdir(parents=True)
    (folder.checkpoints / "checkpoint-1" / COMPLETE).touch()
    with pytest.raises(ConfigError, match=r"other settings is in it \(seed, data\)"):
        folder.begin(changed, "a command")
    folder.finish(RECIPE, "a command", RESULT)
    assert folder.begin(RECIPE, "a command") == RESULT
    assert not folder.checkpoints.exists()


def test_a_half_checkpoint_is_none(tmp_path: Path) -> None:
    """The newest that is whole counts by its number, not by its name."""
    folder = TrainingFolder(tmp_path)
    assert folder.latest() is None
    for step, is_whole in ((9, True), (10, True), (11, False)):
        (folder.checkpoints / f"checkpoint-{step}").mkdir(parents=True)
        if is_whole:
            (folder.checkpoints / f"checkpoint-{step}" / COMPLETE).touch()
    assert folder.latest() == (10, folder.checkpoints / "checkpoint-10")


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ({"a.txt": b""}, OtherWork),
        ({"training.json": b"{"}, StorageError),
        ({"training.json": b"[]"}, StorageError),
        ({"training.json": orjson.dumps({"format": 2, "recipe": {}})}, NewerFormat),
    ],
)
def test_the_folder_of_something_else_is_refused(tmp_path: Path, content: dict[str, bytes], error: type) -> None:
    """Nothing in it is touched."""
    for name, body in content.items():
        (tmp_path / name).write_bytes(body)
    with pytest.raises(error, match=str(tmp_path)):
        TrainingFolder(tmp_path).begin(RECIPE, "")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == content


def test_two_trainings_do_not_share_a_folder(tmp_path: Path) -> None:
    second = TrainingFolder(tmp_path).entered()
    with TrainingFolder(tmp_path).entered(), pytest.raises(StorageError, match="another process trains here"), second:
        pass
    with TrainingFolder(tmp_path).entered():
        pass


def test_other_weights_are_another_model(tmp_path: Path) -> None:
    """The digest tells weights and config apart, and leaves out a card beside them; a name on a hub has none."""
    assert digest_of_model("org/model") == ""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"1")
    first = digest_of_model(str(tmp_path))
    (tmp_path / "README.md").write_text("a card")
    assert digest_of_model(str(tmp_path)) == first
    (tmp_path / "model.safetensors").write_bytes(b"2")
    assert digest_of_model(str(tmp_path)) != first


@pytest.mark.parametrize("model", ["./nothing", "/nothing/here"])
def test_a_folder_that_is_not_there_is_no_name_on_a_hub(model: str) -> None:
    with pytest.raises(ConfigError, match="there is no such folder"):
        digest_of_model(model)


def test_the_card_says_what_it_was_and_what_came_of_it(tmp_path: Path) -> None:
    """Digests, figures and the command are in it, hostile names are inert, and no folder of this machine is named."""
    rows = tmp_path / "ro|ws.jsonl"
    rows.write_text('{"instruction": "a", "output": "b"}\n')
    recipe = replace(RECIPE, model=str(tmp_path / "base"), model_digest="c" * 64)
    command = shown(["train", str(rows), "--model", "org/model", "--json"])
    card = make_card(recipe, RESULT, open_collection(rows), command)
    header = yaml.safe_load(card.split("---")[1])
    assert header["library_name"] == "transformers"
    assert "base_model" not in header
    assert str(tmp_path) not in card
    for part in ("d" * 64, "e" * 64, "c" * 64, "held\\|out", "4,321", "| 0 | 2.0000 | 1.5000 to 2.5000 |", "-0.5000 (-0.7000 to -0.3000)", "torch==2.13.0", "explore-async train 'ro|ws.jsonl' --model org/model\n"):  # fmt: skip
        assert part in card
    hub = make_card(
        replace(RECIPE, held_out=None, adapter=True), {**RESULT, "held_out": None}, open_collection(rows), ""
    )
    assert yaml.safe_load(hub.split("---")[1])["base_model"] == "org/model"
    assert "--enable-lora" in hub
    assert "Held-out loss" not in hub
