"""A start does what its mode says of what the directory holds: every pair of the two."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import orjson
import pytest
from blockbuster import BlockBuster
from support.cli import DERIVED, RECIPE, derived

from explore_async.config.load import load
from explore_async.errors import ConfigError, ExploreError, StorageError
from explore_async.running.start import Mode, run
from explore_async.serving.simulated.server import SimulatedServer
from explore_async.settings.run_settings import RunSettings

pytestmark = pytest.mark.timeout(600)

SEED, OTHER_SEED = 0, 7


def settings(folder: Path, url: str, seed: int = SEED) -> RunSettings:
    path = folder / "config.yaml"
    path.write_text(RECIPE)
    return load(str(path), seed=seed, window=16, targets={"examples": 12}, operation={"endpoints": [{"url": url}]})


def gone(directory: Path) -> None:
    shutil.rmtree(directory)


def without_completions(directory: Path) -> None:
    """Left by a start that got no completion."""
    for name in (*DERIVED, "completions.sqlite", "stats.json"):
        (directory / name).unlink()


def whole(directory: Path) -> None:
    assert directory.is_dir()


def without_recipe(directory: Path) -> None:
    (directory / "config.json").unlink()


@dataclass(frozen=True)
class Found:
    """The directory at a start: a finished run that `change` was done to, and the seed of the config it meets."""

    change: Callable[[Path], None]
    seed: int = SEED


FOUND = {
    "no directory": Found(gone),
    "no completions": Found(without_completions, OTHER_SEED),
    "the same recipe": Found(whole),
    "another recipe": Found(whole, OTHER_SEED),
    "completions alone": Found(without_recipe),
}
ASKS, REPLAYS, ASIDE, NOTHING = (
    "asks everything",
    "replays everything",
    "sets aside and asks everything",
    "keeps nothing",
)
TABLE: dict[Mode, dict[str, str | type[ExploreError]]] = {
    "resume": {
        "no directory": ASKS,
        "no completions": ASKS,
        "the same recipe": REPLAYS,
        "another recipe": ConfigError,
        "completions alone": StorageError,
    },
    "adopt": {
        "no directory": ASKS,
        "no completions": ASKS,
        "the same recipe": REPLAYS,
        "another recipe": ASKS,
        "completions alone": REPLAYS,
    },
    "offline": {
        "no directory": StorageError,
        "no completions": NOTHING,
        "the same recipe": REPLAYS,
        "another recipe": NOTHING,
        "completions alone": StorageError,
    },
    "fresh": {
        "no directory": ASKS,
        "no completions": ASIDE,
        "the same recipe": ASIDE,
        "another recipe": ASIDE,
        "completions alone": ASIDE,
    },
}


def test_the_table_has_every_pair() -> None:
    """Each mode meets each thing that a directory may hold."""
    assert set(TABLE) == set(get_args(Mode))
    assert all(list(row) == list(FOUND) for row in TABLE.values())


@pytest.mark.parametrize("found", FOUND)
@pytest.mark.parametrize("mode", TABLE)
async def test_a_start(tmp_path: Path, blockbuster: BlockBuster, mode: Mode, found: str) -> None:
    """It asks, replays, sets aside or is refused, as the table says; a refused start changes no file."""
    blockbuster.deactivate()  # a run opens and closes its files on the loop, when nothing else is going on
    path, expected = tmp_path / "run", TABLE[mode][found]
    async with SimulatedServer() as server:
        made = await run(settings(tmp_path, server.url), path)
        before = derived(path)
        FOUND[found].change(path)
        wanted = settings(tmp_path, server.url, FOUND[found].seed)
        if isinstance(expected, type):
            files = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
            with pytest.raises(expected):
                await run(wanted, path, mode=mode)
            assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == files
            return
        result = await run(wanted, path, mode=mode)
    assert result.stats.this_time is not None
    asked, replayed = result.stats.this_time.asked, result.stats.this_time.replayed
    assert (tmp_path / "run.1").exists() is (expected == ASIDE)
    assert orjson.loads((path / "config.json").read_bytes())["recipe"]["seed"] == FOUND[found].seed
    if expected == NOTHING:
        assert (asked, result.kept, result.ending) == (0, 0, "offline")
    elif expected == REPLAYS:
        assert (asked, derived(path)) == (0, before)
        assert replayed >= made.stats.requests.total
    else:
        assert (replayed, result.kept) == (0, made.kept)
        assert asked > 0
        assert (derived(path) == before) is (FOUND[found].seed == SEED)
