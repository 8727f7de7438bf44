"""Nothing of ours may block the event loop: a call that would is an error in every test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import settings
from support.signals import restore_for_children
from support.tracebacks import give_lines

from rouge_kernels import warm_up

settings.register_profile("timeless", deadline=None)  # machines are noisy; what is slow is measured in benchmarks/
settings.load_profile("timeless")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Before every test and its fixtures: processes that they start can be stopped by signals, whoever started the suite."""
    restore_for_children()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> None:
    """Before pytest reads the traceback of a failure."""
    if call.excinfo is not None:
        give_lines(call.excinfo.value)
        call.excinfo = pytest.ExceptionInfo.from_exception(call.excinfo.value)


@pytest.fixture(scope="session", autouse=True)
def compiled() -> None:
    """Kernels are compiled, or loaded from the cache on disk, before a run and not in its loop."""
    warm_up()


@pytest.fixture(autouse=True)
def blockbuster() -> Iterator[BlockBuster]:
    with blockbuster_ctx("explore_async") as blockbuster:
        yield blockbuster
