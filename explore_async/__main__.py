"""The program's door: `explore-async` and `python -m explore_async`."""

from __future__ import annotations

from explore_async.interrupts import at_once, undisturbed


def main() -> None:
    """Runs the program. Ctrl-C while it is still loading ends it as quietly as later on."""
    with at_once():
        from explore_async import cli
    try:
        cli.main()
    finally:
        undisturbed()


if __name__ == "__main__":
    main()
