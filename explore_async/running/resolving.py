"""The decisions of the first start of a run, which hold for all later ones: its model, window, lag and rules."""

from __future__ import annotations

from pathlib import Path

import orjson

from explore_async.exploration.kinds import KINDS
from explore_async.running.backend import BackendFactory
from explore_async.settings.operation import Operation
from explore_async.settings.recipe import MEANING, MEANINGS, Recipe, ResolvedKnownTexts
from explore_async.settings.run_settings import RunSettings

_DEALS = 4
"""The first version of the rules by which the trees of a run can be dealt among shards."""


def needs_served_model(settings: RunSettings) -> bool:
    """True when the endpoints have to be asked for their model, as some requests have none by name."""
    return settings.operation.server is None and any(not settings.model_of(kind) for kind in KINDS)


async def resolve(
    settings: RunSettings,
    previous: Recipe | None,
    new_backend: BackendFactory,
    *,
    against: tuple[ResolvedKnownTexts, ...],
    offline: bool,
) -> Recipe:
    """The recipe with its model, window and lag: as in the config, else as in the directory, else as the endpoints say.
    The rules that it is read by are those of the directory, else those of today.

    `previous`: the recipe of the directory, None at a first start. `against`: the known texts with their digests.
    """
    if previous is not None:
        config = settings
        if config.window == "auto":
            lag = config.lag if config.lag is not None else previous.lag
            config = config.model_copy(update={"window": previous.window, "lag": lag})
        meaning = previous.meaning if previous.meaning in MEANINGS else MEANING
        if config.shard:
            meaning = max(meaning, _DEALS)
        return config.resolved(model=previous.model, against=against, meaning=meaning)
    is_asked_for = not offline and needs_served_model(settings)
    model = await first_model(settings.model, settings.operation, new_backend, is_asked_for=is_asked_for)
    return settings.resolved(model=model, against=against)


def as_it_began(recipe: Recipe, tree: Path) -> Recipe:
    """The recipe with the rules that its run began with, as the digest in tree.json tells; `recipe` itself where that
    names another, or nothing.
    """
    try:
        digest = orjson.loads(tree.read_bytes())["digest"]
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError):
        return recipe
    by_rules = (recipe.model_copy(update={"meaning": meaning}) for meaning in MEANINGS)
    return next((known for known in by_rules if known.digest == digest), recipe)


async def first_model(
    model: str | None, operation: Operation, new_backend: BackendFactory, *, is_asked_for: bool
) -> str:
    """The logical model of a first start, where `model` is None: that of its own server, or the one that the endpoints
    serve, where it `is_asked_for`; else empty.
    """
    server = operation.server
    if model is not None:
        return model
    if server is not None:
        own = server.model.rstrip("/")
        if own.endswith(".gguf") or Path(own).is_absolute():  # the folder it lies in says nothing about the model
            return Path(own).name.removesuffix(".gguf")
        return own
    return await new_backend.served_model() if is_asked_for else ""
