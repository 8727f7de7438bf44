"""Measurements of the texts themselves: lengths, duplicates, languages, scripts, quality."""

from __future__ import annotations

import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from explore_async.analysis.data_sample import NEAR, QUANTILES, DataSample, spread
from explore_async.curation.collections.collection import ExampleRow
from explore_async.curation.common_options import silent
from explore_async.errors import ConfigError
from explore_async.exploration.parsing import ExampleDraft
from explore_async.exploration.quality_filters import quality_check
from explore_async.settings.recipe import Filters
from rouge_kernels import TOKENIZERS

MOST_IDENTIFIED = 20_000
"""Examples whose language is identified; of more, this many, spread evenly."""
UNSURE = "und"
"""ISO 639's code for a language that is not determined."""
COMPRESSED = 16_384
"""Bytes that are compressed at a time: about two hundred instructions, half of what zlib looks back at."""
PARTS = 16
_SURE = 0.5
_REPORTED_EVERY = 500
_LONGEST_IDENTIFIED = 600


def duplicates(sample: DataSample, tokenizer: str) -> dict[str, Any]:
    """The number of instructions with the same tokens as an earlier one (without tokens: with the same text), and the
    share of the compared instructions that have a near-duplicate.
    """
    tokenize = TOKENIZERS[tokenizer]
    seen: set[tuple[str, ...] | str] = set()
    identical = without_tokens = 0
    for text in sample.texts:
        identity = tuple(tokenize(text)) or text
        without_tokens += identity == text
        identical += identity in seen
        seen.add(identity)
    greatest = sample.overlap.greatest if sample.overlap is not None else ()
    near = float(np.mean(np.asarray(greatest) > NEAR)) if len(greatest) else 0.0
    return {"identical": identical, "near": near, "near_above": NEAR, "without_tokens": without_tokens}


def lengths(texts: Sequence[str]) -> dict[str, Any]:
    """Numbers of words between white space; empty texts are left out."""
    words = np.array([len(text.split()) for text in texts if text], dtype=np.int64)
    if not len(words):
        return {"texts": 0, "mean": 0.0, "quantiles": [], "histogram": []}
    top = int(np.quantile(words, 0.99)) + 1
    counts, edges = np.histogram(np.minimum(words, top), bins=min(40, top), range=(0, top))
    return {
        "texts": len(words),
        "mean": float(words.mean()),
        "quantiles": [[q, float(np.quantile(words, q))] for q in QUANTILES],
        "histogram": [[float(edge), int(count)] for edge, count in zip(edges, counts, strict=False)],
    }


def compression(texts: Sequence[str]) -> dict[str, Any] | None:
    """The ratio by which zlib shrinks texts: templates and stock phrases make it large (Shaib et al. 2024).

    The ratio grows with the length of what is compressed, so that is always COMPRESSED bytes of UTF-8: the texts but
    empty ones, in a random order that is always the same, a line each. The mean and the standard deviation over as many
    parts of this length as the texts fill, at most PARTS; None where they fill none.
    """
    texts = [text for text in texts if text.strip()]
    order = np.random.default_rng(0).permutation(len(texts)).tolist()
    whole = bytearray()
    for at in order:
        whole += texts[at].encode(errors="replace") + b"\n"
        if len(whole) >= PARTS * COMPRESSED:
            break
    count = min(PARTS, len(whole) // COMPRESSED)
    ratios = [
        COMPRESSED / len(zlib.compress(whole[number * COMPRESSED : (number + 1) * COMPRESSED], level=9))
        for number in range(count)
    ]
    if not ratios:
        return None
    return {"bytes": COMPRESSED, "parts": count, "mean": float(np.mean(ratios)), "std": float(np.std(ratios))}


def quality(examples: Sequence[ExampleRow], tokenizer: str) -> Counter[str]:
    """Examples that the filters of a run would drop, by reason: refusals, placeholders, copies and so on."""
    reason_to_drop = quality_check(Filters(), TOKENIZERS[tokenizer])
    reasons = (reason_to_drop(ExampleDraft(row["instruction"], row["input"], row["output"]), ()) for row in examples)
    return Counter(reason for reason in reasons if reason is not None)


def languages(examples: Sequence[ExampleRow], on_progress: Callable[[int], None] = silent) -> Counter[str]:
    """Examples by the language (ISO 639) of instruction and output together; UNSURE where it is not clear.

    By py3langid: naive Bayes over byte n-grams (Lui and Baldwin 2012). `on_progress` gets the number of examples so
    far.
    """
    classify = _identifier().classify
    counts: Counter[str] = Counter()
    for number, example in enumerate(spread(examples, len(examples), MOST_IDENTIFIED)):
        if number % _REPORTED_EVERY == 0:
            on_progress(number)
        text = f"{example['instruction'][:_LONGEST_IDENTIFIED]}\n{example['output'][:_LONGEST_IDENTIFIED]}"
        language, chance = classify(text)
        counts[language if chance >= _SURE else UNSURE] += 1
    return counts


@cache
def _identifier() -> Any:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError as error:
        raise ConfigError("languages need py3langid: pip install 'explore-async[analysis]'") from error
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def scripts(examples: Sequence[ExampleRow]) -> Counter[str]:
    """Counts the examples of each script (Latin, Cyrillic, CJK and so on), the one that most of the instruction's
    letters are in.
    """
    return Counter(_script(example["instruction"]) for example in examples)


def _script(text: str) -> str:
    letters = [char for char in text[:400] if char.isalpha()]
    ascii_letters = sum(char.isascii() for char in letters)
    if 2 * ascii_letters >= len(letters):
        return "Latin" if letters else "none"
    names = Counter(unicodedata.name(char, "other").split(" ")[0].title() for char in letters if not char.isascii())
    return names.most_common(1)[0][0]
