"""Models and tokenizers of transformers, and what each row costs a model. Needs the extra `train`."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from explore_async.errors import ConfigError
from explore_async.training.alpaca import alpaca_template
from explore_async.training.intervals import Values
from explore_async.training.recipe import Template
from explore_async.training.tokens import Encoded

_TOKENS_AT_ONCE: Final = 2_048
"""Of a batch that is measured, with padding: its logits are that many times the vocabulary."""


def quiet() -> None:
    """Libraries that show bars and advice of their own do not."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    for name in ("accelerate", "datasets", "peft", "trl"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(accelerate|datasets|peft|torch|transformers|trl)(\..*)?")


def load_config(model: str, revision: str) -> Any:
    return _loaded(AutoConfig, model, revision)


def load_tokenizer(model: str, revision: str) -> Any:
    """A fast tokenizer, which says where in the text each token is. Raises ConfigError."""
    tokenizer = _loaded(AutoTokenizer, model, revision)
    if not tokenizer.is_fast:
        raise ConfigError(f"--model {model}: it has no fast tokenizer (tokenizer.json), which is needed")
    return tokenizer


def load_model(model: str, revision: str, dtype: Any, **options: Any) -> Any:
    return _loaded(AutoModelForCausalLM, model, revision, dtype=dtype, **options)


def load_to_measure(model: str, revision: str) -> Any:
    """The model on the accelerator, spread over all where there are several, in the quickest number format."""
    dtype = torch.bfloat16 if is_quicker_in_bf16() else torch.float32
    several = torch.accelerator.is_available() and torch.accelerator.device_count() > 1
    return load_model(model, revision, dtype, device_map="auto" if several else device())


def use_template(tokenizer: Any, model: str, template: Template) -> None:
    """Puts the template into the tokenizer. Raises ConfigError where the model has none of its own, or no end mark."""
    if template == "alpaca":
        if tokenizer.eos_token is None:
            raise ConfigError(f"--model {model}: its tokenizer has no token for the end of a text")
        begins = tokenizer.bos_token_id is not None and tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id
        tokenizer.chat_template = alpaca_template(begins_with_bos=begins)
    elif not tokenizer.chat_template:
        raise ConfigError(
            f"--model {model}: it has no chat template; take a chat model, or Alpaca's template (train --preset paper, "
            "likelihood --template alpaca)"
        )


def device() -> Any:
    """The accelerator of this machine, else its processors."""
    return torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")


def is_quicker_in_bf16() -> bool:
    """True where this machine multiplies bfloat16 faster than float32: on newer GPUs, and processors with AMX."""
    if torch.accelerator.is_available():
        return bool(torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_amx_tile_supported())  # noqa: SLF001 - torch has no public name for it


def row_costs(
    model: Any,
    rows: Sequence[Encoded],
    pad: int,
    *,
    part: int = 0,
    parts: int = 1,
    on_row: Callable[[int], None] = lambda _: None,
) -> list[tuple[int, float]]:
    """The place of each row and the negative log-likelihood of its learned tokens, in nats.

    With several `parts`, each of as many processes takes its own, and all call the model equally often, as models that
    are shared among processes need; rows then come more than once.
    """
    batches = _batches(rows)
    each = -(-len(batches) // parts)
    mine = [batches[(part + number * parts) % len(batches)] for number in range(each)]
    was_training = model.training
    model.eval()
    costs: list[tuple[int, float]] = []
    with torch.no_grad():
        for batch in mine:
            costs += zip(batch, _costs(model, [rows[place] for place in batch], pad), strict=True)
            on_row(len(costs))
    model.train(was_training)
    return costs


def sizes(rows: Sequence[Encoded]) -> Values:
    """Learned tokens of each row."""
    return np.array([row.learned_tokens for row in rows], dtype=np.float64)


def _costs(model: Any, rows: Sequence[Encoded], pad: int) -> list[float]:
    where = next(model.parameters()).device
    longest = max(len(row.ids) for row in rows)
    ids = torch.full((len(rows), longest), pad)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for number, row in enumerate(rows):
        ids[number, : len(row.ids)] = torch.tensor(row.ids)
        mask[number, : len(row.ids)] = 1
    ids, mask = ids.to(where), mask.to(where)
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    ids = ids.to(logits.device)  # another one, where a model is spread over several
    costs = []
    for number, row in enumerate(rows):
        learned = torch.tensor(list(row.learned[1:]), dtype=torch.bool, device=logits.device)
        told = logits[number, : len(row.ids) - 1][learned].float()
        wanted = ids[number, 1 : len(row.ids)][learned]
        costs.append(float(torch.nn.functional.cross_entropy(told, wanted, reduction="sum")))
    return costs


def _batches(rows: Sequence[Encoded]) -> list[list[int]]:
    """Places of rows of about equal lengths, together at most _TOKENS_AT_ONCE with padding, or a single row."""
    batches: list[list[int]] = []
    for place in sorted(range(len(rows)), key=lambda place: len(rows[place].ids), reverse=True):
        if batches and len(rows[batches[-1][0]].ids) * (len(batches[-1]) + 1) <= _TOKENS_AT_ONCE:
            batches[-1].append(place)
        else:
            batches.append([place])
    return batches


def _loaded(kind: Any, model: str, revision: str, **options: Any) -> Any:
    try:
        return kind.from_pretrained(model, revision=revision or None, **options)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"--model {model}: {' '.join(str(error).split())[:400]}") from error
