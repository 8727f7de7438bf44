"""The search for duplicates in the postings: kernels that see arrays and no objects."""

# ruff: noqa: PLR0917  (compiled calls are positional)

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rouge_kernels._jit import jit
from rouge_kernels.bounds import least_lcs, shortest_partner
from rouge_kernels.lcs import ALL, ONE, WORD, ZERO, mark, marked_lcs, popcount, unmark
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
    has_room,
    in_last_block,
    post,
)
from rouge_kernels.prefixes import (
    ARRANGED,
    DEPTH,
    FULL,
    KEY,
    LENGTH_BITS,
    MOST_KEYS,
    MOST_SKIPPED,
    PATH,
    SIGN,
    SKIPPED_BITS,
    TOKEN_BITS,
    UNKNOWN_LENGTH,
    Rows,
    arrange,
    go_down,
    hint_of,
    most_below,
    numbered,
    skipped,
    step,
    to_root,
)
from rouge_kernels.scoring import fmeasure

FIRST_CANDIDATES = 256
ONE_TOKEN = 1 << 16
VECTOR = 16
"""Entries that are checked at once; what a block has beyond its last entry may be checked in vain."""


class Rule(NamedTuple):
    """What makes a duplicate."""

    threshold: float
    least: npt.NDArray[np.int32]


class Corpus(NamedTuple):
    """The texts of an index; those behind the last are undefined."""

    values: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]
    signatures: npt.NDArray[np.uint64]
    """The one of `WORD` bits of each text."""


class Findings(NamedTuple):
    """Of each text of a batch its nearest duplicate: position (-1: none), LCS (-1) and F (nan)."""

    nearest: npt.NDArray[np.int64]
    lcs: npt.NDArray[np.int64]
    score: npt.NDArray[np.float64]


class Scratch(NamedTuple):
    """Room for what is worked out of one text after the other."""

    arranged: Rows
    path: Rows


class Query(NamedTuple):
    """A text whose duplicates are sought, arranged."""

    text: npt.NDArray[np.int32]
    signature: np.uint64
    short_signature: np.uint64
    """A shorter one, which there is room for in a hint."""
    need: int
    """The least LCS with any duplicate; more than the text's length if it can have none."""
    slope: int
    """What a token more in the other text adds to the least LCS with it, in parts of `ONE_TOKEN`, rounded down…"""
    base: int
    """…and what the tokens of this one come to."""
    arranged: Rows
    distinct: int
    path: Rows
    """Where a walk over its keys keeps where it is."""


@jit
def signatures_of(tokens: npt.NDArray[np.int32]) -> tuple[np.uint64, np.uint64]:
    """One of `WORD` bits and one of `TOKEN_BITS`: of so many, bit `id % bits` is set for each token.

    A bit that one of two texts lacks stands for a token outside their LCS.
    """
    signature, short_signature = ZERO, ZERO
    for token in tokens:
        signature |= ONE << np.uint64(token % WORD)
        short_signature |= ONE << np.uint64(token % TOKEN_BITS)
    return signature, short_signature


@jit
def look_up(
    texts: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
    begin: int,
    end: int,
    rule: Rule,
    corpus: Corpus,
    table: Table,
    rows: npt.NDArray[np.int32],
    findings: Findings,
) -> None:
    """Find the nearest duplicate of each text from `begin` to `end` among those posted in the table; keep none."""
    scratch = _scratch(starts)
    candidates = np.empty(FIRST_CANDIDATES, dtype=np.int32)
    for i in range(begin, end):
        text = texts[starts[i] : starts[i + 1]]
        query = _arranged(text, rule, scratch)
        candidates, found = _candidates(query, corpus, table, candidates)
        _choose(text, rule, corpus, candidates[:found], rows, findings, i)


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
    scratch = _scratch(starts)
    candidates = np.empty(FIRST_CANDIDATES, dtype=np.int32)
    for i in range(begin, len(starts) - 1):
        text = texts[starts[i] : starts[i + 1]]
        if not has_room(table, keys_at_most(len(text), size), size):
            return size, i
        query = _arranged(text, rule, scratch)
        if not anyway:
            candidates, found = _candidates(query, corpus, table, candidates)
            _choose(text, rule, corpus, candidates[:found], rows, findings, i)
        if anyway or findings.nearest[i] < 0:
            append(query, corpus, size)
            _post_all(query, size, table)
            size += 1
    return size, len(starts) - 1


