import pytest
from hypothesis import settings
from numba import config

from rouge_kernels import warm_up

# without the JIT a kernel is a thousand times slower: fewer examples; and the first call of one compiles: no deadline
settings.register_profile("kernels", deadline=None, max_examples=30 if config.DISABLE_JIT else 100)
settings.load_profile("kernels")


@pytest.fixture(scope="session", autouse=True)
def _compiled():
    warm_up()
