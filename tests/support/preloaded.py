"""The command line that behaves as the modules in preload/ say, for a process that has started without them."""

from __future__ import annotations

import runpy
from pathlib import Path

if __name__ == "__main__":
    runpy.run_path(str(Path(__file__).parent / "preload" / "sitecustomize.py"))
    runpy.run_module("explore_async", run_name="__main__", alter_sys=True)
