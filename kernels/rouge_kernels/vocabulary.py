"""Encoding of texts as token ids: one pass over UTF-8 bytes cuts the tokens and looks them up."""

# ruff: noqa: PLR0917  (compiled calls are positional)

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from rouge_kernels._jit import jit
from rouge_kernels.lcs import wrapping
from rouge_kernels.ragged import Texts, grown
from rouge_kernels.tokenizer import ROUGE_TOKENIZER, RougeTokenizer, Tokenizer, UnicodeTokenizer

SEPARATOR = -1
_NEVER_IN_UTF8 = b"\xff"
AT_ONCE = 1 << 24
"""Bytes that one call of a kernel encodes, or one text: it takes less than a tenth of a second, so that Python can
answer a signal."""
_FIRST_BUCKETS = 64
_BEYOND_ASCII = 0x80
_KELVIN = np.frombuffer("\u212a".encode(), dtype=np.uint8)
_DOTTED_I = np.frombuffer("\u0130".encode(), dtype=np.uint8)
_BASIS = np.uint64(0xCBF2_9CE4_8422_2325)
_PRIME = np.uint64(0x0000_0100_0000_01B3)
_HALF = np.uint64(32)


def _bytes_kept(separators: bytes) -> npt.NDArray[np.int16]:
    """The replacement of each byte: itself, or `SEPARATOR`."""
    kept = np.arange(256, dtype=np.int16)
    kept[list(separators)] = SEPARATOR
    return kept


def _rouge_bytes() -> npt.NDArray[np.int16]:
    """The replacement of each byte: letters become lower-case, digits stay, all other bytes separate."""
    kept = np.full(256, SEPARATOR, dtype=np.int16)
    for byte in b"abcdefghijklmnopqrstuvwxyz0123456789":
        kept[ord(chr(byte).upper())] = kept[byte] = byte
    return kept


_ROUGE_BYTES = _rouge_bytes()
_SPACED_BYTES = _bytes_kept(b" ")
_JOINED_BYTES = _bytes_kept(_NEVER_IN_UTF8)


