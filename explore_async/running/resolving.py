"""The decisions of the first start of a run, which hold for all later ones: its model, window, lag and rules."""

from __future__ import annotations

from pathlib import Path

import orjson

from explore_async.exploration.kinds import KINDS
from explore_async.running.backend import BackendFactory
from explore_async.settings.recipe import MEANING, MEANINGS, Recipe, ResolvedKnownTexts
from explore_async.settings.run_settings import RunSettings


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
        return config.resolved(model=previous.model, against=against, meaning=meaning)
    model = await _model(settings, new_backend, offline=offline)
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


async def _model(settings: RunSettings, new_backend: BackendFactory, *, offline: bool) -> str:
    """The logical model of a first start where the config names none; empty where its name is not needed."""
    server = settings.operation.server
    if settings.model is not None:
        return settings.model
    if server is not None:
        model = server.model.rstrip("/")
        if model.endswith(".gguf") or Path(model).is_absolute():  # the folder it lies in says nothing about the model
            return Path(model).name.removesuffix(".gguf")
        return model
    if offline or not needs_served_model(settings):
        return ""
    return await new_backend.served_model()
