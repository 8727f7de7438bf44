"""Modules of serving are light to import: a finished run replays without a client or a server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import explore_async

ROOT = Path(explore_async.__file__).parents[1]
PROGRAM = """
import sys
import explore_async.serving.endpoints.pool, explore_async.serving.servers.launch, explore_async.serving.servers.embedded
print(*sorted({"aiohttp", "numba", "numpy", "xllamacpp", "vllm", "huggingface_hub"} & set(sys.modules)))
"""


def test_the_pool_and_the_servers_load_no_heavy_library():
    """Pool, launch and servers are imported by each start of a run; aiohttp and numba are loaded by what uses them."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
