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
