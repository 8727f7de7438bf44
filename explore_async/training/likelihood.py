"""The command likelihood: how likely models find the answers of rows that they have not seen."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from explore_async.curation.collections.collection import Collection
from explore_async.errors import ConfigError
from explore_async.terminal.counts import counted
from explore_async.training.examples import Rows, all_rows, left_out, with_input_below
from explore_async.training.extra import need_extra
from explore_async.training.folder import digest_of_model
from explore_async.training.intervals import Estimate, Values, difference, ratio
from explore_async.training.recipe import Data, Template
from explore_async.training.tokens import Encoded, encode, fit


@dataclass(frozen=True, slots=True)
class Measured:
    """What the answers cost one model."""

    model: str
    digest: str
    template: Template
    places: tuple[int, ...]
    """The rows that are not too long."""
    tokens: int
    costs: Values
    """Of each row, in nats."""
    sizes: Values
    """Learned tokens of each row."""
    answer_bytes: Values

    @property
    def loss(self) -> Estimate:
        """Nats per token: comparable among models with the same tokenizer."""
        return ratio(self.costs, self.sizes)

    @property
    def bits_per_byte(self) -> Estimate:
        """Comparable among all models."""
        return ratio(self.costs / math.log(2), self.answer_bytes)

    def document(self) -> dict[str, Any]:
        loss = self.loss
        return {
            "model": self.model,
            **({"model_digest": self.digest} if self.digest else {}),
            "template": self.template,
            "rows": len(self.places),
            "tokens": self.tokens,
            "loss": loss.document(),
            "perplexity": round(math.exp(loss.value), 3),
            "bits_per_byte": self.bits_per_byte.document(),
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """A model against the first one, on the same rows."""

    model: str
    against: str
    bits_per_byte: Estimate
    loss: Estimate | None
    """None where the tokenizers differ."""

    def document(self) -> dict[str, Any]:
        loss = {} if self.loss is None else {"loss": self.loss.document()}
        return {"model": self.model, "against": self.against, **loss, "bits_per_byte": self.bits_per_byte.document()}


@dataclass(frozen=True, slots=True)
class Likelihood:
    """The figures of all models, and each against the first."""

    data: Data
    unanswered: int
    models: Sequence[Measured]

    @property
    def comparisons(self) -> list[Comparison]:
        first, *others = self.models
        return [_compared(other, first) for other in others]


def measure(
    source: Collection,
    models: Sequence[str],
    *,
    revision: str = "",
    template: Template | None = None,
    max_length: int | None = None,
    skip_too_long: bool = False,
    say: Callable[[str], None] = lambda _: None,
    on_progress: Callable[[str, int, int], None] = lambda *_: None,
) -> Likelihood:
    """The cost of all answers of the source to each model. `template` None is the model's own, else Alpaca's.

    Raises ConfigError for models that cannot be read, and for rows that are too long unless they are to be
    skipped.
    """
    need_extra("likelihood")
    digests = [digest_of_model(model) for model in models]
    rows = all_rows(source)
    if not rows.turns:
        raise ConfigError(f"{source.path}: no row has an answer")
    say(f"{counted(len(rows.turns), 'row')}{left_out(rows)}")
    measured = [
        _measured(
            *(rows, model, digest),
            revision=revision, template=template, max_length=max_length, skip_too_long=skip_too_long,
            say=say, on_progress=on_progress,
        )
        for model, digest in zip(models, digests, strict=True)
    ]  # fmt: skip
    if len({one.places for one in measured}) > 1:
        raise ConfigError(
            "rows that are too long for one of the models are not for another: leave them out of the file, or give a "
            "smaller --max-length that leaves out the same ones"
        )
    return Likelihood(rows.data, rows.unanswered, measured)


def _measured(
    rows: Rows,
    model: str,
    digest: str,
    *,
    revision: str,
    template: Template | None,
    max_length: int | None,
    skip_too_long: bool,
    say: Callable[[str], None],
    on_progress: Callable[[str, int, int], None],
) -> Measured:
    from explore_async.training import models

    models.quiet()
    tokenizer = models.load_tokenizer(model, revision)
    used: Template = template or ("chat" if tokenizer.chat_template else "alpaca")
    if template is None and used == "alpaca":
        say(f"{model} has no chat template: Alpaca's is taken")
    if used == "alpaca" or not tokenizer.chat_template:
        models.use_template(tokenizer, model, used)
    turns = rows.turns if _is_alpaca(tokenizer) else map(with_input_below, rows.turns)
    encoded = list(encode(turns, tokenizer))
    config = models.load_config(model, revision)
    most = max_length or getattr(config, "max_position_embeddings", None) or max(len(row.ids) for row in encoded)
    fitted = fit(encoded, most, "skip" if skip_too_long else "stop", "held-out")
    if fitted.skipped:
        say(f"{model}: {fitted.skipped:,} rows left out, as they are longer than {most} tokens")
    kept: Sequence[Encoded] = fitted.rows
    loaded = models.load_to_measure(model, revision)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    total = len(kept)
    costs = np.zeros(total)
    for place, cost in models.row_costs(
        loaded, kept, pad, on_row=lambda done: on_progress(f"{model}: {done:,} of {total:,} rows", done, total)
    ):
        costs[place] = cost
    said = np.array([row.answer_bytes for row in kept], dtype=np.float64)
    tokens = sum(len(row.ids) for row in kept)
    return Measured(model, digest, used, fitted.places, tokens, costs, models.sizes(kept), said)


def _is_alpaca(tokenizer: Any) -> bool:
    """True where the template has a section for the input: the one that train writes has."""
    return "### Input:" in str(tokenizer.chat_template)


def _compared(one: Measured, first: Measured) -> Comparison:
    nats_to_bits = math.log(2)
    bits = difference(one.costs / nats_to_bits, one.answer_bytes, first.costs / nats_to_bits, first.answer_bytes)
    same = np.array_equal(one.sizes, first.sizes)
    loss = difference(one.costs, one.sizes, first.costs, first.sizes) if same else None
    return Comparison(one.model, first.model, bits, loss)
