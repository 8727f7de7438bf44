"""The phase that a run says it is in."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from explore_async.running.performer import PerformerStatistics
from explore_async.running.status import RunStatus


@pytest.mark.parametrize(("stored", "asked", "has_begun", "phase"), [
    (177, 0, False, "replaying"), (177, 0, True, "connecting"), (177, 1, True, "exploring"), (0, 0, True, "exploring"),
])  # fmt: skip
def test_a_replay_ends_where_a_missing_completion_is_due(stored: int, asked: int, has_begun: bool, phase: str) -> None:
    """Then the endpoints answer small requests first, for seconds or a minute: that is no replay that stands still. The
    progress is that of the run.
    """
    status: Any = object.__new__(RunStatus)
    status.stopping, status.stored = False, stored
    status.performer = SimpleNamespace(has_begun_asking=has_begun)
    status._explorer = SimpleNamespace(stage="exploring", planned_tasks=40, wanted=100)
    count = SimpleNamespace(total=lambda: 59)
    status._tally = SimpleNamespace(tasks=count, requests=count, kept=3)
    assert status._phase(PerformerStatistics(177, asked, 0, 0, 0, 118)) == phase
    assert status._steps(phase).what == ("stored completions" if phase == "replaying" else "tasks")
