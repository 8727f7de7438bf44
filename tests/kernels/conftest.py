import pytest
from hypothesis import settings
from numba import config

from rouge_kernels import warm_up

# fewer examples without the JIT, where a kernel is a thousand times slower; no deadline, because a first call compiles
settings.register_profile("kernels", deadline=None, max_examples=30 if config.DISABLE_JIT else 100)
settings.load_profile("kernels")


@pytest.fixture(scope="session", autouse=True)
def _compile_kernels():
    warm_up()
