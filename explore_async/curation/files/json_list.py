"""The elements of a JSON list too long to be held as a whole."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_STRUCTURE = re.compile(rb'["\[\]{},]')
_WITHIN_STRING = re.compile(rb'(?:[^"\\]|\\.)*+', re.DOTALL)
_SPACE = b" \t\r\n"
LONGEST = 64 << 20
"""Bytes of an element; without a limit, a missing quote would make an element of the rest of the file."""


class NoListError(ValueError):
    """The bytes are not one whole JSON list; the message says why."""


def list_elements(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The bytes of each element of the list, without the space around them.

    Looks at strings, brackets and commas only: the parser of an element checks that it is valid JSON. Holds one
    element and one chunk at a time. NoListError where the list does not begin, does not end, or is followed by more.
    """
    data, start, position, depth = b"", 0, 0, 0
    in_string = begun = several = False
    for chunk in chunks:
        data, start, position = data[start:] + chunk, 0, position - start
        if len(data) - len(chunk) > LONGEST:
            raise NoListError(f"an element does not end within {LONGEST >> 20} MiB")
        while True:
            if in_string:
                within = _WITHIN_STRING.match(data, position)
                position = within.end() if within else position
                if not data.startswith(b'"', position):
                    break  # the string, or an escape in it, goes on in the next chunk
                in_string, position = False, position + 1
                continue
            symbol = _STRUCTURE.search(data, position)
            if symbol is None:
                position = len(data)
                break
            position = symbol.end()
            if not depth and (begun or symbol[0] != b"[" or data[start : symbol.start()].strip(_SPACE)):
                raise NoListError("there is more after its end" if begun else "does not begin with [")
            in_string = symbol[0] == b'"'
            depth += 1 if symbol[0] in b"[{" else -1 if symbol[0] in b"]}" else 0
            if not begun:
                begun, start = True, position
            elif depth == 0 or (depth == 1 and symbol[0] == b","):
                element = data[start : symbol.start()].strip(_SPACE)
                several = several or depth == 1
                if element or several:  # nothing at all between the brackets is a list of nothing
                    yield element
                start = position
    if not begun:
        raise NoListError("does not begin with [")
    if depth:
        raise NoListError("not closed at the end of the file")
    if data[start:].strip(_SPACE):
        raise NoListError("there is more after its end")
