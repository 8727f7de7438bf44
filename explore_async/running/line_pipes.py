"""The pipes to a process that answers each line with a line."""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import os
import termios
from typing import Final

_LONGEST_LINE: Final = 1 << 20
_CHUNK: Final = 1 << 16
_SHORTEST_PAUSE_S: Final = 0.0002
_LONGEST_PAUSE_S: Final = 0.01


class LinePipes:
    """Owns both ends of its standard input, and ours of its standard output."""

    def __init__(self) -> None:
        self.stdin, self._to = os.pipe()
        self._from, self.stdout = os.pipe()
        os.set_blocking(self._to, False)
        os.set_blocking(self._from, False)
        self._taken = bytearray()
        self._is_at_end = False

    def began(self) -> None:
        """The process has its ends. Ours of its output is closed, so that the output ends with the process."""
        os.close(self.stdout)
        self.stdout = -1

    async def write(self, data: bytes) -> None:
        """Waits until all is in the pipe, or the output has ended: then nobody reads it."""
        left, pause_s = memoryview(data), _SHORTEST_PAUSE_S
        while left and not self._is_at_end:
            try:
                left = left[os.write(self._to, left) :]
            except BlockingIOError:
                pause_s = await _pause(pause_s)
                self._take()

    async def until_read(self) -> bool:
        """Waits until the process has read all that was written; False where it writes something or ends its output
        before. A process that reads again has written all that it had to say to the lines before.
        """
        pause_s = _SHORTEST_PAUSE_S
        while not self._is_at_end and not self._taken:
            if not self._unread():
                self._take()
                return True
            pause_s = await _pause(pause_s)
            self._take()
        return False

    async def line(self) -> bytes:
        """The next line; without its end where the output ends before. Raises ValueError where it is too long."""
        while (end := self._taken.find(b"\n")) < 0 and not self._is_at_end:
            if len(self._taken) > _LONGEST_LINE:
                raise ValueError(f"a line of more than {_LONGEST_LINE:,} bytes")
            await self._until_there()
            self._take()
        length = end + 1 or len(self._taken)
        line = bytes(self._taken[:length])
        del self._taken[:length]
        return line

    @property
    def surplus(self) -> bytes:
        """Output that has arrived and was not taken as a line."""
        return bytes(self._taken)

    def close(self) -> None:
        for end in (self.stdin, self._to, self._from, self.stdout):
            if end >= 0:
                os.close(end)
        self.stdin = self._to = self._from = self.stdout = -1

    def _unread(self) -> int:
        """Bytes in the pipe to the process."""
        number = array.array("i", [0])
        fcntl.ioctl(self.stdin, termios.FIONREAD, number)
        return number[0]

    def _take(self) -> None:
        """Takes what is there, without waiting."""
        with contextlib.suppress(BlockingIOError):
            while len(self._taken) <= _LONGEST_LINE:
                chunk = os.read(self._from, _CHUNK)
                if not chunk:
                    self._is_at_end = True
                    return
                self._taken += chunk

    async def _until_there(self) -> None:
        loop = asyncio.get_running_loop()
        is_there = asyncio.Event()
        loop.add_reader(self._from, is_there.set)
        try:
            await is_there.wait()
        finally:
            loop.remove_reader(self._from)


async def _pause(seconds: float) -> float:
    """Waits, and returns the seconds to wait the next time."""
    await asyncio.sleep(seconds)
    return min(2 * seconds, _LONGEST_PAUSE_S)
