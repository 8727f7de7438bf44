"""Records out of the pages of a SQLite file without the tree that joins them, for a file whose structure is damaged.

The format is SQLite's own (sqlite.org/fileformat2.html), as far as this program's databases use it: PAGE_BYTES a page,
none of them reserved, texts in UTF-8. What comes out may be nonsense: whoever reads it has to tell by its checksum.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Self, TypeAlias

from explore_async.storage.schema import PAGE_BYTES

Record: TypeAlias = tuple[int | float | bytes | None, ...]

_TABLE_LEAF, _INDEX_LEAF, _INDEX_INTERIOR = 0x0D, 0x0A, 0x02
_LOG_HEADER, _FRAME_HEADER = 32, 24
_FEWEST_LOCAL = (PAGE_BYTES - 12) * 32 // 255 - 23
_MOST_LOCAL = {"table": PAGE_BYTES - 35, "index": (PAGE_BYTES - 12) * 64 // 255 - 23}
_INTEGER_BYTES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
_FIRST_PAGE_BEGINS = 100


class Pages:
    """The pages of a database as they are with its write-ahead log. Enter it around the work."""

    def __init__(self, path: Path) -> None:
        log = path.with_name(f"{path.name}-wal")
        self._file = path.open("rb")
        self._log = log.open("rb") if log.is_file() else None
        self._in_log = dict(self._frames())
        self.count = max(-(-path.stat().st_size // PAGE_BYTES), *self._in_log, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        if self._log is not None:
            self._log.close()

    def _frames(self) -> Iterator[tuple[int, int]]:
        """Each logged page with its offset, the latest last. Other salts are left over from an earlier log."""
        if self._log is None:
            return
        offset, salts = _LOG_HEADER, None
        while self._log.seek(offset) and len(header := self._log.read(_FRAME_HEADER)) == _FRAME_HEADER:
            if salts is not None and header[8:16] != salts:
                return
            salts = header[8:16]
            yield int.from_bytes(header[:4]), offset + _FRAME_HEADER
            offset += _FRAME_HEADER + PAGE_BYTES

    def read(self, number: int) -> bytes:
        """The page of this number, from 1; short or empty where the file has no more."""
        if self._log is not None and number in self._in_log:
            self._log.seek(self._in_log[number])
            return self._log.read(PAGE_BYTES)
        self._file.seek((number - 1) * PAGE_BYTES)
        return self._file.read(PAGE_BYTES)

    def records(self) -> Iterator[tuple[Literal["table", "index"], int, Record]]:
        """Whatever can be read as a record, of all tables and indexes, with its rowid (0 in an index)."""
        for number in range(1, self.count + 1):
            page = self.read(number)
            for at, kind in _cells(page, _FIRST_PAGE_BEGINS if number == 1 else 0):
                try:
                    size, start = _varint(page, at)
                    rowid, start = _varint(page, start) if kind == "table" else (0, start)
                    yield kind, rowid, _record(self._payload(page, start, size, _MOST_LOCAL[kind]))
                except (IndexError, ValueError, struct.error):
                    continue

    def _payload(self, page: bytes, start: int, size: int, most: int) -> bytes:
        """A cell's content, the rest of a long one from the chain of pages that it names."""
        if size > self.count * PAGE_BYTES:
            raise ValueError(size)
        if size <= most:
            return page[start : start + size]
        local = _FEWEST_LOCAL + (size - _FEWEST_LOCAL) % (PAGE_BYTES - 4)
        local = local if local <= most else _FEWEST_LOCAL
        parts, left = [page[start : start + local]], size - local
        following = page[start + local : start + local + 4]
        while left > 0:
            overflow = self.read(int.from_bytes(following) or self.count + 1)
            if len(overflow) < PAGE_BYTES:
                raise ValueError(following)
            parts.append(overflow[4 : 4 + left])
            following, left = overflow[:4], left - (PAGE_BYTES - 4)
        return b"".join(parts)


def _cells(page: bytes, begin: int) -> Iterator[tuple[int, Literal["table", "index"]]]:
    """Where the page's cells begin, beyond the pointer to a page below that they may have."""
    kind = page[begin] if len(page) == PAGE_BYTES else None
    if kind not in {_TABLE_LEAF, _INDEX_LEAF, _INDEX_INTERIOR}:
        return
    interior = kind == _INDEX_INTERIOR
    pointers = begin + (12 if interior else 8)
    count = min(int.from_bytes(page[begin + 3 : begin + 5]), (PAGE_BYTES - pointers) // 2)
    for at in struct.unpack_from(f">{count}H", page, pointers):
        yield at + (4 if interior else 0), "table" if kind == _TABLE_LEAF else "index"


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """SQLite's integer of one to nine bytes, and where it ends."""
    value = 0
    for position in range(at, at + 8):
        byte = data[position]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:  # noqa: PLR2004 - the bit that says that more follow
            return value, position + 1
    return value << 8 | data[at + 8], at + 9


def _record(payload: bytes) -> Record:
    end, at = _varint(payload, 0)
    kinds = []
    while at < end:
        kind, at = _varint(payload, at)
        kinds.append(kind)
    values: list[int | float | bytes | None] = []
    for kind in kinds:
        size = _INTEGER_BYTES.get(kind, 8 if kind == 7 else max(0, kind - 12) // 2)  # noqa: PLR2004 - 7: a float
        body, at = payload[at : at + size], at + size
        if len(body) < size:
            raise ValueError(kind)
        values.append(_value(kind, body))
    return tuple(values)


def _value(kind: int, body: bytes) -> int | float | bytes | None:
    match kind:
        case 0:
            return None
        case 7:
            return float(struct.unpack(">d", body)[0])
        case 8 | 9:
            return kind - 8
        case _:
            return int.from_bytes(body, signed=True) if kind in _INTEGER_BYTES else body
