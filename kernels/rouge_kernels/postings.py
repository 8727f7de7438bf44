"""A hash table from keys to lists of the texts posted under them, which grows a little at a time.

Linear hashing (Litwin 1980): the buckets are split one by one, in turn, as nodes come in, so that no insertion ever
waits for a table to be rebuilt. A node holds its first entry itself; the others lie in blocks, each twice as long as
the one before it up to `LONGEST_BLOCK`, so that a long list is read in a few strides.
"""

# ruff: noqa: PLR0917  (compiled calls are positional)

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rouge_kernels._jit import jit

FIRST = 64
LONGEST_BLOCK = 32
NEXT, KEY, COUNT, BLOCK = 0, 1, 2, 3
"""A node: the next in its bucket (0: none), its key, its entries, its newest block (0: none)…"""
FIRST_ENTRY = 4
"""…and its first entry, as it stands in a slot: text, hint, signature."""
ENTRY = 3
NODES, MASK, SPLIT, SLOTS = 0, 1, 2, 3
"""What `state` holds: nodes and slots in use, the mask of the buckets not yet split, how many of them are split."""


class Table(NamedTuple):
    """Views of the postings' arrays. Node 0 and slot 0 stand for none."""

    nodes: npt.NDArray[np.int32]
    heads: npt.NDArray[np.int32]
    slots: npt.NDArray[np.int32]
    """Blocks of entries, each block behind a slot of its own: (the block before it, entries in it, 0)."""
    state: npt.NDArray[np.int64]
    longest: npt.NDArray[np.int64]
    """For each depth of keys the length of the longest text that has a key of that depth or more."""


class Postings:
    """Owns the arrays of a table."""

    def __init__(self, depths: int) -> None:
        self._nodes: npt.NDArray[np.int32] = np.zeros((FIRST, FIRST_ENTRY + ENTRY), dtype=np.int32)
        self._heads: npt.NDArray[np.int32] = np.zeros(FIRST, dtype=np.int32)
        self._slots: npt.NDArray[np.int32] = np.zeros((FIRST, ENTRY), dtype=np.int32)
        self._state: npt.NDArray[np.int64] = np.array([1, FIRST - 1, 0, 1], dtype=np.int64)
        self._longest: npt.NDArray[np.int64] = np.zeros(depths, dtype=np.int64)

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
    """Longer in place where the memory allows: a large block is moved by its page table and not copied."""
    if rows > len(array):
        array.resize((max(rows, len(array) * 9 // 8), *array.shape[1:]), refcheck=False)
    return array


@jit
def slots_at_most(texts: int) -> int:
    """The slots that one entry may take where so many texts are posted: a block is no longer than what is before it."""
    return 1 + min(texts + 2, LONGEST_BLOCK)


@jit
def has_room(table: Table, entries: int, texts: int) -> bool:
    """Whether so many entries can be posted, wherever they go, where so many texts are posted already."""
    nodes, slots = table.state[NODES] + entries, table.state[SLOTS] + entries * slots_at_most(texts)
    return bool(nodes <= len(table.nodes) and slots <= len(table.slots))


@jit
def find(key: int, table: Table) -> int:
    """The node with the key, or 0."""
    node = int(table.heads[_bucket(key, table.state)])
    while node != 0 and table.nodes[node, KEY] != key:
        node = int(table.nodes[node, NEXT])
    return node


@jit
def post(key: int, node: int, text: int, hint: int, signature: int, table: Table) -> None:
    """Enter a text under the key, whose node is `node`, or 0 if it has none yet. There is room for it."""
    if node == 0:
        _add_node(key, text, hint, signature, table)
        return
    nodes, slots = table.nodes, table.slots
    count, block = int(nodes[node, COUNT]), int(nodes[node, BLOCK])
    length = _length_of_block(count)
    if block == 0 or slots[block, 1] == length:
        length = 2 if block == 0 else min(2 * length, LONGEST_BLOCK)
        new = table.state[SLOTS]
        table.state[SLOTS] = new + 1 + length
        slots[new, 0], slots[new, 1] = block, 0
        nodes[node, BLOCK] = block = new
    at = block + 1 + slots[block, 1]
    slots[at, 0], slots[at, 1], slots[at, 2] = text, hint, signature
    slots[block, 1] += 1
    nodes[node, COUNT] = count + 1


@jit
def _length_of_block(count: int) -> int:
    """The length of the newest block of a node with so many entries: blocks of 2, 4, 8 … follow the first entry."""
    length, before = 2, 1
    while before + length < count and length < LONGEST_BLOCK:
        before += length
        length *= 2
    return length


@jit
def _bucket(key: int, state: npt.NDArray[np.int64]) -> int:
    bucket = key & int(state[MASK])
    if bucket < state[SPLIT]:
        bucket = key & int(2 * state[MASK] + 1)
    return bucket


@jit
def _add_node(key: int, text: int, hint: int, signature: int, table: Table) -> None:
    nodes, heads, state = table.nodes, table.heads, table.state
    node = state[NODES]
    bucket = _bucket(key, state)
    nodes[node, NEXT] = heads[bucket]
    nodes[node, KEY] = key
    nodes[node, COUNT] = 1
    nodes[node, BLOCK] = 0
    first = nodes[node, FIRST_ENTRY:]
    first[0], first[1], first[2] = text, hint, signature
    heads[bucket] = node
    state[NODES] = node + 1
    if node > state[MASK] + state[SPLIT]:
        _split(table)


@jit
def _split(table: Table) -> None:
    """Deal the nodes of the next bucket in turn out to it and to a new one."""
    nodes, heads, state = table.nodes, table.heads, table.state
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
