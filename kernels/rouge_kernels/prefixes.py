"""The keys of a text, so chosen that any two near-duplicates have one in common.

Fix an order of all tokens. Of the tokens that a duplicate shares with a text of m tokens, at least `need` in number,
the first is among the first m - need + 1 of the text's tokens, since only m - need are not shared (prefix filtering,
Chaudhuri et al. 2006). By the same count the first two are among the first m - need + 2, and so on. So a key may be one
token of the prefix, or several.

A text is posted under each token of its prefix; but where a token has very many texts already, under the pairs that it
begins, where a pair has as many under the triples, and so on: where there are `FULL` of them for each of the longer
keys that would take the place of this one. So lists stay short however common their tokens, and shortest where that
costs little memory. A list that once was full stays so: whoever looks for duplicates reads the lists of his tokens, and
beyond those that are full also the lists below them.

The order is that of the tokens' ids, the highest first. Ids are given in the order in which tokens are met, so a token
with a high id is rare, nearly always. Being fixed for ever, the order never asks for anything to be built anew.
"""

# ruff: noqa: PLR0917  (compiled calls are positional)

import numpy as np
import numpy.typing as npt

from rouge_kernels._jit import jit

DEPTH = 8
"""The most tokens in a key. A list of keys as deep as this may grow beyond `FULL`."""
FULL = 320
"""Entries of a list from which on a text is posted under a longer key where one takes the place of this one; where
several would, so many times as many. A list is scanned at some two nanoseconds an entry, a longer key takes as long to
find as a hundred of them; memory goes with the keys of a text."""
MOST_KEYS = 128
"""Keys that a text is posted under, where keys of one token do not already come to more."""
TOKEN, FIRST, TIMES, SORTED, ARRANGED = 0, 1, 2, 3, 4
"""The rows of an arrangement, which has a column for each distinct token of a text, in order: the token, how many
tokens of the text, repeats included, come before it in the order, how often it occurs; and a row to sort in.
`ARRANGED` rows."""
WHICH, COPY, KEY, DOWN, PATH = 0, 1, 2, 3, 4
"""The rows of a path, the key of one to `DEPTH` tokens that a walk has come to, which has a column for each of them:
which distinct token it is, and which occurrence of it, from 0; the key of the path so far; and, in the first column
only, whether the next step is down. `PATH` rows."""
LENGTH_BITS, SKIPPED_BITS, TOKEN_BITS = 6, 4, 28
"""What an entry tells of a text: beside its number its length, and in the 32 bits of its hint, from the lowest, how
many of its tokens the key skips, and its tokens."""
UNKNOWN_LENGTH = (1 << LENGTH_BITS) - 1
"""This long or longer."""
MOST_SKIPPED = (1 << SKIPPED_BITS) - 1
MOST_TEXTS = 1 << (32 - LENGTH_BITS)
SIGN = 1 << 31
"""32 bits are stored as a signed number, less by this."""
INSERTION_SORTED = 48
_FOR_KEYS = np.uint64(0x9E37_79B9_7F4A_7C15)
_FOR_TOKENS = np.uint64(0xBF58_476D_1CE4_E5B9)
_FOR_MIXING = np.uint64(0x94D0_49BB_1331_11EB)
_HALF = np.uint64(32)
_BITS_31 = np.uint64(0x7FFF_FFFF)

Rows = npt.NDArray[np.int64]


@jit
def arrange(text: npt.NDArray[np.int32], into: Rows) -> int:
    """The distinct tokens of the text in order; returns how many they are."""
    length = len(text)
    for place in range(length):
        into[SORTED, place] = -int(text[place])
    _sort(into[SORTED, :length])
    distinct = 0
    for position in range(length):
        token = -into[SORTED, position]
        if distinct > 0 and into[TOKEN, distinct - 1] == token:
            into[TIMES, distinct - 1] += 1
            continue
        into[TOKEN, distinct] = token
        into[FIRST, distinct] = position
        into[TIMES, distinct] = 1
        distinct += 1
    return distinct


@jit
def _sort(values: Rows) -> None:
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
def go_down(path: Rows) -> None:
    """Let the next step be to the keys below this one."""
    path[DOWN, 0] = 1


@jit
def to_root(path: Rows) -> int:
    """Let the next step be from above all keys to the first of them; returns the depth there, -1."""
    path[DOWN, 0] = 1
    return int(np.int64(-1))


@jit
def step(path: Rows, depth: int, deepest: int, spare: int, arranged: Rows, distinct: int) -> int:
    """Go on, depth first, to the next key that the text has: to the first one below, if that was chosen by `go_down`.

    `spare`: how many tokens of the text need not be shared. Returns the new depth, from 0; -1 when the walk is over.
    """
    if path[DOWN, 0] == 1 and depth < deepest:
        index = path[WHICH, depth] if depth >= 0 else 0
        copy = path[COPY, depth] + 1 if depth >= 0 else 0
        depth += 1
    else:
        index, copy = path[WHICH, depth] + 1, 0
    path[DOWN, 0] = 0
    while depth >= 0:
        if copy > 0 and copy >= arranged[TIMES, index]:
            index, copy = index + 1, 0
        if index < distinct and arranged[FIRST, index] + copy <= spare + depth:
            path[WHICH, depth], path[COPY, depth] = index, copy
            path[KEY, depth] = _key(path[KEY, depth - 1] if depth > 0 else 0, arranged[TOKEN, index])
            break
        depth -= 1
        if depth >= 0:
            index, copy = path[WHICH, depth] + 1, 0
    return depth


@jit
def skipped(path: Rows, depth: int, arranged: Rows) -> int:
    """How many tokens of the text that are not of the key come before the last one that is."""
    return int(arranged[FIRST, path[WHICH, depth]] + path[COPY, depth] - depth)


@jit
def most_below(path: Rows, depth: int, spare: int, arranged: Rows) -> int:
    """How many keys of one token more the text may have below this one: one at least."""
    return spare - skipped(path, depth, arranged) + 1


@jit
def hint_of(skips: int, signature: np.uint64) -> int:
    """What is to be known of a text under a key without a look at it, its length aside."""
    return (int(signature) << SKIPPED_BITS | min(skips, MOST_SKIPPED)) - SIGN


@jit
def numbered(text: int, length: int) -> int:
    """The number of a text together with its length."""
    return (text << LENGTH_BITS | min(length, UNKNOWN_LENGTH)) - SIGN


@jit
def _key(above: int, token: int) -> int:
    """31 well-mixed bits. Unsigned throughout: numba takes it that signed products never overflow."""
    mixed = np.uint64(above) * _FOR_KEYS + np.uint64(token + 1) * _FOR_TOKENS
    mixed = (mixed ^ (mixed >> _HALF)) * _FOR_MIXING
    return int((mixed ^ (mixed >> _HALF)) & _BITS_31)
