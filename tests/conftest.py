"""Nothing of ours may block the event loop: a call that would is an error in every test."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

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
    """Kernels are compiled, or loaded from the cache on disk, before a run and not in its loop. One worker at a time: the
    first compiles, the others load what it has compiled.
    """
    with (Path(tempfile.gettempdir()) / f"explore-async-tests-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        warm_up()


@pytest.fixture(autouse=True)
def blockbuster() -> Iterator[BlockBuster]:
    with blockbuster_ctx("explore_async") as blockbuster:
        yield blockbuster


@pytest.fixture
def in_this_process(blockbuster: BlockBuster) -> None:
    """For commands in this process: they open and close files on their loop, where nothing else is going on."""
    blockbuster.deactivate()
