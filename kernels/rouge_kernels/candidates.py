"""The reading side of the postings: scans the lists of a query's keys for texts that may be its duplicates."""

# ruff: noqa: PLR0917  (compiled calls are positional)

import numpy as np
import numpy.typing as npt

from rouge_kernels._jit import jit
from rouge_kernels.lcs import ALL, ONE, WORD, ZERO, popcount
from rouge_kernels.postings import (
    BEFORE,
    BLOCK,
    FIRST_ENTRY,
    HEADER,
    HINT,
    LENGTH,
    LONGEST_BLOCK,
    TEXT,
    Table,
    entries_of,
    find,
    in_last_block,
)
from rouge_kernels.prefixes import (
    DEPTH,
    FULL,
    KEY,
    LENGTH_BITS,
    MOST_SKIPPED,
    SIGN,
    SKIPPED_BITS,
    UNKNOWN_LENGTH,
    go_down,
    skipped,
    step,
    to_root,
)
from rouge_kernels.query import ONE_TOKEN, Corpus, Query

INSERTION_SORTED = 32
STEPS_OF_A_KEY = 16
"""Finding a key takes as long as a scan of so many entries, where the memory that it needs is in the cache."""
VECTOR = 16
"""Entries that the scan checks at once. It may also check slots of a block behind the last entry, and drops them."""


@jit
def find_candidates(
    query: Query, corpus: Corpus, table: Table, candidates: npt.NDArray[np.int32]
) -> tuple[npt.NDArray[np.int32], int, int]:
    """The texts of the index that may be duplicates, in order, each once; their number; and the steps that it took.

    `candidates` is the buffer to write to; a larger one is returned when it is too small. A long text meets the same
    candidates under many keys, so the buffer is rid of repeats before it grows.
    """
    length, distinct = len(query.text), query.distinct
    arranged, path, base, slope = query.arranged, query.path, query.base, query.slope
    signature, short_signature = query.signature, query.short_signature
    nodes, heads, slots, state = table.nodes, table.heads, table.slots, table.state
    number = len(candidates[:0])  # numba gives a literal 0 a type of its own and would compile the callees twice
    steps = length
    spare = length - query.need
    if spare < 0:
        return candidates, number, steps
    deepest = DEPTH - 1
    while deepest >= 0 and table.longest[deepest] < query.need:
        deepest -= 1
    if deepest < 0:
        return candidates, number, steps
    depth = step(path, to_root(path), deepest, spare, arranged, distinct)
    while depth >= 0:
        node = find(path[KEY, depth], nodes, heads, state)
        steps += STEPS_OF_A_KEY
        if node != 0:
            entries = entries_of(node, nodes, slots)
            steps += entries
            if entries >= FULL:  # some texts may be posted under longer keys that begin with this one
                go_down(path)
            if number + entries > len(candidates):
                number = sort_out(candidates, number)
                if 2 * (number + entries) > len(candidates):
                    larger = np.empty(2 * (number + entries), dtype=np.int32)
                    larger[:number] = candidates[:number]
                    candidates = larger
            most = length - skipped(path, depth, arranged)
            number = _scan_list(
                *(node, nodes, slots, corpus.starts, corpus.signatures, length, signature, short_signature),
                *(base, slope, most, candidates, number),
            )
        depth = step(path, depth, deepest, spare, arranged, distinct)
    return candidates, sort_out(candidates, number), steps


@jit
def sort_out(candidates: npt.NDArray[np.int32], number: int) -> int:
    """Sort the first `number` candidates and leave out repeats; return the number that remains."""
    if number > INSERTION_SORTED:
        candidates[:number].sort()
    remaining = len(candidates[:0])
    for at in range(number):
        candidate = candidates[at]
        place = remaining
        while place > 0 and candidates[place - 1] > candidate:
            place -= 1
        if place > 0 and candidates[place - 1] == candidate:
            continue
        for behind in range(remaining, place, -1):
            candidates[behind] = candidates[behind - 1]
        candidates[place] = candidate
        remaining += 1
    return remaining


