"""Advice against requests that fail for good or bring nothing readable, in one place for all who tell it."""

from __future__ import annotations

from typing import Final

from explore_async.exploration.kinds import KINDS
from explore_async.exploration.values import Completion
from explore_async.settings.recipe import Recipe, Sampling

RETRY_FAILED: Final = "--set operation.retry_failed=true"
FITTING: Final = (
    "Lower sampling.generation.max_tokens, or generation.demonstrations where the prompt alone is too long (--adopt "
    "takes the change over), or serve the model with a longer context"
)
"""Prompt and completion fit into the model's context together."""


class Cures:
    """The advice for a run of this recipe."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe

    def of_overflow(self, kind: str) -> str:
        """The advice for requests of this kind that do not fit into the model's context with their completion."""
        return (
            f"Prompt and completion have to fit into the model's context together: lower {self._limit(kind)}, or "
            "generation.demonstrations where the prompt alone is too long (--adopt takes the change over); or serve "
            f"the model with a longer context, and add {RETRY_FAILED} to ask again what failed"
        )

    def of_cut(self, kind: str, completion: Completion) -> str:
        """The advice for a completion that is cut off before an example ends."""
        limit = self._sampling(kind).limit
        if not completion.text.strip():
            return (
                f"The model thinks until its limit: raise {self._limit(kind)} (--adopt), or have it think less: "
                "extra_body: {chat_template_kwargs: {enable_thinking: false}} or {thinking_token_budget: 500} with vLLM"
            )
        shorter = "lower generation.per_request (--adopt)"
        if limit is not None and 0 < completion.completion_tokens < limit:
            return (
                f"Completions are cut off after {completion.completion_tokens} tokens, before an example ends and "
                f"before {self._limit(kind)} is reached: serve the model with a longer context, or {shorter}"
            )
        return f"Completions are cut off before an example ends: raise {self._limit(kind)}, or {shorter}"

    def _sampling(self, kind: str) -> Sampling:
        sampling: Sampling = getattr(self._recipe.sampling, KINDS[kind].sampling)
        return sampling

    def _limit(self, kind: str) -> str:
        """The setting that limits the completions of this kind, with its value."""
        sampling = self._sampling(kind)
        name = "max_completion_tokens" if sampling.max_completion_tokens is not None else "max_tokens"
        return f"sampling.{KINDS[kind].sampling}.{name} (now {sampling.limit or 'left to the server'})"
