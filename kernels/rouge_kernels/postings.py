"""A hash table from keys to lists of the texts posted under them, which grows a little at a time.

Linear hashing (Litwin 1980): the buckets are split one by one, in turn, as nodes come in, so that no insertion ever
waits for a table to be rebuilt. A node holds its first entry itself; the others lie in a block, which is left for one
of twice the length when it is full; beyond `LONGEST_BLOCK` entries there follows another block, so that little is
copied and little lies idle. Blocks that were left are used again. A block has the hints of its entries side by side,
which is how vector instructions like them, then their texts.
"""

# ruff: noqa: PLR0917  (compiled calls are positional)

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rouge_kernels._jit import jit
from rouge_kernels.lcs import popcount
from rouge_kernels.ragged import grown

FIRST = 64
SHORTEST_BLOCK = 2
LONGEST_BLOCK = 64
NEXT, KEY, BLOCK, FIRST_ENTRY, NODE = 0, 1, 2, 3, 5
"""A node: the next in its bucket (0: none), its key, its newest block (0: none) and its first entry; `NODE` fields."""
HINT, TEXT, ENTRY = 0, 1, 2
"""An entry: the text, and what is to be known of it without a look at it; `ENTRY` fields. How the text's length goes
with its number, and what a hint has, is for those to know who post them."""
BEFORE, ENTRIES, LENGTH, HEADER = 0, 1, 2, 3
"""A block begins with the block before it (0: none; else one with `LONGEST_BLOCK` entries), the entries of its list up
to its last, and how many it can take; `HEADER` fields."""
MOST = 2**31 - 1
NODES, MASK, SPLIT, SLOTS, FREE, STATE = 0, 1, 2, 3, 4, 4 + 7
"""What `state` holds: nodes and slots in use, the mask of the buckets not yet split, how many of them are split; and
from `FREE` on for each length of a block the last one that was left, linked by `BEFORE`. `STATE` fields."""


class Table(NamedTuple):
    """Views of the postings' arrays. Node 0 and slot 0 stand for none.

    Compiled functions that are called for every key take the arrays themselves: to pass a tuple of arrays costs more
    than what they do.
    """

    nodes: npt.NDArray[np.int32]
    heads: npt.NDArray[np.int32]
    slots: npt.NDArray[np.int32]
    """The blocks, back to back."""
    state: npt.NDArray[np.int64]
    longest: npt.NDArray[np.int64]
    """For each depth of keys the length of the longest text that has a key of that depth or more."""


class Postings:
    """Owns the arrays of a table."""

    def __init__(self, depths: int) -> None:
        self._nodes: npt.NDArray[np.int32] = np.zeros((FIRST, NODE), dtype=np.int32)
        self._heads: npt.NDArray[np.int32] = np.zeros(FIRST, dtype=np.int32)
        self._slots: npt.NDArray[np.int32] = np.zeros(FIRST, dtype=np.int32)
        self._state: npt.NDArray[np.int64] = np.empty(STATE, dtype=np.int64)
        self._longest: npt.NDArray[np.int64] = np.empty(depths, dtype=np.int64)
        self.clear()

    def clear(self) -> None:
        """Take everything out, but keep the room."""
        self._heads[:] = 0
        self._state[:] = 0
        self._state[:FREE] = 1, FIRST - 1, 0, 1
        self._longest[:] = 0

    @property
    def table(self) -> Table:
        return Table(self._nodes, self._heads, self._slots, self._state, self._longest)

    def reserve(self, entries: int, texts: int) -> None:
        """Make room for so many more entries, where so many texts are posted already."""
        self._nodes = _with_room(self._nodes, int(self._state[NODES]) + entries)
        self._heads = _with_room(self._heads, int(self._state[NODES]) + entries)
        self._slots = _with_room(self._slots, int(self._state[SLOTS]) + entries * slots_at_most(texts))

    @property
    def nbytes(self) -> int:
        return self._nodes.nbytes + self._heads.nbytes + self._slots.nbytes


def _with_room(array: npt.NDArray[np.int32], rows: int) -> npt.NDArray[np.int32]:
    if rows > MOST:
        raise OverflowError("an index holds no more than 2**31 numbers in its postings: some 40 million short texts")
    return grown(array, rows)


@jit
def slots_at_most(texts: int) -> int:
    """The slots that one entry may take where so many texts are posted: those of a block twice as long as before."""
    return HEADER + ENTRY * min(2 * texts + SHORTEST_BLOCK, LONGEST_BLOCK)


@jit
def has_room(table: Table, entries: int, texts: int) -> bool:
    """Whether so many entries can be posted, wherever they go, where so many texts are posted already."""
    nodes, slots = table.state[NODES] + entries, table.state[SLOTS] + entries * slots_at_most(texts)
    return bool(nodes <= len(table.nodes) and nodes <= len(table.heads) and slots <= len(table.slots))


