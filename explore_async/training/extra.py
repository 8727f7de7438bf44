"""The extra `train`: whether it is installed, and what its libraries are told before they are loaded."""

from __future__ import annotations

import importlib.util
import os
from typing import Final

from explore_async.errors import ConfigError

_NEEDED: Final = ("torch", "transformers", "trl", "peft", "accelerate", "datasets")
_TOLD: Final = {
    "HF_HUB_DISABLE_TELEMETRY": "1",  # else TRL tells a server about each training
    "OMP_WAIT_POLICY": "passive",  # on a busy machine threads that wait by spinning take the time of those that work
    "TOKENIZERS_PARALLELISM": "true",
}


def need_extra(what: str) -> None:
    """Raises ConfigError where the extra is not installed. What the user's environment says stays."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"{what} needs {missing[0]}: pip install 'explore-async[train]'")
    for name, value in _TOLD.items():
        os.environ.setdefault(name, value)


def is_main_process() -> bool:
    """True in the first of the processes that `accelerate launch` starts, and in a process of its own."""
    return int(os.environ.get("RANK", "0")) == 0


def processes() -> int:
    """The number of processes that train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))
