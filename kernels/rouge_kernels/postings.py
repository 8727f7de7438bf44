"""A hash table from keys to lists of the texts posted under them, which grows a little at a time.

The table uses linear hashing (Litwin 1980): as nodes are added it splits one bucket at a time, in turn, so that no
insertion waits for a rebuild. A node stores its first entry itself and the others in a block. When a block is full, its
entries move to a block of twice the length; after `LONGEST_BLOCK` entries another block follows instead, so that the
table copies little and wastes little memory. Old blocks are used again. A block stores the hints of its entries side by
side, as vector instructions need them, and then their texts.
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
"""The `NODE` fields of a node: the next in its bucket (0: none), key, newest block (0: none), first entry."""
HINT, TEXT, ENTRY = 0, 1, 2
"""The `ENTRY` fields of an entry: a hint, which lets a reader judge the text without loading it, and the text.
`prefixes` defines their bits."""
BEFORE, ENTRIES, LENGTH, HEADER = 0, 1, 2, 3
"""The `HEADER` fields of a block: the block before it (0: none; else a block with `LONGEST_BLOCK` entries), the number
of entries of the list up to its last entry, and its capacity."""
MOST = 2**31 - 1
NODES, MASK, SPLIT, SLOTS, FREE, STATE = 0, 1, 2, 3, 4, 4 + 7
"""The `STATE` fields of `state`: nodes in use, the mask of the buckets before the current round of splits, buckets
split in this round, slots in use; and from `FREE` on, for each block length, the last free block, linked by
`BEFORE`."""


class Table(NamedTuple):
    """Views of the postings' arrays. Node 0 and slot 0 mean "none".

    Compiled functions that run for every key take the arrays themselves, because passing a tuple of arrays costs more
    time than the function.
    """

    nodes: npt.NDArray[np.int32]
    heads: npt.NDArray[np.int32]
    slots: npt.NDArray[np.int32]
    """The blocks, back to back."""
    state: npt.NDArray[np.int64]
    longest: npt.NDArray[np.int64]
    """For each depth of keys, the length of the longest text with a key of that depth."""


class Postings:
    """Owns the arrays of a table, and makes them longer."""

    def __init__(self, depths: int) -> None:
        self._nodes: npt.NDArray[np.int32] = np.zeros((FIRST, NODE), dtype=np.int32)
        self._heads: npt.NDArray[np.int32] = np.zeros(FIRST, dtype=np.int32)
        self._slots: npt.NDArray[np.int32] = np.zeros(FIRST, dtype=np.int32)
        self._state: npt.NDArray[np.int64] = np.empty(STATE, dtype=np.int64)
        self._longest: npt.NDArray[np.int64] = np.empty(depths, dtype=np.int64)
        self.clear()

    def clear(self) -> None:
        """Remove all entries, but keep the memory."""
        self._heads[:] = 0
        self._state[:] = 0
        self._state[:FREE] = 1, FIRST - 1, 0, 1
        self._longest[:] = 0

    @property
    def table(self) -> Table:
        return Table(self._nodes, self._heads, self._slots, self._state, self._longest)

    def reserve(self, entries: int, texts: int) -> None:
        """Make room for `entries` more entries when `texts` texts are posted already."""
        self._nodes = _grow(self._nodes, int(self._state[NODES]) + entries)
        self._heads = _grow(self._heads, int(self._state[NODES]) + entries)
        self._slots = _grow(self._slots, int(self._state[SLOTS]) + entries * slots_at_most(texts))

    @property
    def nbytes(self) -> int:
        return self._nodes.nbytes + self._heads.nbytes + self._slots.nbytes


def _grow(array: npt.NDArray[np.int32], rows: int) -> npt.NDArray[np.int32]:
    if rows > MOST:
        raise OverflowError(
            "the postings of an index hold at most 2**31 numbers, about 40 million short texts: use several indexes"
        )
    return grown(array, rows)


@jit
def slots_at_most(texts: int) -> int:
    """The most slots that one more entry needs when `texts` texts are posted: those of a block of twice the length."""
    return HEADER + ENTRY * min(2 * texts + SHORTEST_BLOCK, LONGEST_BLOCK)


@jit
def has_room(table: Table, entries: int, texts: int) -> bool:
    """True when there is room for `entries` more entries under any keys, when `texts` texts are posted already."""
    nodes, slots = table.state[NODES] + entries, table.state[SLOTS] + entries * slots_at_most(texts)
    return bool(nodes <= len(table.nodes) and nodes <= len(table.heads) and slots <= len(table.slots))


@jit
def find(key: int, nodes: npt.NDArray[np.int32], heads: npt.NDArray[np.int32], state: npt.NDArray[np.int64]) -> int:
    """The node with this key, or 0."""
    node = int(heads[_bucket(key, state)])
    while node != 0 and nodes[node, KEY] != key:
        node = int(nodes[node, NEXT])
    return int(np.int64(node))


@jit
def entries_of(node: int, nodes: npt.NDArray[np.int32], slots: npt.NDArray[np.int32]) -> int:
    """The number of texts posted under the node's key."""
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
    """Add a text under the key. `node` is the key's node, or 0 if it has none yet. The caller has made room."""
    if node == 0:
        node = _add_node(key, nodes, heads, state)
        nodes[node, FIRST_ENTRY + HINT] = hint
        nodes[node, FIRST_ENTRY + TEXT] = text
        return
    block, entries = int(nodes[node, BLOCK]), entries_of(node, nodes, slots)
    place = in_last_block(entries + 1) - 1
    if place == 0:  # int(np.int64(…)) here and below: numba gives a literal, or an array element, a type of its own
        full = block
        block = _take_block(int(np.int64(SHORTEST_BLOCK)), slots, state)
        slots[block + BEFORE] = full
    elif place == slots[block + LENGTH]:
        block = _double(block, slots, state)
    nodes[node, BLOCK] = block
    at = block + HEADER + place
    slots[at] = hint
    slots[at + slots[block + LENGTH]] = text
    slots[block + ENTRIES] = entries + 1


@jit
def in_last_block(entries: int) -> int:
    """The number of entries in the newest block of a list of `entries` entries, at least two."""
    return (entries - 2) % LONGEST_BLOCK + 1


@jit
def _double(block: int, slots: npt.NDArray[np.int32], state: npt.NDArray[np.int64]) -> int:
    """Move the entries of a full block to a block of twice the length, free the old block, and return the new one."""
    length = int(np.int64(slots[block + LENGTH]))
    new = _take_block(2 * length, slots, state)
    slots[new + BEFORE] = slots[block + BEFORE]
    for field in range(ENTRY):
        source, target = block + HEADER + field * length, new + HEADER + field * 2 * length
        for at in range(length):
            slots[target + at] = slots[source + at]
    slots[block + BEFORE] = state[_free_field(length)]
    state[_free_field(length)] = block
    return new


@jit
def _take_block(length: int, slots: npt.NDArray[np.int32], state: npt.NDArray[np.int64]) -> int:
    """Take a block of this length: a free one, or a new one."""
    block = int(state[_free_field(length)])
    if block != 0:
        state[_free_field(length)] = slots[block + BEFORE]
        return block
    block = int(state[SLOTS])
    state[SLOTS] = block + HEADER + ENTRY * length
    slots[block + LENGTH] = length
    return block


@jit
def _free_field(length: int) -> int:
    """The field of the state for free blocks of this length, a power of two."""
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
    """Split the next bucket: each of its nodes stays or moves to a new bucket."""
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