@jit
def settle(
    texts: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
    begin: int,
    rule: Rule,
    corpus: Corpus,
    table: Table,
    pairs: npt.NDArray[np.int64],
    positions: npt.NDArray[np.int64],
    findings: Findings,
    size: int,
) -> tuple[int, int]:
    """As `admit`, where `look_up` has been through the texts kept before, and `pairs` tells the duplicates among these.

    `pairs`: rows of (text, earlier text, LCS), sorted. `positions`: where the texts before `begin` were kept, or -1;
    written on.
    """
    scratch = _scratch(starts)
    at = np.searchsorted(pairs[:, 0], begin)
    for i in range(begin, len(starts) - 1):
        text = texts[starts[i] : starts[i + 1]]
        if not has_room(table, keys_at_most(len(text), size), size):
            return size, i
        while at < len(pairs) and pairs[at, 0] == i:
            earlier, lcs = pairs[at, 1], pairs[at, 2]
            score = fmeasure(lcs, len(text), starts[earlier + 1] - starts[earlier])
            if positions[earlier] >= 0 and not score <= findings.score[i]:  # which is nan as long as there is none
                findings.nearest[i], findings.lcs[i], findings.score[i] = positions[earlier], lcs, score
            at += 1
        positions[i] = -1
        if findings.nearest[i] < 0:
            query = _arranged(text, rule, scratch)
            append(query, corpus, size)
            _post_all(query, size, table)
            positions[i] = size
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
    scratch = _scratch(starts)
    candidates = np.empty(FIRST_CANDIDATES, dtype=np.int32)
    pairs = np.empty((FIRST_CANDIDATES, 3), dtype=np.int64)
    found = len(pairs[:0])  # a bare 0 has a type of its own, for which numba would compile `_note_pairs` once more
    for i in range(begin, len(starts) - 1):
        text = texts[starts[i] : starts[i + 1]]
        if not has_room(table, keys_at_most(len(text), size), size):
            return size, i, pairs[:found]
        query = _arranged(text, rule, scratch)
        candidates, number = _candidates(query, corpus, table, candidates)
        if found + number > len(pairs):
            larger = np.empty((2 * (found + number), 3), dtype=np.int64)
            larger[:found] = pairs[:found]
            pairs = larger
        if number > 0:
            found = _note_pairs(text, size, rule, corpus, candidates[:number], rows, pairs, found)
        append(query, corpus, size)
        _post_all(query, size, table)
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
    corpus.signatures[size] = query.signature


@jit
def _scratch(starts: npt.NDArray[np.int64]) -> Scratch:
    """For the texts that begin and end there."""
    longest = 0
    for i in range(len(starts) - 1):
        longest = max(longest, starts[i + 1] - starts[i])
    return Scratch(
        np.empty((ARRANGED, longest), dtype=np.int64),
        np.zeros((PATH, DEPTH), dtype=np.int64),
    )


@jit
def _arranged(text: npt.NDArray[np.int32], rule: Rule, scratch: Scratch) -> Query:
    length = len(text)
    need = shortest_partner(rule.least, rule.threshold, length)
    slope = int(rule.threshold / 2 * ONE_TOKEN)
    base = int(rule.threshold / 2 * length * ONE_TOKEN) - 1  # less by far more than rounding makes of a score
    distinct = arrange(text, scratch.arranged)
    signature, short_signature = signatures_of(text)
    return Query(text, signature, short_signature, need, slope, base, scratch.arranged, distinct, scratch.path)


