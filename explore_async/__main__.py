"""The program's door: `explore-async` and `python -m explore_async`."""

from __future__ import annotations

from explore_async.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
