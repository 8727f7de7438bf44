"""The keys of a text, chosen so that any two near-duplicates have a key in common.

Fix an order of all tokens. A duplicate shares at least `need` tokens with a text of m tokens, so at most m - need
tokens of the text are not shared. Therefore the first shared token is among the first m - need + 1 tokens of the text
(prefix filtering, Chaudhuri et al. 2006), the first two are among the first m - need + 2, and so on. So a key may be
one token of the prefix, or several.

A text is posted under each token of its prefix. If a token already has very many texts, the text is posted instead
under the pairs that begin with this token; if such a pair has very many texts, under the triples, and so on. "Very
many" means `FULL` texts for each longer key that would replace this key. So lists stay short even for common tokens,
and they are shortest where that costs little memory. A full list stays full, so a reader scans the lists of the text's
tokens and, below each full list, the lists of the longer keys.

The order of the tokens is that of their ids, the highest first. Ids are given in the order of first use, so a token
with a high id is nearly always rare. The order never changes, so nothing has to be rebuilt.
"""

# ruff: noqa: PLR0917  (compiled calls are positional)

import numpy as np
import numpy.typing as npt

from rouge_kernels._jit import jit

DEPTH = 8
"""The most tokens in a key. The list of a key with this many tokens may grow beyond `FULL`."""
FULL = 320
"""Entries of a list. A text is posted under longer keys when the list has this many entries for each longer key that
would replace it. A scan takes about 2 ns for each entry, and to find a longer key takes as long as a scan of about 100
entries; memory grows with the number of keys."""
MOST_KEYS = 128
"""The most keys that a text is posted under, unless its keys of one token are already more."""
TOKEN, FIRST, TIMES, SORTED, ARRANGED = 0, 1, 2, 3, 4
"""The `ARRANGED` rows of an arrangement, which has a column for each distinct token of a text, in order: the token, the
number of tokens of the text before it (with repeats), the number of times that it occurs, and a row for sorting."""
WHICH, COPY, KEY, DOWN, PATH = 0, 1, 2, 3, 4
"""The `PATH` rows of a path, which is the key of one to `DEPTH` tokens that a walk has reached, with a column for each
of them: the number of the distinct token, the number of the occurrence of it (from 0), the key up to this token, and,
in the first column only, 1 when the next step goes down."""
LENGTH_BITS, SKIPPED_BITS, TOKEN_BITS = 6, 4, 28
"""The bits of an entry. The low bits of the text's number hold the text's length. The 32 bits of the hint hold, from
the lowest, the number of tokens that the key skips and the short signature of the tokens."""
UNKNOWN_LENGTH = (1 << LENGTH_BITS) - 1
"""Stands for this length and every longer one."""
MOST_SKIPPED = (1 << SKIPPED_BITS) - 1
MOST_TEXTS = 1 << (32 - LENGTH_BITS)
SIGN = 1 << 31
"""Unsigned numbers of 32 bits are stored as signed numbers, with this subtracted."""
INSERTION_SORTED = 48
_FOR_KEYS = np.uint64(0x9E37_79B9_7F4A_7C15)
_FOR_TOKENS = np.uint64(0xBF58_476D_1CE4_E5B9)
_FOR_MIXING = np.uint64(0x94D0_49BB_1331_11EB)
_HALF = np.uint64(32)
_BITS_31 = np.uint64(0x7FFF_FFFF)

Rows = npt.NDArray[np.int64]


@jit
def arrange(text: npt.NDArray[np.int32], into: Rows) -> int:
    """Write the arrangement of the text's distinct tokens; return their number."""
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
    """Make the next step go to the keys below this one."""
    path[DOWN, 0] = 1


@jit
def to_root(path: Rows) -> int:
    """Make the next step go to the first key of all; return the depth above all keys, -1."""
    path[DOWN, 0] = 1
    return int(np.int64(-1))


@jit
def step(path: Rows, depth: int, deepest: int, spare: int, arranged: Rows, distinct: int) -> int:
    """Go to the next key of the text, depth first; after `go_down`, to the first key below this one.

    `spare`: the number of tokens of the text that need not be shared. Returns the new depth, from 0; -1 at the end.
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
    """The number of tokens of the text that come before the last token of the key and are not in the key."""
    return int(arranged[FIRST, path[WHICH, depth]] + path[COPY, depth] - depth)


@jit
def most_below(path: Rows, depth: int, spare: int, arranged: Rows) -> int:
    """The most keys with one more token that the text may have below this key; at least 1."""
    return spare - skipped(path, depth, arranged) + 1


@jit
def hint_of(skips: int, signature: np.uint64) -> int:
    """The hint of an entry: the tokens that its key skips, and the short signature of its text."""
    return (int(signature) << SKIPPED_BITS | min(skips, MOST_SKIPPED)) - SIGN


@jit
def numbered(text: int, length: int) -> int:
    """The number of a text with its length in the low bits."""
    return (text << LENGTH_BITS | min(length, UNKNOWN_LENGTH)) - SIGN


@jit
def _key(above: int, token: int) -> int:
    """31 well-mixed bits. All numbers are unsigned, because numba assumes that signed products never overflow."""
    mixed = np.uint64(above) * _FOR_KEYS + np.uint64(token + 1) * _FOR_TOKENS
    mixed = (mixed ^ (mixed >> _HALF)) * _FOR_MIXING
    return int((mixed ^ (mixed >> _HALF)) & _BITS_31)
