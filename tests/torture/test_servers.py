"""All that a server can do wrong: one by one, in pairs and for ever, each with the real command line. Takes minutes.

python -m pytest -m slow tests/torture/test_servers.py
"""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest
from support.cli import check_counts, derived
from support.misbehaving import Behaviour
from support.ordeals import ALWAYS, SLACK_S, STATES, STOP_S, fails, interrupted, run_to_end, undisturbed
from support.server_faults import FAULTS, HANGS, ODDITIES, Disturbed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return asyncio.run(undisturbed(tmp_path_factory.mktemp("whole")))


async def test_all_pairs_make_the_same_bytes(tmp_path: Path) -> None:
    """Each fault followed by each other, then the answer in one of its forms, with a request for each pair: the files
    are those of an undisturbed run.
    """
    pairs, oddities = list(itertools.product(FAULTS.values(), repeat=2)), list(ODDITIES.values())
    target = ("--max-examples", str(3 * len(pairs)), "--window", "768", "--set", "operation.retries.attempts=10")
    async with Disturbed(lambda *_: []) as server:
        assert (await run_to_end(tmp_path, server.url, *target, out="whole", seconds=300)).code == 0

    def plan(number: int, text: str) -> list[Behaviour]:
        return [*pairs[number % len(pairs)], oddities[number % len(oddities)](text)]

    async with Disturbed(plan) as server:
        result = await run_to_end(tmp_path, server.url, *target, seconds=800)
    assert result.code == 0, result.stderr
    assert server.requests >= len(pairs)
    assert derived(tmp_path / "run") == derived(tmp_path / "whole")
    check_counts(result.json, tmp_path / "run")
    assert result.json["requests"]["failed"]["total"] == 0


@pytest.mark.parametrize("name", FAULTS)
async def test_one_fault_now_and_then(tmp_path: Path, whole: dict[str, bytes], name: str) -> None:
    """Each alone, with every third request: the files are those of an undisturbed run."""
    async with Disturbed(lambda number, _: [FAULTS[name]] * (number % 3 == 0)) as server:
        assert (await run_to_end(tmp_path, server.url)).code == 0
    assert derived(tmp_path / "run") == whole


@pytest.mark.parametrize("name", HANGS)
async def test_one_that_hangs_is_asked_a_second_time(tmp_path: Path, whole: dict[str, bytes], name: str) -> None:
    """A request in forty never gets its answer: what holds up the commits is asked again after a minute."""
    async with Disturbed(lambda number, _: [HANGS[name]] * (number == 30)) as server:
        result = await run_to_end(tmp_path, server.url, seconds=300)
    assert result.code == 0, result.stderr
    assert result.json["this_time"]["asked_twice"] == 1
    assert derived(tmp_path / "run") == whole


@pytest.mark.parametrize("good", [0, 20])
@pytest.mark.parametrize("name", ALWAYS)
async def test_each_for_ever(tmp_path: Path, name: str, good: int) -> None:
    """From the first answer on or from the twentieth: the run ends with code 6, names the endpoint and what it said."""
    await fails(tmp_path, name, good)


@pytest.mark.parametrize("name", {**FAULTS, **HANGS})
async def test_a_catalogue_that_is_none(tmp_path: Path, whole: dict[str, bytes], name: str) -> None:
    """Whatever GET /models does for ever: a model that has a name is simply asked for, and the files are those of an
    undisturbed run.
    """
    behaviour = {**FAULTS, **HANGS}[name]
    async with Disturbed(lambda *_: [], catalogue=lambda *_: behaviour) as server:
        result = await run_to_end(tmp_path, server.url, seconds=100)
    assert result.code == 0, result.stderr
    assert derived(tmp_path / "run") == whole


@pytest.mark.parametrize("state", STATES)
async def test_ctrl_c_in_each_state(tmp_path: Path, whole: dict[str, bytes], state: str) -> None:
    """One Ctrl-C ends the run within seconds, with code 130 and nothing leaked, and the same command goes on from there
    to the files of an undisturbed run.
    """
    assert await interrupted(tmp_path, state) < STOP_S + SLACK_S
    async with Disturbed(lambda *_: []) as server:
        assert (await run_to_end(tmp_path, server.url)).code == 0
    assert derived(tmp_path / "run") == whole


async def test_ctrl_c_while_all_cool_down(tmp_path: Path) -> None:
    """With every server gone and its endpoint left alone for a while, one Ctrl-C ends the run within seconds."""
    assert await interrupted(tmp_path, "429", gone=True) < STOP_S + SLACK_S
