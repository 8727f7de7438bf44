"""Numbers of things in words."""

from __future__ import annotations


def counted(number: int, what: str) -> str:
    """The number and the thing, in the plural where there are more or none."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
