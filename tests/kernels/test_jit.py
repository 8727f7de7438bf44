import numba
import pytest

from rouge_kernels import (
    DedupIndex,
    _jit,
    bounds,
    fmeasure,
    lcs,
    lcs_length,
    least_duplicate_lcs,
    postings,
    prefixes,
    scoring,
    search,
)


def test_a_kernel_works_where_nothing_can_be_cached(monkeypatch):
    """numba refuses to cache where it may write nowhere; the kernel is then compiled in memory, not lost."""

    def njit(*, nogil, cache=False):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return numba.njit(nogil=nogil)

    monkeypatch.setattr(_jit, "njit", njit)

    @_jit.jit
    def double(number):
        return 2 * number

    assert double(21) == 42


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="nothing is compiled")
def test_each_kernel_is_compiled_for_one_signature_only():
    """Compiling is what a first start waits for: no call may bring a second specialisation of a kernel."""
    index = DedupIndex(0.7)
    index.add(["a b c", "word " * 200])
    index.admit(["a b c", "", "word " * 190])
    lcs_length(["a"] * 70, [])
    fmeasure(1, 2, 3)
    least_duplicate_lcs(2, 3, 0.5)
    kernels = {
        kernel
        for module in (bounds, lcs, postings, prefixes, scoring, search)
        for kernel in vars(module).values()
        if hasattr(kernel, "signatures")
    }
    assert len(kernels) > 10
    assert {kernel.py_func.__name__: len(kernel.signatures) for kernel in kernels if len(kernel.signatures) > 1} == {}
