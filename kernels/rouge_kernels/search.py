"""The search for duplicates in the postings: kernels that see arrays and no objects."""

# ruff: noqa: PLR0917  (compiled calls are positional)

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rouge_kernels._jit import jit
from rouge_kernels.bounds import least_lcs, shortest_partner
from rouge_kernels.lcs import ONE, ZERO, mark, marked_lcs, popcount, unmark
from rouge_kernels.postings import BLOCK, COUNT, FIRST_ENTRY, Table, find, has_room, post
from rouge_kernels.prefixes import (
    DEPTH,
    FULL,
    MOST_KEYS,
    UNKNOWN_LAST,
    UNKNOWN_LENGTH,
    UNKNOWN_PLACE,
    Arrangement,
    Path,
    arrange,
    arrangement_for,
    empty_path,
    go_down,
    hint_of,
    last_of,
    step,
    to_root,
)
from rouge_kernels.scoring import fmeasure

FIRST_CANDIDATES = 256
_BITS = 32
_SIGN = 1 << 31  # signatures are stored as signed numbers


class Rule(NamedTuple):
    """What makes a duplicate."""

    threshold: float
    least: npt.NDArray[np.int32]


class Corpus(NamedTuple):
    """The texts of an index; those behind the last are undefined."""

    values: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]


class Findings(NamedTuple):
    """Of each text of a batch its nearest duplicate: position (-1: none), LCS (-1) and F (nan)."""

    nearest: npt.NDArray[np.int64]
    lcs: npt.NDArray[np.int64]
    score: npt.NDArray[np.float64]


class Query(NamedTuple):
    """A text whose duplicates are sought, arranged."""

    text: npt.NDArray[np.int32]
    signature: np.uint64
    need: int
    """The least LCS with any duplicate; more than the text's length if it can have none."""
    arranged: Arrangement
    distinct: int


@jit
def signature_of(tokens: npt.NDArray[np.int32]) -> np.uint64:
    """Bit `id % 32` is set for each token. A bit that one of two texts lacks stands for a token outside their LCS."""
    signature = ZERO
    for token in tokens:
        signature |= ONE << np.uint64(token % _BITS)
    return signature


@jit
def admit(
    texts: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
    begin: int,
    rule: Rule,
    corpus: Corpus,
    table: Table,
    rows: npt.NDArray[np.int32],
    findings: Findings,
    size: int,
    anyway: bool,
) -> tuple[int, int]:
    """Keep, in order from `begin`, each text that is no duplicate, or all of them, while there is room for their keys.

    Returns the new size and the first text that was not looked at.
    """
    arranged, path = arrangement_for(_longest(starts)), empty_path()
    candidates = np.empty(FIRST_CANDIDATES, dtype=np.int32)
    for i in range(begin, len(starts) - 1):
        text = texts[starts[i] : starts[i + 1]]
        if not has_room(table, keys_at_most(len(text), size), size):
            return size, i
        query = _arranged(text, rule, arranged)
        if not anyway:
            candidates, found = _candidates(query, rule, corpus, table, path, candidates)
            _choose(text, rule, corpus, candidates[:found], rows, findings, i)
        if anyway or findings.nearest[i] < 0:
            append(query, corpus, size)
            _post_all(query, size, table, path)
            size += 1
    return size, len(starts) - 1


@jit
def pair_up(
    texts: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
    begin: int,
    rule: Rule,
    corpus: Corpus,
    table: Table,
    rows: npt.NDArray[np.int32],
    size: int,
) -> tuple[int, int, npt.NDArray[np.int64]]:
    """Keep every text from `begin` on, while there is room, and tell all its duplicates before it.

    Returns the new size, the first text that was not looked at, and rows of (position before, own position, LCS).
    """
    arranged, path = arrangement_for(_longest(starts)), empty_path()
    candidates = np.empty(FIRST_CANDIDATES, dtype=np.int32)
    pairs = np.empty((FIRST_CANDIDATES, 3), dtype=np.int64)
    found = len(pairs[:0])  # a bare 0 has a type of its own, for which numba would compile `_note_pairs` once more
    for i in range(begin, len(starts) - 1):
        text = texts[starts[i] : starts[i + 1]]
        if not has_room(table, keys_at_most(len(text), size), size):
            return size, i, pairs[:found]
        query = _arranged(text, rule, arranged)
        candidates, number = _candidates(query, rule, corpus, table, path, candidates)
        if found + number > len(pairs):
            larger = np.empty((2 * (found + number), 3), dtype=np.int64)
            larger[:found] = pairs[:found]
            pairs = larger
        if number > 0:
            found = _note_pairs(text, size, rule, corpus, candidates[:number], rows, pairs, found)
        append(query, corpus, size)
        _post_all(query, size, table, path)
        size += 1
    return size, len(starts) - 1, pairs[:found]


