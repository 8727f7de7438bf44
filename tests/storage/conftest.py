"""Shared by these tests: a small finished run, and a server with the same completions as the one it was made with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.stored_run import go_on, serving


@pytest.fixture(scope="session")
def url() -> Iterator[str]:
    with serving() as url:
        yield url


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory, url: str) -> Path:
    path = tmp_path_factory.mktemp("finished") / "run"
    result = go_on(path, url)
    assert result.code == 0, result.stderr
    return path
