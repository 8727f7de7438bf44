"""Texts of models, servers and files, made safe for a terminal: no text of others may control it."""

from __future__ import annotations

import json
import re
from typing import Any
from unicodedata import category

_EXCERPT = 160
_USER_INFO = re.compile(r"://\S*@")


def printable(text: str, most: int = _EXCERPT) -> str:
    """The text as one line of at most `most` characters, without characters that control a terminal."""
    line = " ".join("".join(c if c.isprintable() or c.isspace() else "�" for c in text).split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def printable_lines(text: str) -> list[str]:
    """The lines of the text with their indentation, without characters that control a terminal."""
    lines = text.replace("\r\n", "\n").split("\n")
    return ["".join(c if c.isprintable() or c == "\t" or category(c) == "Zs" else "�" for c in line) for line in lines]


def message(text: str) -> str:
    """The text of an error with its line breaks, without control characters, and with user and password masked."""
    masked = _USER_INFO.sub("://***@", text)
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in masked)


def json_line(document: Any) -> bytes:
    """The document as one line of JSON. Names of files need not be UTF-8: other bytes become a replacement mark."""
    import orjson

    try:
        return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:
        return orjson.dumps(_encodable(document), option=orjson.OPT_APPEND_NEWLINE)


def json_text(document: Any) -> str:
    """The document as indented JSON, with control characters written as escapes."""
    import orjson

    text = orjson.dumps(document, option=orjson.OPT_INDENT_2).decode()
    escaped = (c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)
    return text if text.replace("\n", "").isprintable() else "".join(escaped)


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if isinstance(value, dict):
        return {_encodable(name): _encodable(item) for name, item in value.items()}
    return [_encodable(item) for item in value] if isinstance(value, list | tuple) else value