@jit
def _note_pairs(
    text: npt.NDArray[np.int32],
    position: int,
    rule: Rule,
    corpus: Corpus,
    candidates: npt.NDArray[np.int32],
    rows: npt.NDArray[np.int32],
    pairs: npt.NDArray[np.int64],
    found: int,
) -> int:
    """Write the candidates that are duplicates behind the pairs found, each once; returns their number."""
    candidates.sort()
    masks = mark(text, rows)
    state = np.empty(masks.shape[1], dtype=np.uint64)
    before = -1
    for candidate in candidates:
        if candidate == before:
            continue
        before = candidate
        other = corpus.values[corpus.starts[candidate] : corpus.starts[candidate + 1]]
        lcs = marked_lcs(masks, rows, other, state)
        if lcs >= least_lcs(rule.least, rule.threshold, len(text), len(other)):
            pairs[found, 0], pairs[found, 1], pairs[found, 2] = candidate, position, lcs
            found += 1
    unmark(text, rows)
    return found


@jit
def keys_at_most(length: int, texts: int) -> int:
    """How many keys a text of so many tokens may be posted under, where so many texts are posted already."""
    return max(length, MOST_KEYS) if texts >= FULL else length


@jit
def append(query: Query, corpus: Corpus, size: int) -> None:
    """Write the text behind the last one; there is room for it."""
    start = corpus.starts[size]
    end = start + len(query.text)
    corpus.values[start:end] = query.text
    corpus.starts[size + 1] = end


@jit
def _longest(starts: npt.NDArray[np.int64]) -> int:
    longest = 0
    for i in range(len(starts) - 1):
        longest = max(longest, starts[i + 1] - starts[i])
    return longest


@jit
def _arranged(text: npt.NDArray[np.int32], rule: Rule, arranged: Arrangement) -> Query:
    need = shortest_partner(rule.least, rule.threshold, len(text))
    return Query(text, signature_of(text), need, arranged, arrange(text, arranged))


@jit
def _post_all(query: Query, position: int, table: Table, path: Path) -> None:
    """Post the text under as deep keys as it takes, and as do not become too many."""
    spare = len(query.text) - query.need
    if spare < 0:
        return
    signature = int(query.signature) - _SIGN
    deepest = min(query.need, DEPTH) - 1
    while deepest > 0 and _number_of_keys(query, deepest, table, path) > MOST_KEYS:
        deepest -= 1
    to_root(path)
    depth = step(path, deepest, spare, query.arranged, query.distinct)
    while depth >= 0:
        key = path.key[depth]
        node = find(key, table)
        if depth < deepest and node != 0 and table.nodes[node, COUNT] >= FULL:
            go_down(path)
        else:
            post(key, node, position, hint_of(len(query.text), path, depth, query.arranged), signature, table)
            table.longest[depth] = max(table.longest[depth], len(query.text))
        depth = step(path, deepest, spare, query.arranged, query.distinct)


@jit
def _number_of_keys(query: Query, deepest: int, table: Table, path: Path) -> int:
    """How many keys the text has where none may be deeper; one more than allowed where it is too many."""
    spare = len(query.text) - query.need
    number = 0
    to_root(path)
    depth = step(path, deepest, spare, query.arranged, query.distinct)
    while depth >= 0 and number <= MOST_KEYS:
        node = find(path.key[depth], table) if depth < deepest else 0
        if node != 0 and table.nodes[node, COUNT] >= FULL:
            go_down(path)
        else:
            number += 1
        depth = step(path, deepest, spare, query.arranged, query.distinct)
    return number


@jit
def _candidates(
    query: Query, rule: Rule, corpus: Corpus, table: Table, path: Path, candidates: npt.NDArray[np.int32]
) -> tuple[npt.NDArray[np.int32], int]:
    """The texts of the index that may be duplicates, some of them more than once, and their number."""
    found = len(candidates[:0])  # not a bare 0, see above
    spare = len(query.text) - query.need
    if spare < 0:
        return candidates, found
    deepest = DEPTH - 1
    while deepest >= 0 and table.longest[deepest] < query.need:
        deepest -= 1
    if deepest < 0:
        return candidates, found
    to_root(path)
    depth = step(path, deepest, spare, query.arranged, query.distinct)
    while depth >= 0:
        node = find(path.key[depth], table)
        if node != 0:
            if table.nodes[node, COUNT] >= FULL:
                go_down(path)
            if found + table.nodes[node, COUNT] > len(candidates):
                larger = np.empty(2 * (found + table.nodes[node, COUNT]), dtype=np.int32)
                larger[:found] = candidates[:found]
                candidates = larger
            found = _look_through(node, query, rule, corpus, table, path, depth, candidates, found)
        depth = step(path, deepest, spare, query.arranged, query.distinct)
    return candidates, found