class Vocabulary:
    """Owns all tokens so far and their ids: 0, 1, 2, … in the order of first use. It only grows."""

    def __init__(self, tokenizer: Tokenizer = ROUGE_TOKENIZER) -> None:
        self._tokenizer = tokenizer
        self._stems: Vocabulary | None = None
        if isinstance(tokenizer, RougeTokenizer) and tokenizer.stemming:
            self._stems = Vocabulary(lambda token: [tokenizer.stem(token)])
        self._stem_of: npt.NDArray[np.int32] = np.zeros(0, dtype=np.int32)
        self._spellings: npt.NDArray[np.uint8] = np.zeros(1024, dtype=np.uint8)
        self._ends: npt.NDArray[np.int64] = np.zeros(_FIRST_BUCKETS, dtype=np.int64)
        self._hashes: npt.NDArray[np.uint64] = np.zeros(_FIRST_BUCKETS, dtype=np.uint64)
        self._buckets: npt.NDArray[np.int32] = np.zeros(_FIRST_BUCKETS, dtype=np.int32)
        self._count: npt.NDArray[np.int64] = np.zeros(1, dtype=np.int64)
        """The number of tokens. The kernel writes it, so that it is right if a signal ends a call behind a kernel."""

    def __len__(self) -> int:
        return self._size if self._stems is None else len(self._stems)

    @property
    def _size(self) -> int:
        return int(self._count[0])

    @property
    def nbytes(self) -> int:
        """The memory that the vocabulary uses, in bytes."""
        own = (self._spellings, self._ends, self._hashes, self._buckets, self._stem_of)
        return sum(array.nbytes for array in own) + (0 if self._stems is None else self._stems.nbytes)

    def spelling(self, token: int) -> str:
        """The token with this id, as the tokenizer returned it."""
        if self._stems is not None:
            return self._stems.spelling(token)
        return bytes(self._spellings[self._ends[token] : self._ends[token + 1]]).decode("utf-8", "surrogatepass")

    def encode(self, texts: Sequence[str]) -> Texts:
        """The token ids of all texts. Raises TypeError if `texts` is a str or holds anything but str."""
        if isinstance(texts, str):
            raise TypeError("expected a list of texts, not a single text: put it into a list")
        try:
            kept, encoded = self._as_bytes(texts)
        except (AttributeError, TypeError):
            wrong = [type(text).__name__ for text in texts if not isinstance(text, str)]
            if wrong:
                raise TypeError(f"each text must be a str, not {wrong[0]}") from None
            raise
        ends = np.fromiter(accumulate(map(len, encoded)), dtype=np.int64, count=len(encoded))
        buffer = np.frombuffer(b"".join(encoded), dtype=np.uint8)
        ids = np.empty((len(buffer) + len(texts)) // 2 + 1, dtype=np.int32)  # a separator is between any two tokens
        starts = np.zeros(len(texts) + 1, dtype=np.int64)
        look_alikes = isinstance(self._tokenizer, RougeTokenizer)
        done = 0
        with wrapping():
            while done < len(texts):
                begin = int(ends[done - 1]) if done else 0
                self._reserve(int(ends[done]) - begin)
                stop = max(done + 1, bisect_left(ends, begin + AT_ONCE))
                done = _encode_bytes(
                    *(buffer, ends[:stop], done, kept, look_alikes, ids, starts),
                    *(self._spellings, self._ends, self._hashes, self._buckets, self._count),
                )
        ids = ids[: starts[-1]]
        return Texts(ids if self._stems is None else self._stemmed(ids, self._stems), starts)

    def _as_bytes(self, texts: Sequence[str]) -> tuple[npt.NDArray[np.int16], list[bytes]]:
        if isinstance(self._tokenizer, RougeTokenizer):
            return _ROUGE_BYTES, [text.encode("utf-8", "surrogatepass") for text in texts]
        if isinstance(self._tokenizer, UnicodeTokenizer):
            spaced = map(self._tokenizer.spaced, texts)
            return _SPACED_BYTES, [text.encode("utf-8", "surrogatepass") for text in spaced]
        tokens = map(self._tokenizer, texts)
        return _JOINED_BYTES, [
            _NEVER_IN_UTF8.join(token.encode("utf-8", "surrogatepass") for token in text) for text in tokens
        ]

    def _reserve(self, more: int) -> None:
        """Make room for a text of `more` bytes, for any tokens."""
        tokens = self._size + (more + 1) // 2
        self._spellings = grown(self._spellings, int(self._ends[self._size]) + more)
        self._ends = grown(self._ends, tokens + 1)
        self._hashes = grown(self._hashes, tokens + 1)  # as long as the ends, because the kernel checks only these
        if 2 * tokens > len(self._buckets):
            size = len(self._buckets)
            while size < 3 * tokens:
                size *= 2
            buckets = np.zeros(size, dtype=np.int32)
            _fill(buckets, self._hashes, self._size)
            self._buckets = buckets

    def _stemmed(self, ids: npt.NDArray[np.int32], stems: "Vocabulary") -> npt.NDArray[np.int32]:
        known = len(self._stem_of)
        if self._size > known:
            spellings = self._spellings[: self._ends[self._size]].tobytes()
            new = [spellings[self._ends[token] : self._ends[token + 1]].decode() for token in range(known, self._size)]
            self._stem_of = np.concatenate([self._stem_of, stems.encode(new).ids])
        return self._stem_of[ids]


@jit
def _encode_bytes(
    buffer: npt.NDArray[np.uint8],
    text_ends: npt.NDArray[np.int64],
    begin: int,
    kept: npt.NDArray[np.int16],
    look_alikes: bool,
    ids: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
    spellings: npt.NDArray[np.uint8],
    ends: npt.NDArray[np.int64],
    hashes: npt.NDArray[np.uint64],
    buckets: npt.NDArray[np.int32],
    count: npt.NDArray[np.int64],
) -> int:
    """Encode the texts from `begin` on while there is room. Return the first text not encoded.

    The kernel writes the spelling of each token behind the last known token, and leaves it there if the token is new.
    With `look_alikes`, the two characters outside ASCII whose lower case begins with an ASCII letter become that
    letter: U+212A, and U+0130, in whose lower case a separator follows.
    """
    size = count[0]
    at = text_ends[begin - 1] if begin > 0 else 0
    for text in range(begin, len(text_ends)):
        text_end = text_ends[text]
        possible = size + (text_end - at + 1) // 2
        if 2 * possible > len(buckets) or possible >= len(ends) or ends[size] + text_end - at > len(spellings):
            return text
        filled = starts[text]
        first = last = ends[size]
        hashed = _BASIS
        while at <= text_end:
            byte = SEPARATOR
            if at < text_end:
                byte = int(kept[buffer[at]])
                if look_alikes and buffer[at] >= _BEYOND_ASCII:
                    if _starts_with(_KELVIN, buffer, at, text_end):
                        byte = ord("k")
                        at += len(_KELVIN) - 1
                    elif _starts_with(_DOTTED_I, buffer, at, text_end):
                        byte = ord("i")  # the next byte separates
            at += 1
            if byte != SEPARATOR:
                spellings[last] = byte
                last += 1
                hashed = (hashed ^ np.uint64(byte)) * _PRIME
            elif last > first:
                bucket = _bucket_of(hashed, first, last, spellings, ends, hashes, buckets)
                if buckets[bucket] == 0:
                    hashes[size] = hashed
                    size += 1
                    ends[size] = last
                    buckets[bucket] = size
                    count[0] = size
                    first = last
                ids[filled] = buckets[bucket] - 1
                filled += 1
                last = first
                hashed = _BASIS
        at = text_end
        starts[text + 1] = filled
    return len(text_ends)


@jit
def _starts_with(pattern: npt.NDArray[np.uint8], buffer: npt.NDArray[np.uint8], at: int, end: int) -> bool:
    """True when `buffer[at:end]` starts with the pattern."""
    if at + len(pattern) > end:
        return False
    for offset in range(len(pattern)):  # noqa: SIM110 (numba has no generators)
        if buffer[at + offset] != pattern[offset]:
            return False
    return True


@jit
def _bucket_of(
    hashed: np.uint64,
    first: int,
    last: int,
    spellings: npt.NDArray[np.uint8],
    ends: npt.NDArray[np.int64],
    hashes: npt.NDArray[np.uint64],
    buckets: npt.NDArray[np.int32],
) -> int:
    """The bucket with the id of the token `spellings[first:last]`, plus 1; or the empty bucket where it belongs."""
    mask = len(buckets) - 1
    bucket = _slot(hashed, mask)
    while buckets[bucket] != 0:
        token = buckets[bucket] - 1
        if hashes[token] == hashed and ends[token + 1] - ends[token] == last - first:
            same, begin = True, ends[token]
            for offset in range(last - first):
                if spellings[begin + offset] != spellings[first + offset]:
                    same = False
                    break
            if same:
                break
        bucket = (bucket + 1) & mask
    return bucket


@jit
def _slot(hashed: np.uint64, mask: int) -> int:
    """The first bucket to try. It folds the high half of the hash in, because the low bits of FNV-1a alone are poor."""
    return int(np.int64((hashed ^ (hashed >> _HALF)) & np.uint64(mask)))


@jit
def _fill(buckets: npt.NDArray[np.int32], hashes: npt.NDArray[np.uint64], size: int) -> None:
    """Insert all known tokens into empty buckets."""
    mask = len(buckets) - 1
    for token in range(size):
        bucket = _slot(hashes[token], mask)
        while buckets[bucket] != 0:
            bucket = (bucket + 1) & mask
        buckets[bucket] = token + 1
