"""What others wrote, made fit to be shown: models, servers, data files and their names must not steer a terminal."""

from __future__ import annotations

import json
import re
from typing import Any

_EXCERPT = 160
_USER_INFO = re.compile(r"://\S*@")


def printable(text: str, most: int = _EXCERPT) -> str:
    """One line of it, without control characters and without those that turn the direction of text."""
    line = " ".join("".join(c if c.isprintable() or c.isspace() else "�" for c in text).split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def message(text: str) -> str:
    """An error's text with its line breaks; a password in a URL, wherever it got in, is masked."""
    masked = _USER_INFO.sub("://***@", text)
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in masked)


def json_line(document: Any) -> bytes:
    """The document for whoever reads our output. Names of files need be no UTF-8; what is not is shown as a mark."""
    import orjson

    try:
        return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:
        return orjson.dumps(_encodable(document), option=orjson.OPT_APPEND_NEWLINE)


def json_text(document: Any) -> str:
    """The same document for people, in which no character steers a terminal: JSON has another way to write them."""
    import orjson

    text = orjson.dumps(document, option=orjson.OPT_INDENT_2).decode()
    escaped = (c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)
    return text if text.replace("\n", "").isprintable() else "".join(escaped)


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if isinstance(value, dict):
        return {_encodable(name): _encodable(one) for name, one in value.items()}
    return [_encodable(one) for one in value] if isinstance(value, list | tuple) else value
