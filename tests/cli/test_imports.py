"""Modules that a start of the command line must not wait for."""

from __future__ import annotations

import subprocess
import sys

from support.cli import environment

HEAVY = {
    "aiohttp", "asyncio", "jinja2", "matplotlib", "numba", "numpy", "orjson", "plotly", "pyarrow", "pydantic", "rapidfuzz", "spacy", "sqlite3", "tenacity",
    "xllamacpp", "yaml",
}  # fmt: skip
NOT_BEFORE_A_REQUEST = {"matplotlib", "plotly", "py3langid", "pyarrow", "spacy", "xllamacpp"}

PROGRAM = """
import sys
from explore_async.__main__ import main
try:
    main()
except SystemExit:
    print(*sys.modules, file=sys.stderr)
"""


def loaded(*arguments: str) -> set[str]:
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], env=environment(), capture_output=True, text=True, check=True
    )
    return {name.partition(".")[0] for name in result.stderr.splitlines()[-1].split()}


def test_help_is_quick() -> None:
    """Help loads the command line alone: no library that a command needs for its work."""
    assert not loaded("--help") & HEAVY


def test_help_of_a_command_is_quick() -> None:
    """The same for a command; typer itself looks at its options with pydantic."""
    assert not loaded("run", "--help") & (HEAVY - {"pydantic"})


def test_a_run_loads_what_it_needs(tmp_path) -> None:
    """A run loads no library for reports, for Parquet or for a server of its own before it asks for anything."""
    assert not loaded("run", "quickstart", "--offline", "--out", str(tmp_path / "none")) & NOT_BEFORE_A_REQUEST