@jit
def _post_all(query: Query, position: int, table: Table) -> None:
    """Post the text under as deep keys as it takes, and as do not become too many."""
    length, need, distinct = len(query.text), query.need, query.distinct
    arranged, path = query.arranged, query.path
    nodes, heads, slots, state, longest = table.nodes, table.heads, table.slots, table.state, table.longest
    spare = length - need
    if spare < 0:
        return
    deepest = min(need, DEPTH) - 1
    while _number_of_keys(deepest, spare, arranged, distinct, path, nodes, heads, slots, state) > MOST_KEYS:
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
def _number_of_keys(
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
    """How many keys the text has where none may be deeper; one more than allowed where they could be fewer."""
    number = 0
    if deepest == 0:
        return number  # whatever they are
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


@jit
def _candidates(
    query: Query, corpus: Corpus, table: Table, candidates: npt.NDArray[np.int32]
) -> tuple[npt.NDArray[np.int32], int]:
    """The texts of the index that may be duplicates, some of them more than once, and their number."""
    length, distinct = len(query.text), query.distinct
    arranged, path, base, slope = query.arranged, query.path, query.base, query.slope
    signature, short_signature = query.signature, query.short_signature
    nodes, heads, slots, state = table.nodes, table.heads, table.slots, table.state
    found = len(candidates[:0])  # not a bare 0, see above
    spare = length - query.need
    if spare < 0:
        return candidates, found
    deepest = DEPTH - 1
    while deepest >= 0 and table.longest[deepest] < query.need:
        deepest -= 1
    if deepest < 0:
        return candidates, found
    depth = step(path, to_root(path), deepest, spare, arranged, distinct)
    while depth >= 0:
        node = find(path[KEY, depth], nodes, heads, state)
        if node != 0:
            entries = entries_of(node, nodes, slots)
            if entries >= FULL:  # there may be a text that had one key below
                go_down(path)
            if found + entries > len(candidates):
                larger = np.empty(2 * (found + entries), dtype=np.int32)
                larger[:found] = candidates[:found]
                candidates = larger
            most = length - skipped(path, depth, arranged)
            found = _look_through(
                *(node, nodes, slots, corpus.starts, corpus.signatures, length, signature, short_signature),
                *(base, slope, most, candidates, found),
            )
        depth = step(path, depth, deepest, spare, arranged, distinct)
    return candidates, found


@jit
def _look_through(
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
    found: int,
) -> int:
    """Add the entries of a node that may be duplicates to the candidates; returns their number.

    Their hints are checked by vector instructions, which leave a bit for each, and the few that pass are picked out
    for a second look.
    """
    first = nodes[node, FIRST_ENTRY:]
    if may_be_duplicate(first[HINT], first[TEXT], length, short_signature, base, slope, most):
        candidates[found] = (int(first[TEXT]) + SIGN) >> LENGTH_BITS
        found += may_still_be(candidates[found], starts, signatures, length, signature, base, slope)
    block = int(nodes[node, BLOCK])
    entries = in_last_block(entries_of(node, nodes, slots)) if block != 0 else 0
    size = int(slots[block + LENGTH])
    while block != 0:
        following = int(slots[block + BEFORE])  # read now, it is on its way from memory before it is needed
        for begin in range(0, entries, WORD):
            at = block + HEADER + begin
            present = min(entries - begin, WORD)
            whole = min(size - begin, (present + VECTOR - 1) & -VECTOR)
            hints, texts = slots[at : at + whole], slots[at + size : at + size + whole]
            passed = ZERO
            for place in range(whole):
                may_be = may_be_duplicate(hints[place], texts[place], length, short_signature, base, slope, most)
                passed |= np.uint64(may_be) << np.uint64(place)
            passed &= ALL >> np.uint64(WORD - present)
            while passed != ZERO:
                candidates[found] = (int(texts[popcount((passed - ONE) & ~passed)]) + SIGN) >> LENGTH_BITS
                found += may_still_be(candidates[found], starts, signatures, length, signature, base, slope)
                passed &= passed - ONE
        block, entries, size = following, LONGEST_BLOCK, LONGEST_BLOCK
    return found


@jit
def may_be_duplicate(
    hint: int, text: int, length: int, short_signature: np.uint64, base: int, slope: int, most: int
) -> bool:
    """Whether the text of an entry can have enough in common with one of `length` tokens.

    A token whose bit the other signature lacks lies outside their LCS. And were they duplicates found by the key that
    both have, the key's tokens would be the first of the LCS in the order: so all others that come before its last
    one, in either text, lie outside, which leaves `most` of this text. Without branches or look-ups throughout.
    """
    other_length, skips = int(text) & UNKNOWN_LENGTH, int(hint) & MOST_SKIPPED
    other = np.uint64((int(hint) + SIGN) >> SKIPPED_BITS)
    missing, missed = popcount(short_signature & ~other), popcount(other & ~short_signature)
    in_common = min(most, other_length - skips, length - missing, other_length - missed)
    return bool(enough(in_common, other_length, base, slope) | (other_length == UNKNOWN_LENGTH))


@jit
def may_still_be(
    text: int,
    starts: npt.NDArray[np.int64],
    signatures: npt.NDArray[np.uint64],
    length: int,
    signature: np.uint64,
    base: int,
    slope: int,
) -> bool:
    """The same by what the corpus has of the text, which has to be fetched from afar: its length and long signature."""
    other, other_length = signatures[text], int(starts[text + 1] - starts[text])
    missing, missed = popcount(signature & ~other), popcount(other & ~signature)
    return enough(min(length - missing, other_length - missed), other_length, base, slope)


@jit
def enough(in_common: int, other_length: int, base: int, slope: int) -> bool:
    """Whether so long an LCS may do: F above the threshold t takes one of t/2 times the tokens of both."""
    return bool(in_common * ONE_TOKEN >= base + slope * other_length)


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
