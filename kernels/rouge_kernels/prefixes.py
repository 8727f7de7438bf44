"""The keys of a text, so chosen that any two near-duplicates have one in common.

Fix an order of all tokens. Of the tokens that a duplicate shares with a text of m tokens, at least `need` in number,
the first is among the first m - need + 1 of the text's tokens, since only m - need are not shared (prefix filtering,
Chaudhuri et al. 2006). By the same count the first two are among the first m - need + 2, and so on. So a key may be one
token of the prefix, or several.

A text is posted under each token of its prefix; but where a token has `FULL` texts already, under the pairs that it
begins, where a pair is full under the triples, and so on. So lists stay short however common their tokens, and a list
that once was full stays so: whoever looks for duplicates reads the lists of his tokens, and beyond those that are full
also the lists below them.

The order is that of the tokens' ids, the highest first. Ids are given in the order in which tokens are met, so a token
with a high id is rare, nearly always. Being fixed for ever, the order never asks for anything to be built anew.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rouge_kernels._jit import jit

DEPTH = 8
"""The most tokens in a key. A list of keys as deep as this may grow beyond `FULL`."""
FULL = 63
"""Entries: a node's own and its blocks of 2, 4, … 32."""
MOST_KEYS = 128
"""Keys that a text is posted under, where keys of one token do not already come to more."""
DEPTH_NOW, DOWN = 0, 1
UNKNOWN_PLACE = 255
UNKNOWN_LAST = 127
UNKNOWN_LENGTH = 255
INSERTION_SORTED = 48
_FOR_KEYS = np.uint64(0x9E37_79B9_7F4A_7C15)
_FOR_TOKENS = np.uint64(0xBF58_476D_1CE4_E5B9)
_FOR_MIXING = np.uint64(0x94D0_49BB_1331_11EB)
_HALF = np.uint64(32)
_BITS_31 = np.uint64(0x7FFF_FFFF)


class Arrangement(NamedTuple):
    """Room for the distinct tokens of one text, in order."""

    sorted: npt.NDArray[np.int64]
    tokens: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    """How many tokens of the text, repeats included, come before it in the order."""
    times: npt.NDArray[np.int64]
    place: npt.NDArray[np.int64]
    """Where it stands in the text; `UNKNOWN_PLACE` for what stands there twice, or far behind."""


class Path(NamedTuple):
    """The key of one to `DEPTH` tokens that a walk has come to: for each of them, from the first on…"""

    which: npt.NDArray[np.int64]
    """which distinct token it is,"""
    copy: npt.NDArray[np.int64]
    """and which occurrence of it, from 0;"""
    key: npt.NDArray[np.int64]
    """the key of the path so far;"""
    state: npt.NDArray[np.int64]
    """and how deep the walk is, and whether its next step is down."""


@jit
def arrangement_for(longest: int) -> Arrangement:
    return Arrangement(
        np.empty(longest, dtype=np.int64),
        np.empty(longest, dtype=np.int64),
        np.empty(longest, dtype=np.int64),
        np.empty(longest, dtype=np.int64),
        np.empty(longest, dtype=np.int64),
    )


@jit
def empty_path() -> Path:
    return Path(
        np.zeros(DEPTH, dtype=np.int64),
        np.zeros(DEPTH, dtype=np.int64),
        np.zeros(DEPTH, dtype=np.int64),
        np.zeros(2, dtype=np.int64),
    )


@jit
def arrange(text: npt.NDArray[np.int32], into: Arrangement) -> int:
    """The distinct tokens of the text in order; returns how many they are."""
    length = len(text)
    for place in range(length):
        into.sorted[place] = (-int(text[place]) << 32) | place
    _sort(into.sorted[:length])
    distinct = 0
    for position in range(length):
        token = -(into.sorted[position] >> 32)
        if distinct > 0 and into.tokens[distinct - 1] == token:
            into.times[distinct - 1] += 1
            into.place[distinct - 1] = UNKNOWN_PLACE
            continue
        into.tokens[distinct] = token
        into.first[distinct] = position
        into.times[distinct] = 1
        into.place[distinct] = min(into.sorted[position] & 0xFFFF_FFFF, UNKNOWN_PLACE)
        distinct += 1
    return distinct


@jit
def _sort(values: npt.NDArray[np.int64]) -> None:
    if len(values) > INSERTION_SORTED:
        values.sort()
        return
    for end in range(1, len(values)):
        value = values[end]
        hole = end
        while hole > 0 and values[hole - 1] > value:
            values[hole] = values[hole - 1]
            hole -= 1
        values[hole] = value


@jit
def to_root(path: Path) -> None:
    """Where a walk begins: above all keys, about to go down."""
    path.state[DEPTH_NOW], path.state[DOWN] = -1, 1


@jit
def step(path: Path, deepest: int, spare: int, arranged: Arrangement, distinct: int) -> int:
    """Go on, depth first, to the next key that the text has: to the first one below, if that was chosen by `go_down`.

    `spare`: how many tokens of the text need not be shared. Returns the new depth, from 0; -1 when the walk is over.
    """
    depth = path.state[DEPTH_NOW]
    if path.state[DOWN] == 1 and depth < deepest:
        if depth < 0:
            index, copy = 0, 0
        else:
            index, copy = path.which[depth], path.copy[depth] + 1
        depth += 1
    else:
        index, copy = path.which[depth] + 1, 0
    path.state[DOWN] = 0
    while depth >= 0:
        if copy > 0 and copy >= arranged.times[index]:
            index, copy = index + 1, 0
        if index < distinct and arranged.first[index] + copy <= spare + depth:
            path.which[depth], path.copy[depth] = index, copy
            path.key[depth] = _key(path.key[depth - 1] if depth > 0 else 0, arranged.tokens[index])
            break
        depth -= 1
        if depth >= 0:
            index, copy = path.which[depth] + 1, 0
    path.state[DEPTH_NOW] = depth
    return int(depth)


@jit
def go_down(path: Path) -> None:
    """Let the next step be to the keys below this one."""
    path.state[DOWN] = 1


@jit
def last_of(path: Path, depth: int, arranged: Arrangement) -> int:
    """How many tokens of the text come before the last one of the key."""
    return int(arranged.first[path.which[depth]] + path.copy[depth])


@jit
def hint_of(length: int, path: Path, depth: int, arranged: Arrangement) -> int:
    """31 bits about the text and where the key's tokens stand in it."""
    return int(
        min(length, UNKNOWN_LENGTH)
        | min(last_of(path, depth, arranged), UNKNOWN_LAST) << 8
        | arranged.place[path.which[0]] << 15
        | arranged.place[path.which[depth]] << 23
    )


@jit
def _key(above: int, token: int) -> int:
    """31 well-mixed bits. Unsigned throughout: numba takes it that signed products never overflow."""
    mixed = np.uint64(above) * _FOR_KEYS + np.uint64(token + 1) * _FOR_TOKENS
    mixed = (mixed ^ (mixed >> _HALF)) * _FOR_MIXING
    return int((mixed ^ (mixed >> _HALF)) & _BITS_31)
