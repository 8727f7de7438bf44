"""Exact near-duplicate filtering by ROUGE-L, thousands of times faster than scoring pair by pair.

A text is dropped when its ROUGE-L with a text kept before it is above a threshold. Every decision equals that of a
loop over `rouge_score` (google-research's scorer), to the last bit of the score.

    index = DedupIndex(0.7)
    index.add(seeds)
    admission = index.admit(candidates)  # .kept, .nearest, .score, .lcs

`similar_pairs` finds all pairs above a threshold, and `RougeL` scores pairs as `rouge_score` does, bit for bit.

The kernels do not know where texts come from or what happens to them. numba compiles a kernel on its first call
(`warm_up` compiles them all at once); an import compiles nothing. `NUMBA_DISABLE_JIT=1` runs them as plain Python.

What needs numba is imported at its first use: that takes half a second, and many programs use tokenizers alone.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from rouge_kernels.tokenizer import TOKENIZERS, RougeTokenizer, Tokenizer, UnicodeTokenizer

if TYPE_CHECKING:
    from rouge_kernels._jit import compilation_told
    from rouge_kernels.index import Admission, DedupIndex, similar_pairs, warm_up
    from rouge_kernels.lcs import lcs_length
    from rouge_kernels.overlap import Nearest, best, histogram, lcs_matrix, mean, top_k
    from rouge_kernels.ragged import Texts
    from rouge_kernels.scorer import RougeL, Score, Scores
    from rouge_kernels.scoring import IDENTICAL, fmeasure, least_duplicate_lcs
    from rouge_kernels.vocabulary import Vocabulary

__all__ = [
    "IDENTICAL",
    "TOKENIZERS",
    "Admission",
    "DedupIndex",
    "Nearest",
    "RougeL",
    "RougeTokenizer",
    "Score",
    "Scores",
    "Texts",
    "Tokenizer",
    "UnicodeTokenizer",
    "Vocabulary",
    "best",
    "compilation_told",
    "fmeasure",
    "histogram",
    "lcs_length",
    "lcs_matrix",
    "least_duplicate_lcs",
    "mean",
    "similar_pairs",
    "top_k",
    "warm_up",
]

_PLACES = {
    "_jit": ("compilation_told",),
    "index": ("Admission", "DedupIndex", "similar_pairs", "warm_up"),
    "lcs": ("lcs_length",),
    "overlap": ("Nearest", "best", "histogram", "lcs_matrix", "mean", "top_k"),
    "ragged": ("Texts",),
    "scorer": ("RougeL", "Score", "Scores"),
    "scoring": ("IDENTICAL", "fmeasure", "least_duplicate_lcs"),
    "vocabulary": ("Vocabulary",),
}


def __getattr__(name: str) -> object:
    for module, names in _PLACES.items():
        if name in names:
            value: object = getattr(import_module(f"{__name__}.{module}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