@jit
def _look_through(
    node: int,
    query: Query,
    rule: Rule,
    corpus: Corpus,
    table: Table,
    path: Path,
    depth: int,
    candidates: npt.NDArray[np.int32],
    found: int,
) -> int:
    """Add the entries of a node that may be duplicates to the candidates; returns their number.

    Whatever an entry's check needs is taken out of the tuples first: passing them on costs more than the check.
    """
    nodes, slots, starts = table.nodes, table.slots, corpus.starts
    least, threshold, length = rule.least, rule.threshold, len(query.text)
    signature = query.signature
    last = last_of(path, depth, query.arranged)
    place, end_place = query.arranged.place[path.which[0]], query.arranged.place[path.which[depth]]
    block = int(nodes[node, BLOCK])
    entries = nodes[node : node + 1, FIRST_ENTRY:]
    while True:
        for at in range(len(entries)):
            text, hint = int(entries[at, 0]), int(entries[at, 1])
            other_length = hint & 0xFF
            if other_length == UNKNOWN_LENGTH:
                other_length = starts[text + 1] - starts[text]
            need = least_lcs(least, threshold, length, other_length)
            other = np.uint64(int(entries[at, 2]) + _SIGN)
            if length - popcount(signature & ~other) < need or other_length - popcount(other & ~signature) < need:
                continue
            if most_in_common(length, last, place, end_place, other_length, hint, depth) >= need:
                candidates[found] = text
                found += 1
        if block == 0:
            return found
        entries = slots[block + 1 : block + 1 + slots[block, 1]]
        block = int(slots[block, 0])


@jit
def most_in_common(length: int, last: int, place: int, end_place: int, other_length: int, hint: int, depth: int) -> int:
    """The greatest LCS that a text posted with this hint can have with one of `length` tokens, by a key of both.

    Were they duplicates found by this key, then the key's tokens are the first of the LCS in the order. So all others
    that come before its last one, in either text, lie outside; and the LCS holds no more tokens left of two of them,
    between them and right of them than there are in either text.
    """
    most = min(length, other_length)
    most = min(most, length - last + depth)
    other_last = (hint >> 8) & 0x7F
    if other_last < UNKNOWN_LAST:
        most = min(most, other_length - other_last + depth)
    other_place, other_end = (hint >> 15) & 0xFF, (hint >> 23) & 0xFF
    if max(place, other_place) == UNKNOWN_PLACE:
        return most
    if max(end_place, other_end) == UNKNOWN_PLACE:
        end_place, other_end = place, other_place
    if (place < end_place) != (other_place < other_end):
        return 0
    left, right = min(place, end_place), max(place, end_place)
    other_left, other_right = min(other_place, other_end), max(other_place, other_end)
    around = (
        min(left, other_left)
        + min(right - left, other_right - other_left)
        + min(length - right, other_length - other_right)
    )
    return min(most, around)


@jit
def _choose(
    text: npt.NDArray[np.int32],
    rule: Rule,
    corpus: Corpus,
    candidates: npt.NDArray[np.int32],
    rows: npt.NDArray[np.int32],
    findings: Findings,
    i: int,
) -> None:
    """Note the candidate with the highest F, the earliest of equals, where it is a nearer duplicate than is known."""
    if len(candidates) == 0:
        return
    masks = mark(text, rows)
    state = np.empty(masks.shape[1], dtype=np.uint64)
    before = -1
    for candidate in candidates:
        if candidate == before:
            continue
        before = candidate
        other = corpus.values[corpus.starts[candidate] : corpus.starts[candidate + 1]]
        lcs = marked_lcs(masks, rows, other, state)
        if lcs < least_lcs(rule.least, rule.threshold, len(text), len(other)):
            continue
        score = fmeasure(lcs, len(text), len(other))
        nearest = findings.nearest[i]
        if nearest < 0 or score > findings.score[i] or (score == findings.score[i] and candidate < nearest):
            findings.nearest[i], findings.lcs[i], findings.score[i] = candidate, lcs, score
    unmark(text, rows)
