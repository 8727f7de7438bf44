"""Random choices by digest: equal on every machine, Python and thread. (Those of `random` may differ by Python.)"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def draw(*parts: object) -> int:
    """A number of 63 bits that depends on the parts alone."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()) >> 1


def sample(items: Sequence[T], count: int, *parts: object) -> tuple[T, ...]:
    """`count` different items at random, in the order drawn; all items where there are fewer."""
    order = sorted(range(len(items)), key=lambda index: draw(*parts, index))
    return tuple(items[index] for index in order[:count])