@jit
def find(key: int, nodes: npt.NDArray[np.int32], heads: npt.NDArray[np.int32], state: npt.NDArray[np.int64]) -> int:
    """The node with the key, or 0."""
    node = int(heads[_bucket(key, state)])
    while node != 0 and nodes[node, KEY] != key:
        node = int(nodes[node, NEXT])
    return int(np.int64(node))


@jit
def entries_of(node: int, nodes: npt.NDArray[np.int32], slots: npt.NDArray[np.int32]) -> int:
    """How many texts are posted under the node's key."""
    block = int(nodes[node, BLOCK])
    return 1 if block == 0 else int(np.int64(slots[block + ENTRIES]))


@jit
def post(
    key: int,
    node: int,
    text: int,
    hint: int,
    nodes: npt.NDArray[np.int32],
    heads: npt.NDArray[np.int32],
    slots: npt.NDArray[np.int32],
    state: npt.NDArray[np.int64],
) -> None:
    """Enter a text under the key, whose node is `node`, or 0 if it has none yet. There is room for it."""
    if node == 0:
        node = _add_node(key, nodes, heads, state)
        nodes[node, FIRST_ENTRY + HINT] = hint
        nodes[node, FIRST_ENTRY + TEXT] = text
        return
    block, entries = int(nodes[node, BLOCK]), entries_of(node, nodes, slots)
    place = in_last_block(entries + 1) - 1
    if place == 0:  # a bare constant, or an element of an array passed on, would be a type of its own to numba
        full = block
        block = _block(int(np.int64(SHORTEST_BLOCK)), slots, state)
        slots[block + BEFORE] = full
    elif place == slots[block + LENGTH]:
        block = _longer(block, slots, state)
    nodes[node, BLOCK] = block
    at = block + HEADER + place
    slots[at] = hint
    slots[at + slots[block + LENGTH]] = text
    slots[block + ENTRIES] = entries + 1


@jit
def in_last_block(entries: int) -> int:
    """How many of the entries of a list, which are two at least, lie in its newest block."""
    return (entries - 2) % LONGEST_BLOCK + 1


@jit
def _longer(block: int, slots: npt.NDArray[np.int32], state: npt.NDArray[np.int64]) -> int:
    """A block with the entries of a full one, which is left, and room for more."""
    length = int(np.int64(slots[block + LENGTH]))
    new = _block(2 * length, slots, state)
    slots[new + BEFORE] = slots[block + BEFORE]
    for field in range(ENTRY):
        source, target = block + HEADER + field * length, new + HEADER + field * 2 * length
        for at in range(length):
            slots[target + at] = slots[source + at]
    slots[block + BEFORE] = state[_free(length)]
    state[_free(length)] = block
    return new


@jit
def _block(length: int, slots: npt.NDArray[np.int32], state: npt.NDArray[np.int64]) -> int:
    """A block of this length: one that was left, or a new one."""
    block = int(state[_free(length)])
    if block != 0:
        state[_free(length)] = slots[block + BEFORE]
        return block
    block = int(state[SLOTS])
    state[SLOTS] = block + HEADER + ENTRY * length
    slots[block + LENGTH] = length
    return block


@jit
def _free(length: int) -> int:
    """Where the state tells of the blocks of this length, a power of two."""
    return FREE + popcount(np.uint64(length - 1))


@jit
def _bucket(key: int, state: npt.NDArray[np.int64]) -> int:
    bucket = key & int(state[MASK])
    if bucket < state[SPLIT]:
        bucket = key & int(2 * state[MASK] + 1)
    return bucket


@jit
def _add_node(
    key: int, nodes: npt.NDArray[np.int32], heads: npt.NDArray[np.int32], state: npt.NDArray[np.int64]
) -> int:
    node = int(state[NODES])
    bucket = _bucket(key, state)
    nodes[node, NEXT] = heads[bucket]
    nodes[node, KEY] = key
    nodes[node, BLOCK] = 0
    heads[bucket] = node
    state[NODES] = node + 1
    if node > state[MASK] + state[SPLIT]:
        _split(nodes, heads, state)
    return node


@jit
def _split(nodes: npt.NDArray[np.int32], heads: npt.NDArray[np.int32], state: npt.NDArray[np.int64]) -> None:
    """Deal the nodes of the next bucket in turn out to it and to a new one."""
    low, bit = state[SPLIT], state[MASK] + 1
    node = int(heads[low])
    stay, go = 0, 0
    while node != 0:
        following = int(nodes[node, NEXT])
        if nodes[node, KEY] & bit:
            nodes[node, NEXT] = go
            go = node
        else:
            nodes[node, NEXT] = stay
            stay = node
        node = following
    heads[low] = stay
    heads[low + bit] = go
    state[SPLIT] = low + 1
    if low + 1 == bit:
        state[MASK] = 2 * bit - 1
        state[SPLIT] = 0
