"""Runs the real command line, in a process of its own or in this one."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import re
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import orjson
import pytest
import typer.main

from explore_async.cli.app import app, main
from support.template import Template

ROOT = Path(__file__).parents[2]
PRELOAD = Path(__file__).parent / "preload"
"""First on the path of processes that are to behave otherwise; see the module in there."""
PRELOADED = PRELOAD.with_name("preloaded.py")
"""The command line that behaves so, as a program for a copy of a template."""
DERIVED = ("dataset.jsonl", "tree.json", "decisions.jsonl")

_COMMAND = typer.main.get_command(app)
"""Built once: it takes longer than most commands on a few rows."""

RECIPE = """
name: test
domains:
  - name: Look after a garden
    description: plants and tools
    examples:
      - {instruction: Say when to prune roses, output: In late winter.}
    topics: [roses, soil, birds]
exploration: {depth: 2, breadth: [4, 3], step: 2}
generation: {per_request: 3, demonstrations: 1}
targets: {examples: 100}
window: 64
"""
CONFIG = RECIPE + "operation: {report: false}\n"
"""A report at the end takes seconds, and has tests of its own."""


@dataclass(frozen=True)
class Finished:
    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> dict[str, Any]:
        return orjson.loads(self.stdout.strip().splitlines()[-1])


def environment(**more: str) -> dict[str, str]:
    """The environment of the suite, without what would make each process compile all modules again."""
    left_out = ("COV_", "PYTEST_", "PYTHONDONTWRITEBYTECODE")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    path = os.pathsep.join([str(ROOT), str(ROOT / "kernels")])
    return {**inherited, "PYTHONPATH": path, "PYTHONWARNINGS": "default", **more}


async def launch(*arguments: str | Path, **env: str) -> asyncio.subprocess.Process:
    """The command in a process of its own, as a copy of one that has loaded the program in the same environment."""
    wanted = environment(**env)
    if (template := _template(wanted)) is not None:
        return await template.start([str(argument) for argument in arguments])
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "explore_async", *map(str, arguments)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=wanted,
    )


_templates: list[Template] = []
_environments: list[dict[str, str]] = []
"""Those of the processes that were started without a template."""


def _template(wanted: dict[str, str]) -> Template | None:
    """None for an environment that is wanted for the first time, except the suite's own: most are wanted only once."""
    for template in _templates:
        if template.environment == wanted:
            return template
    if sys.platform != "linux" or (wanted != environment() and wanted not in _environments):
        _environments.append(wanted)
        return None
    _templates.append(Template(wanted))
    return _templates[-1]


def suite_template() -> Template | None:
    """The process with the suite's own environment, to be copied; None where the system cannot hand files on."""
    return _template(environment())


async def finished(process: asyncio.subprocess.Process) -> Finished:
    stdout, stderr = await process.communicate()
    assert process.returncode is not None
    return Finished(process.returncode, stdout.decode(), stderr.decode())


async def explore(*arguments: str | Path, **env: str) -> Finished:
    """The command's exit code and what it printed. A traceback is a bug whatever the code."""
    result = await finished(await launch(*arguments, **env))
    assert "Traceback" not in result.stderr, result.stderr
    return result


async def explore_watched(*arguments: str | Path, **env: str) -> tuple[Finished, int]:
    """The same, with the most memory that the process held, in MiB; 0 on a system without /proc."""
    process = await launch(*arguments, **env)
    status, peak_kib = Path(f"/proc/{process.pid}/status"), 0

    async def look() -> None:
        nonlocal peak_kib
        while status.exists():
            with contextlib.suppress(OSError):
                peak_kib = max([peak_kib, *map(int, re.findall(r"VmHWM:\s+(\d+)", status.read_text()))])
            await asyncio.sleep(0.05)

    looking = asyncio.create_task(look())
    result = await finished(process)
    looking.cancel()
    assert "Traceback" not in result.stderr, result.stderr
    return result, peak_kib >> 10


def in_process(*arguments: str | Path) -> Finished:
    """The same in this process, for tests that need many commands and no signals."""
    stdout, stderr = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="replace") for _ in range(2))
    with (
        redirect_stdout(stdout),
        redirect_stderr(stderr),
        patch.object(sys, "argv", ["x", *map(str, arguments)]),
        patch.object(typer.main, "get_command", lambda _app: _COMMAND),
    ):
        with pytest.raises(SystemExit) as ending:
            main()
        stdout.flush()
        stderr.flush()
    return Finished(*(ending.value.code or 0, *(one.buffer.getvalue().decode() for one in (stdout, stderr))))


def filled(config: str) -> str:
    """What `init` prints, as if a user had written a text of their own into each place."""
    return config.replace("REPLACE ME: ", "Something about ")


def derived(directory: Path) -> dict[str, bytes]:
    return {name: (directory / name).read_bytes() for name in DERIVED}


def config(folder: Path, text: str = CONFIG) -> Path:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def check_counts(stats: dict[str, Any], directory: Path) -> None:
    """Everything in stats.json adds up, and with the files beside it."""
    examples, tasks, requests = stats["examples"], stats["tasks"], stats["requests"]
    assert examples["read"] == examples["kept"] + examples["dropped"]["total"] + examples["surplus"]
    for counts in (examples["dropped"], tasks["dropped"], requests["failed"]):
        assert counts["total"] == sum(value for name, value in counts.items() if name != "total")
    kinds = ("lookahead", "backtrack", "generate", "check")
    assert requests["total"] == sum(requests.get(kind, 0) for kind in kinds)
    assert tasks["total"] == sum(tasks["by_depth"].values())
    lines = [orjson.loads(line) for line in (directory / "dataset.jsonl").read_bytes().splitlines()]
    assert len(lines) == examples["kept"]
    decisions = [orjson.loads(line) for line in (directory / "decisions.jsonl").read_bytes().splitlines()]
    of_examples = [line for line in decisions if line["what"] == "example"]
    assert sum(line["kept"] for line in of_examples) == examples["kept"]
    assert sum(not line["kept"] for line in of_examples) == examples["dropped"]["total"]
    assert sum(line["what"] == "failure" for line in decisions) == requests["failed"]["total"]
