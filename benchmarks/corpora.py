"""Texts for measurements: those of a file, or any number of texts made of their halves.

A made text is the beginning of one text and the end of another, cut at random places, so it has the words, the lengths
and the near-duplicates of its kind. Without a file, words are drawn by Zipf's law. The same size and seed make the same
texts.
"""

from __future__ import annotations

import gzip
import json
import os
import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

WORDS = 50_000


def texts(corpus: Path | None, size: int | None, *, seed: int = 0) -> list[str]:
    """`size` texts of the file (one per line, .gz or not), or all of it."""
    rng = np.random.default_rng(seed)
    if corpus is None:
        return drawn(rng, size or 50_000)
    with gzip.open(corpus, "rt", encoding="utf-8") if corpus.suffix == ".gz" else corpus.open(encoding="utf-8") as file:
        lines = [line.strip() for line in file if line.strip()]
    if size is None or size <= len(lines):
        return lines[:size]
    words = [line.split() for line in lines]
    return lines + [joined(rng, words) for _ in range(size - len(lines))]


def joined(rng: np.random.Generator, words: list[list[str]]) -> str:
    first, second = (words[at] for at in rng.integers(len(words), size=2))
    return " ".join(first[: rng.integers(len(first) + 1)] + second[rng.integers(len(second) + 1) :]) or first[0]


def drawn(rng: np.random.Generator, size: int) -> list[str]:
    """Texts of 4 to 16 words; one in five repeats the one before it with a word changed."""
    share = 1 / np.arange(1, WORDS + 1)
    stream = iter(rng.choice(WORDS, size=16 * size, p=share / share.sum()).tolist())
    made: list[list[str]] = []
    for length, again in zip(rng.integers(4, 17, size=size).tolist(), (rng.random(size) < 1 / 5).tolist(), strict=True):
        text = [f"w{next(stream)}" for _ in range(length)] if not (again and made) else list(made[-1])
        text[-1] = f"w{next(stream)}"
        made.append(text)
    return [" ".join(text) for text in made]


def articles(rng: np.random.Generator, size: int) -> list[str]:
    """Texts of 1,000 to 5,000 words; one in five repeats the one before it with a tenth of its words changed."""
    share = 1 / np.arange(1, WORDS + 1)
    return _long(rng, size, lambda count: [f"w{word}" for word in rng.choice(WORDS, count, p=share / share.sum())])


def code(rng: np.random.Generator, size: int) -> list[str]:
    """Programs of 1,000 to 5,000 statements: few keywords, names that come again and again; one in five as above."""
    return _long(rng, size, lambda count: [_STATEMENTS[at] for at in rng.integers(len(_STATEMENTS), size=count)])


def rows_of_100_kb(rng: np.random.Generator, size: int) -> list[str]:
    """As `articles`, five to a text, and cut at 100,000 bytes."""
    made = articles(rng, 7 * size)
    return [" ".join(made[at : at + 7]).ljust(100_000)[:100_000] for at in range(0, 7 * size, 7)]


def shuffles(rng: np.random.Generator, size: int) -> list[str]:
    """The same 6,000 words in another order each: no two are near-duplicates, and all share every word."""
    return [" ".join(f"w{word}" for word in rng.permutation(6_000)) for _ in range(size)]


LONG: dict[str, Callable[[np.random.Generator, int], list[str]]] = {
    "articles": articles,
    "code": code,
    "rows of 100 kB": rows_of_100_kb,
    "shuffles of 6,000 words": shuffles,
}
"""Makers of long texts by their names."""
_STATEMENTS = [
    line.format(first=first, second=second)
    for first in ("item", "row", "total", "name", "index", "result")
    for second in ("value", "size", "left", "right", "key")
    for line in (
        "for {first} in {second}:",
        "if {first} is None: return {second}",
        "{first} = self.{second}",
        "{first}.append({second})",
        "def {first}_{second}(self, {first}, {second}):",
        "raise ValueError({first})",
    )
]


def _long(rng: np.random.Generator, size: int, words: Callable[[int], list[str]]) -> list[str]:
    made: list[list[str]] = []
    for length, again in zip(
        rng.integers(1_000, 5_001, size=size).tolist(), (rng.random(size) < 1 / 5).tolist(), strict=True
    ):
        text = list(made[-1]) if again and made else words(length)
        if again:
            for at, word in zip(rng.integers(len(text), size=len(text) // 10), words(len(text) // 10), strict=True):
                text[at] = word
        made.append(text)
    return [" ".join(text) for text in made]


def machine(*packages: str) -> dict[str, Any]:
    """The machine on which a figure was measured."""
    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{package: version(package) for package in ("numba", "numpy", *packages)},
    }


def report(document: dict[str, Any], out: Path | None) -> None:
    """Prints one JSON line as the last, and writes it to a file."""
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps(document))
