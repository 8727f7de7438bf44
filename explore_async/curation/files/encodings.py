"""The bytes of a file as UTF-8, whichever Unicode encoding its first bytes name."""

from __future__ import annotations

from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE, getincrementaldecoder
from io import BufferedReader, RawIOBase
from typing import IO, Any

_CHUNK = 1 << 18


def as_utf8(content: BufferedReader[Any]) -> BufferedReader[Any]:
    """The same text in UTF-8 without a byte order mark. Spreadsheets and PowerShell write UTF-16, which begins with its
    own mark. OSError, here or later, where UTF-16 is damaged.
    """
    begin = content.peek(len(BOM_UTF8))
    if begin.startswith(BOM_UTF8):
        content.read(len(BOM_UTF8))
    elif begin.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        return BufferedReader(_Utf16(content), _CHUNK)
    return content


class _Utf16(RawIOBase):
    """Reads UTF-16 as UTF-8."""

    def __init__(self, content: IO[bytes]) -> None:
        self._content = content
        self._decoder = getincrementaldecoder("utf-16")()
        self._waiting = b""
        self._is_over = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._waiting and not self._is_over:
            chunk = self._content.read(_CHUNK)
            self._is_over = not chunk
            try:
                self._waiting = self._decoder.decode(chunk, final=self._is_over).encode()
            except UnicodeDecodeError as error:
                raise OSError(f"invalid UTF-16: {error.reason}") from error
        part, self._waiting = self._waiting[: len(buffer)], self._waiting[len(buffer) :]
        buffer[: len(part)] = part
        return len(part)
