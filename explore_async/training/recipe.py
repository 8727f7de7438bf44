"""The recipe of a training: all that decides what the model becomes. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal, TypeAlias

from explore_async.errors import ConfigError

Method: TypeAlias = Literal["lora", "full"]
PresetName: TypeAlias = Literal["chat", "paper"]
Template: TypeAlias = Literal["chat", "alpaca"]
"""The form of the texts: that of the model's own chat template, or Alpaca's."""
TooLong: TypeAlias = Literal["stop", "cut", "skip"]

LEARNING_RATES: Final[Mapping[Method, float]] = {"full": 2e-5, "lora": 2e-4}
EPOCHS: Final = 3.0
WARM_UP: Final = 0.03
"""Share of all steps."""
LORA_RANK: Final = 16
HELD_OUT: Final = 0.05
"""Share of the examples that is held out where nothing else is asked for."""
MEASURED: Final = 10
"""Times in a training that the held-out loss is measured and a checkpoint is saved."""


@dataclass(frozen=True, slots=True)
class Preset:
    """Settings that go together. Every one of them has an option that changes it."""

    template: Template
    method: Method
    batch_size: int
    max_length: int


PRESETS: Final[Mapping[PresetName, Preset]] = {
    "chat": Preset(template="chat", method="lora", batch_size=16, max_length=2048),
    "paper": Preset(template="alpaca", method="full", batch_size=128, max_length=512),
}
"""`paper`: as Explore-Instruct trains LLaMA-7B: Alpaca's template, all weights, learning rate 2e-5, batches of 128,
three epochs, 512 tokens, no weight decay, cosine with a warm-up of 3 %.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """Rows that were read. `digest`: the SHA-256 of their turns as JSON lines, in their order."""

    name: str
    rows: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a training does. The same recipe in the same folder goes on with what is there."""

    model: str
    model_revision: str
    model_digest: str
    """Of the files of a model in a folder; empty for one with a name on a hub."""
    preset: PresetName
    template: Template
    method: Method
    lora_rank: int | None
    learning_rate: float
    batch_size: int
    """Examples in a step, of all devices together."""
    max_length: int
    """In tokens."""
    too_long: TooLong
    steps: int
    every: int
    """Steps between two measurements of the held-out loss, each with a checkpoint."""
    seed: int
    data: Data
    held_out: Data | None
    adapter: bool
    """True where the adapter of LoRA is saved by itself, without the model."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """Other settings of TRL's SFTConfig."""

    @property
    def warm_up_steps(self) -> int:
        return math.ceil(WARM_UP * self.steps)

    def document(self) -> dict[str, Any]:
        return asdict(self)

    def changed(self, earlier: Mapping[str, Any]) -> list[str]:
        """Names of the settings in which an earlier recipe differs."""
        mine = self.document()
        return [name for name in {**mine, **earlier} if mine.get(name) != earlier.get(name)]


def steps_of(rows: int, batch_size: int, epochs: float) -> int:
    """Steps of a training: a last batch of an epoch may be smaller."""
    return max(1, math.ceil(epochs * math.ceil(rows / batch_size)))


def batches_of(batch_size: int, devices: int, at_once: int) -> tuple[int, int]:
    """Examples that a device takes at once, at most `at_once`, and the times that it does so for a step.

    Raises ConfigError where the devices cannot share a batch evenly.
    """
    share, rest = divmod(batch_size, devices)
    if rest or not share:
        raise ConfigError(f"--batch-size {batch_size}: {devices} devices cannot share it evenly; give a multiple")
    taken = next(number for number in range(min(at_once, share), 0, -1) if share % number == 0)
    return taken, share // taken