@jit
def _scan_list(
    node: int,
    nodes: npt.NDArray[np.int32],
    slots: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
    signatures: npt.NDArray[np.uint64],
    length: int,
    signature: np.uint64,
    short_signature: np.uint64,
    base: int,
    slope: int,
    most: int,
    candidates: npt.NDArray[np.int32],
    number: int,
) -> int:
    """Append the entries of a node that may be duplicates to the candidates; return the new number of candidates.

    Vector instructions check the hints and set a bit for each entry that passes. Few entries pass; the scan picks them
    out by their bits and checks them again by their full signatures.
    """
    first = nodes[node, FIRST_ENTRY:]
    if _may_be_duplicate(first[HINT], first[TEXT], length, short_signature, base, slope, most):
        candidates[number] = (int(first[TEXT]) + SIGN) >> LENGTH_BITS
        number += _passes_signature(candidates[number], starts, signatures, length, signature, base, slope)
    block = int(nodes[node, BLOCK])
    entries = in_last_block(entries_of(node, nodes, slots)) if block != 0 else 0
    size = int(slots[block + LENGTH])
    while block != 0:
        following = int(slots[block + BEFORE])  # read early, so that it arrives from memory before it is needed
        for begin in range(0, entries, WORD):
            at = block + HEADER + begin
            present = min(entries - begin, WORD)
            whole = min(size - begin, (present + VECTOR - 1) & -VECTOR)
            hints, texts = slots[at : at + whole], slots[at + size : at + size + whole]
            passed = ZERO
            for place in range(whole):
                may_be = _may_be_duplicate(hints[place], texts[place], length, short_signature, base, slope, most)
                passed |= np.uint64(may_be) << np.uint64(place)
            passed &= ALL >> np.uint64(WORD - present)
            while passed != ZERO:
                candidates[number] = (int(texts[popcount((passed - ONE) & ~passed)]) + SIGN) >> LENGTH_BITS
                number += _passes_signature(candidates[number], starts, signatures, length, signature, base, slope)
                passed &= passed - ONE
        block, entries, size = following, LONGEST_BLOCK, LONGEST_BLOCK
    return number


@jit
def _may_be_duplicate(
    hint: int, text: int, length: int, short_signature: np.uint64, base: int, slope: int, most: int
) -> bool:
    """True when the text of an entry may have enough tokens in common with a query of `length` tokens.

    A token whose bit is missing in the other signature is outside their LCS. And if they are duplicates found by the
    key that both have, the tokens of the key are the first tokens of the LCS in the fixed order. Then every other token
    that comes before the key's last token, in either text, is outside the LCS, which leaves `most` tokens of the query.
    There are no branches and no look-ups, so that the loop over the entries becomes vector instructions.
    """
    other_length, skips = int(text) & UNKNOWN_LENGTH, int(hint) & MOST_SKIPPED
    other = np.uint64((int(hint) + SIGN) >> SKIPPED_BITS)
    missing, missed = popcount(short_signature & ~other), popcount(other & ~short_signature)
    in_common = min(most, other_length - skips, length - missing, other_length - missed)
    return bool(_is_enough(in_common, other_length, base, slope) | (other_length == UNKNOWN_LENGTH))


@jit
def _passes_signature(
    text: int,
    starts: npt.NDArray[np.int64],
    signatures: npt.NDArray[np.uint64],
    length: int,
    signature: np.uint64,
    base: int,
    slope: int,
) -> bool:
    """The same check by the text's exact length and full signature, which cost a cache miss."""
    other, other_length = signatures[text], int(starts[text + 1] - starts[text])
    missing, missed = popcount(signature & ~other), popcount(other & ~signature)
    return _is_enough(min(length - missing, other_length - missed), other_length, base, slope)


@jit
def _is_enough(in_common: int, other_length: int, base: int, slope: int) -> bool:
    """True when an LCS of this length may make a duplicate: F > t needs an LCS above t/2 times the tokens of both."""
    return bool(in_common * ONE_TOKEN >= base + slope * other_length)
