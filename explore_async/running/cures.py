"""Advice against requests that fail for good or bring nothing readable, in one place for all who tell it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from explore_async.exploration.kinds import COMPARE, kinds_of, row_of
from explore_async.exploration.values import Completion
from explore_async.settings.recipe import Recipe, Sampling

RETRY_FAILED: Final = "--set operation.retry_failed=true"
FITTING: Final = (
    "Lower max_tokens (or max_completion_tokens) of sampling.generation (of sampling.answers or sampling.judging where "
    "it is these), or generation.demonstrations where the prompt alone is too long (--adopt takes the change over), or "
    "serve the model with a longer context"
)
"""Prompt and completion fit into the model's context together."""

_MANY_CUT, _A_FEW = 0.05, 2
"""The share of a stage's completions, and their number, that may be cut before it is told: some models never end now
and then.
"""
_MANY_SIMULATED, _A_FEW_SIMULATED = 0.1, 5
"""The same for a simulated server, which cuts 3 % on purpose."""


_LOWERS: Final = {
    "generation": "lower generation.per_request, or ",
    "exploration": "lower exploration.step, or ",
    "answers": "ask for shorter answers in `system` of the domain, or ",
    "judging": "",
}
"""What makes the completions of a stage shorter."""


def _shows_examples(kind: str) -> bool:
    """True where the prompts of this kind show demonstrations and ask for several items."""
    return row_of(kind).brings in {"tasks", "facets", "examples"}


class Cures:
    """The advice for a run of this recipe."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe

    def of_overflow(self, kind: str) -> str:
        """The advice for requests of this kind that do not fit into the model's context with their completion."""
        prompt = ", or generation.demonstrations where the prompt alone is too long" if _shows_examples(kind) else ""
        return (
            f"Prompt and completion have to fit into the model's context together: lower {self._limit(kind)}{prompt} "
            "(--adopt takes the change over); or serve the model with a longer context, and add "
            f"{RETRY_FAILED} to ask again what failed"
        )

    def of_unreadable(self, kind: str) -> str:
        """The advice for completions of this kind that end by themselves and hold nothing readable."""
        if row_of(kind) is COMPARE:
            if self._recipe.answer_format == "text":
                return "Can the model judge? --judge names another one (--adopt takes the change over)"
            return (
                "Can the model judge, and write JSON? --judge names another one, and --set answer_format=text asks for "
                "plain text (--adopt takes the change over)"
            )
        if row_of(kind).brings == "scores":
            return (
                "Can the model judge, and write JSON? models.judge names another one for it, prompts: has a place for "
                "your own judge.j2, and judge: null does without (--adopt takes the change over)"
            )
        if row_of(kind).brings == "examples":
            return "Does the model follow the format, and the server its chat template? See answer_format"
        return (
            "Does the server apply the model's chat template? models.answer names another model (--adopt takes it over)"
        )

    def of_no_usage(self) -> str:
        """Says what becomes of tokens that no server counts."""
        targets = self._recipe.targets
        budget = "; the token budget counts nothing of them" if targets.token_budget is not None else ""
        if targets.only_budget is not None:
            budget = "; the token budget counts one for four characters of each completion, and none of the prompts"
        return f"their tokens are not counted{budget}"

    def of_cut(self, kind: str, completion: Completion) -> str:
        """The advice for a completion that is cut off before what it was asked for ends."""
        limit = self._sampling(kind).limit
        if not completion.text.strip():
            return (
                f"The model thinks until its limit: raise {self._limit(kind)} (--adopt), or have it think less: "
                "extra_body: {chat_template_kwargs: {enable_thinking: false}} or {thinking_token_budget: 500} with vLLM"
            )
        if not _shows_examples(kind):
            wish = (
                "" if row_of(kind).sampling == "judging" else ", or ask for shorter answers in `system` of the domain"
            )
            return f"Completions of the kind {kind} are cut off: raise {self._limit(kind)} (--adopt){wish}"
        shorter = "lower generation.per_request (--adopt)"
        if limit is not None and 0 < completion.completion_tokens < limit:
            return (
                f"Completions are cut off after {completion.completion_tokens} tokens, before an example ends and "
                f"before {self._limit(kind)} is reached: serve the model with a longer context, or {shorter}"
            )
        return f"Completions are cut off before an example ends: raise {self._limit(kind)}, or {shorter}"

    def of_cuts(self, requests: Mapping[str, int], cut: Mapping[str, int], *, simulated: bool = False) -> str:
        """The advice where many completions of a stage are cut; empty where few are. Both counts are by kind.

        `simulated`: a simulated server cuts some on purpose, and nothing helps against these.
        """
        many, a_few = (_MANY_SIMULATED, _A_FEW_SIMULATED) if simulated else (_MANY_CUT, _A_FEW)
        for stage, lowers in _LOWERS.items():
            kinds = [kind.name for kind in kinds_of(self._recipe).values() if kind.sampling == stage]
            number, were_cut = (sum(counts.get(kind, 0) for kind in kinds) for counts in (requests, cut))
            if were_cut > max(a_few, many * number):
                limit = f"sampling.{stage}.{getattr(self._recipe.sampling, stage).limit_name}"
                ends = f"cut at {limit}, or where the model's context ends"
                what = "completions" if stage in {"generation", "exploration"} else f"completions for {stage}"
                return f"{were_cut:,} of {number:,} {what} were {ends}: {lowers}raise what cuts them"
        return ""

    def _sampling(self, kind: str) -> Sampling:
        sampling: Sampling = getattr(self._recipe.sampling, row_of(kind).sampling)
        return sampling

    def _limit(self, kind: str) -> str:
        """The setting that limits the completions of this kind, with its value."""
        sampling = self._sampling(kind)
        return f"sampling.{row_of(kind).sampling}.{sampling.limit_name} (now {sampling.limit or 'left to the server'})"
