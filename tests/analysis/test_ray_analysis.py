"""analyze on Ray: the same figures as on one machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import orjson
import pytest
from support.cli import in_process

VERBS = "Write Plant Describe Compare Fix List Draw Explain Find Count".split()  # noqa: SIM905
NOUNS = "a poem|a tree|the rules of a game|two books|a bug in a program|the rivers|a map|a theorem|errors|the words"
NOUNS = [f"{noun} {more}" for noun in NOUNS.split("|") for more in ("", "for a child", "about the sea", "in a garden")]


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("in_this_process")
def test_ray_finds_the_same_figures(tmp_path: Path) -> None:
    """Two data sets side by side, one with tasks: verbs and nouns, overlaps within and across tasks and between the data
    sets, and all else in the document, to the last bit.
    """
    ray = pytest.importorskip("ray")

    rng = np.random.default_rng(3)
    paths = []
    for name, count in (("one", 2600), ("other", 700)):
        rows = [
            {
                "instruction": f"{rng.choice(VERBS)} {rng.choice(NOUNS)} with {rng.integers(40)} words.",
                "output": "Done.",
                "kind": f"kind {rng.integers(5)}" if name == "one" else "all",
            }
            for _ in range(count)
        ]
        paths.append(tmp_path / f"{name}.jsonl")
        paths[-1].write_bytes(b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows))
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    try:
        found = []
        for engine in ("local", "ray"):
            out = tmp_path / f"{engine}.json"
            done = in_process("analyze", *paths, "--column", "task=kind", "--out", out, "--engine", engine)
            assert done.code == 0, done.stderr
            document = orjson.loads(out.read_bytes())
            assert document.pop("seconds")
            found.append(document)
    finally:
        ray.shutdown()
    assert found[0] == found[1]
    assert found[0]["sets"][0]["overlap"]["by_task"] is not None
    assert found[0]["sets"][0]["verb_noun"]["unique"] > 50
