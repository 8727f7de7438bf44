import json
import os
import subprocess
import sys

import numba
import pytest

from rouge_kernels import _jit

EVERY_KERNEL = """
import json
import numpy as np
import rouge_kernels as rk
from rouge_kernels import blocks, bounds, candidates, comparison, lcs, placement, postings, prefixes, query
from rouge_kernels import reductions, scorer, scoring, search, vocabulary, within

index = rk.DedupIndex(0.7)
index.add(["a b c", "word " * 200])
index.admit(["a b c", "", "word " * 190])
index.admit(["a b c d"] * 300, threads=2)
rk.similar_pairs(["a b c", "a b c"], 0.5)
rk.lcs_length(["a"] * 70, [])
rk.fmeasure(1, 2, 3)
rk.least_duplicate_lcs(2, 3, 0.5)
rk.RougeL().score("a b", "a c")
texts = vocabulary.Vocabulary(rk.RougeTokenizer()).encode(["a b c", "word " * 200, "", "d e a"])
for function in (rk.lcs_matrix, rk.best, rk.mean):
    function(texts, texts)
rk.top_k(texts, texts, 2, excluding=np.arange(4))
rk.histogram(texts, texts, 20)
modules = (blocks, bounds, candidates, comparison, lcs, placement, postings, prefixes, query, reductions)
modules += (scorer, scoring, search, vocabulary, within)
kernels = {kernel for module in modules for kernel in vars(module).values() if hasattr(kernel, "py_func")}
print(json.dumps({kernel.py_func.__name__: len(kernel.signatures) for kernel in kernels}))
"""


def test_a_kernel_works_without_a_cache(monkeypatch):
    """If numba finds no folder that it can write to, the kernel is compiled in memory."""

    def njit(*, nogil, cache=False):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return numba.njit(nogil=nogil)

    monkeypatch.setattr(_jit, "njit", njit)

    @_jit.jit
    def double(number):
        return 2 * number

    assert double(21) == 42


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="nothing is compiled")
def test_each_kernel_is_compiled_for_one_signature_only(tmp_path):
    """No call compiles a kernel for a second set of types, which would make the first start slower.

    The test needs a process of its own with an empty cache, because a kernel from the cache hides its other signatures.
    Optimisation is off, because numba infers types before it. (numba warns that it does not cache such code.)
    """
    environment = {
        **os.environ,
        "NUMBA_CACHE_DIR": str(tmp_path),
        "NUMBA_OPT": "0",
        "PYTHONPATH": os.pathsep.join(sys.path),
        "PYTHONWARNINGS": "ignore",
    }
    output = subprocess.check_output([sys.executable, "-c", EVERY_KERNEL], env=environment, text=True)
    signatures = json.loads(output)
    assert len(signatures) > 50
    assert {name: number for name, number in signatures.items() if number != 1} == {}


AFTER_WARM_UP = """
import sys
import rouge_kernels as rk
from rouge_kernels import _jit

rk.warm_up()
compiled = []
import numba.core.dispatcher as dispatcher
before = dispatcher.Dispatcher._compile_for_args
dispatcher.Dispatcher._compile_for_args = lambda self, *args: (compiled.append(self.py_func.__name__), before(self, *args))[1]
index = rk.DedupIndex(0.7)
for turn in range(40):
    index.admit([f"{turn} {number} some words {number * 7} to fill it {turn * number}" for number in range(300)])
    index.add([" ".join(map(str, range(turn, turn + 30 * turn)))])
    index.admit([f"one by one {turn}"])
print(compiled)
"""


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="nothing is compiled")
def test_after_warm_up_an_index_compiles_nothing():
    """`warm_up` compiles every kernel that an index needs, also while the index grows."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    output = subprocess.check_output([sys.executable, "-c", AFTER_WARM_UP], env=environment, text=True)
    assert output.strip() == "[]"
