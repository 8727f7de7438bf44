"""The writing side of the postings: chooses the keys that a kept text is posted under."""

# ruff: noqa: PLR0917  (compiled calls are positional)

import numpy as np
import numpy.typing as npt

from rouge_kernels._jit import jit
from rouge_kernels.postings import Table, entries_of, find, post
from rouge_kernels.prefixes import (
    DEPTH,
    FULL,
    KEY,
    MOST_KEYS,
    Rows,
    go_down,
    hint_of,
    most_below,
    numbered,
    skipped,
    step,
    to_root,
)
from rouge_kernels.query import Query


@jit
def keys_at_most(length: int, texts: int) -> int:
    """An upper bound on the keys of a text of `length` tokens when `texts` texts are posted already."""
    return max(length, MOST_KEYS) if texts >= FULL else length


@jit
def post_text(query: Query, position: int, table: Table) -> None:
    """Post the text under its keys: as long as full lists require, but no more than `MOST_KEYS` of them.

    A text with as many tokens in its prefix is posted under keys of one token, so that no reader of such texts looks
    for longer keys, of which it may have very many.
    """
    length, need, distinct = len(query.text), query.need, query.distinct
    arranged, path = query.arranged, query.path
    nodes, heads, slots, state, longest = table.nodes, table.heads, table.slots, table.state, table.longest
    spare = length - need
    if spare < 0:
        return
    deepest = min(need, DEPTH) - 1 if spare < MOST_KEYS else 0
    while _count_keys(deepest, spare, arranged, distinct, path, nodes, heads, slots, state) > MOST_KEYS:
        deepest -= 1
    depth = step(path, to_root(path), deepest, spare, arranged, distinct)
    while depth >= 0:
        key = path[KEY, depth]
        node = find(key, nodes, heads, state)
        below = most_below(path, depth, spare, arranged)
        if depth < deepest and node != 0 and entries_of(node, nodes, slots) >= FULL * below:
            go_down(path)
        else:
            hint = hint_of(skipped(path, depth, arranged), query.short_signature)
            post(key, node, numbered(position, length), hint, nodes, heads, slots, state)
            longest[depth] = max(longest[depth], length)
        depth = step(path, depth, deepest, spare, arranged, distinct)


@jit
def _count_keys(
    deepest: int,
    spare: int,
    arranged: Rows,
    distinct: int,
    path: Rows,
    nodes: npt.NDArray[np.int32],
    heads: npt.NDArray[np.int32],
    slots: npt.NDArray[np.int32],
    state: npt.NDArray[np.int64],
) -> int:
    """The number of keys of the text when none is deeper than `deepest`, counted no further than `MOST_KEYS` + 1.

    It is 0 for keys of one token, because nothing shorter could replace them.
    """
    number = 0
    if deepest == 0:
        return number
    depth = step(path, to_root(path), deepest, spare, arranged, distinct)
    while depth >= 0 and number <= MOST_KEYS:
        node = find(path[KEY, depth], nodes, heads, state) if depth < deepest else 0
        below = most_below(path, depth, spare, arranged)
        if node != 0 and entries_of(node, nodes, slots) >= FULL * below:
            go_down(path)
        else:
            number += 1
        depth = step(path, depth, deepest, spare, arranged, distinct)
    return number
