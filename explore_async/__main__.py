"""The program's door: `explore-async` and `python -m explore_async`."""

from __future__ import annotations

import sys

_EXIT_SIGINT = 130


def main() -> None:
    """Runs the program. Ctrl-C while it is still loading ends it as quietly as later on."""
    try:
        from explore_async import cli
    except KeyboardInterrupt:
        sys.exit(_EXIT_SIGINT)
    cli.main()


if __name__ == "__main__":
    main()
