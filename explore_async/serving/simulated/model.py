"""A simulated model: its completion is a pure function of the request, made of words in the form that was asked for.

Of a prompt it understands how many items are asked for, and no more. A schema gets a random instance, a pattern a
match, markers (`### Name:`) come back filled, and all else gets a text. Some strings repeat, some inputs are empty and
some completions are truncated, as with real models.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import orjson

from explore_async.serving.simulated.merging import UnusableSchema
from explore_async.serving.simulated.patterns import draw_match
from explore_async.serving.simulated.schemas import DrawText, InstanceDrawer
from explore_async.serving.simulated.tokens import count_tokens, cut_off
from explore_async.serving.simulated.universe import Page, Universe
from explore_async.serving.simulated.vocabulary import ADJECTIVES, LINKS, NOUNS, VERBS

TRUNCATED_SHARE = 0.03
MODEL_LENGTH = 32_768
"""Tokens of the context, prompt and completion, unless the server says otherwise."""
PHRASE_POOL = 24
"""Distinct texts that `duplicate_share` of all strings of one kind are drawn from."""
_REPEATED_KEPT: Final = 1024
"""Of these texts: a schema may name any number of kinds."""
ANY_OBJECT: Final[Mapping[str, Any]] = {
    "type": "object",
    "additionalProperties": {"type": ["string", "integer", "boolean"]},
}
"""The schema of `json_object`."""

_MARKER: Final = "\n###"
_MARKED_NAME = re.compile(r"\s*([A-Za-z ]+):")
_ASKED = re.compile(r"^(?:Write|Name|Give|List) (?:the criterion and (?:the )?)?(one|[1-9][0-9]?)\b", re.MULTILINE)
_FIRST_WORDS = {"instruction", "name"}
_SIZES: Mapping[str, tuple[int, int]] = {
    "name": (3, 7),
    "reason": (4, 8),
    "instruction": (8, 20),
    "input": (0, 12),
    "output": (10, 40),
    "criterion": (2, 3),
    "values": (2, 3),
}
_SHORT: Final = {"name", "input", "criterion", "values"}
"""Fields that are no sentences."""
_OTHER_SIZES = (3, 12)
_VALUES: Final = 6
"""Of a criterion, in marked text."""
_EMPTY_INPUTS = 0.4
_ADJECTIVES: Final = [f"{'an' if adjective[0] in 'aeiou' else 'a'} {adjective}" for adjective in ADJECTIVES]


@dataclass(frozen=True, slots=True)
class TextRequest:
    """The text that a request asks for, in the form of a schema, a regular expression or one of several choices if any.

    `whole`: the text goes on to the last token that is allowed (`ignore_eos`).
    """

    prompt: str = ""
    schema: Any = None
    regex: str | None = None
    choices: Sequence[str] | None = None
    most_tokens: int = MODEL_LENGTH
    least_tokens: int = 0
    whole: bool = False
    stop: Sequence[str] = ()
    keeps_stop: bool = False

    @property
    def is_free(self) -> bool:
        return self.schema is None and self.regex is None and self.choices is None


@dataclass(frozen=True, slots=True)
class Text:
    """A completion. `stop_reason`: the stop string that ended it."""

    text: str
    finish_reason: str
    tokens: int
    stop_reason: str | None = None


class SimulatedModel:
    """Completes requests. Pure: no clock and no state that a completion depends on.

    `full_share`: of the texts that hold all that is asked for: lists as long as the schema allows, and as many marked
    items as the prompt says ("Write 5 …"). The others hold some of it. `universe`: names and instructions are those of
    a known universe.
    """

    def __init__(
        self, *, seed: int, duplicate_share: float, full_share: float = 0.0, universe: Universe | None = None
    ) -> None:
        self._seed = seed
        self._universe = universe
        self._full_share = full_share
        self._duplicate_share = duplicate_share
        self._rng = random.Random(0)  # noqa: S311 - seeded for each text; to make another one takes as long as a text
        self._repeated = lru_cache(_REPEATED_KEPT)(self._repeated_string)

    def complete(self, body: Mapping[str, Any], digest: bytes) -> tuple[str, str, int]:
        """Text, finish reason, and tokens for the body of a request of ours."""
        form = body.get("response_format") or {}
        request = TextRequest(
            prompt="\n".join(str(message.get("content") or "") for message in body["messages"]),
            schema=form["json_schema"]["schema"] if form.get("type") == "json_schema" else None,
            most_tokens=body.get("max_tokens") or body.get("max_completion_tokens") or MODEL_LENGTH,
        )
        text = self.write(request, digest)
        return text.text, text.finish_reason, text.tokens

    def write(self, request: TextRequest, digest: bytes) -> Text:
        """Raises UnusableSchema and PatternError when no text has the form that is asked for."""
        rng = self._rng
        rng.seed(digest)
        text = self._text(rng, request)
        tokens, limit = count_tokens(text), request.most_tokens
        if request.is_free and (least := limit if request.whole else request.least_tokens):
            text, tokens = self._extended(rng, text, min(least, limit))
        elif rng.random() < TRUNCATED_SHARE and request.choices is None and request.regex is None:
            limit = min(limit, max(1, int(tokens * (0.3 + 0.6 * rng.random()))))
        ended = "length" if tokens > limit or (request.whole and tokens == limit and request.is_free) else "stop"
        text, tokens = cut_off(text, tokens, limit), min(tokens, limit)
        return _stopped(request, Text(text, ended, tokens)) if request.stop else Text(text, ended, tokens)

    def _text(self, rng: random.Random, request: TextRequest) -> str:
        page = None
        if self._universe is not None:
            asked = request.prompt if request.schema is None else orjson.dumps(request.schema).decode()
            page = Page(self._universe, rng, request.prompt, self._string, asked=asked)
        draw_text = self._string if page is None else page.text
        is_full = self._full_share == 1 or (self._full_share > 0 and rng.random() < self._full_share)
        if request.schema is not None:
            instance = self._instance(rng, request.schema, draw_text, is_full=is_full)
            return orjson.dumps(instance).decode()
        if request.regex is not None:
            return draw_match(rng, request.regex)
        if request.choices is not None:
            return rng.choice(request.choices)
        return self._plain(rng, request.prompt, draw_text, is_full=is_full)

    def _instance(self, rng: random.Random, schema: Any, draw_text: DrawText, *, is_full: bool) -> Any:
        try:
            return InstanceDrawer(schema, draw_text, full_lists=is_full).draw(rng)
        except UnusableSchema:
            if not is_full or self._full_share == 1:
                raise
        return InstanceDrawer(schema, draw_text, full_lists=False).draw(rng)  # its full lists may be too long

    def _extended(self, rng: random.Random, text: str, least: int) -> tuple[str, int]:
        """The text with sentences added until it has so many tokens, and their number."""
        parts, tokens = [text], count_tokens(text)
        while tokens < least:
            parts.append(self._string(rng, "output"))
            tokens += count_tokens(parts[-1])
        text = " ".join(parts)
        return text, max(count_tokens(text), least)

    def _plain(self, rng: random.Random, prompt: str, draw_text: DrawText, *, is_full: bool) -> str:
        _, *marked = f"\n{prompt}".split(_MARKER)
        found = filter(None, map(_MARKED_NAME.match, marked))
        names = list(dict.fromkeys(match[1].strip() for match in found))
        names = [name for name in names if name and name.lower() != "end"]
        if not names:
            return draw_text(rng, "output")
        asked = _ASKED.findall(prompt) if is_full else []
        count = (1 if asked[-1] == "one" else int(asked[-1])) if asked else rng.randint(1, 4)
        blocks = [
            f"### {name}: {_marked(rng, name.lower().split()[-1], draw_text)}" for _ in range(count) for name in names
        ]
        return "\n".join([*blocks, "### End"])

    def _string(self, rng: random.Random, name: str) -> str:
        if rng.random() < self._duplicate_share:
            return self._repeated(name, rng.randrange(PHRASE_POOL))
        return self._new_string(rng, name)

    def _repeated_string(self, name: str, number: int) -> str:
        return self._new_string(random.Random(f"{self._seed} {name} {number}"), name)  # noqa: S311

    @staticmethod
    def _new_string(rng: random.Random, name: str) -> str:
        if name == "input" and rng.random() < _EMPTY_INPUTS:
            return ""
        least, most = _SIZES.get(name, _OTHER_SIZES)
        bits = rng.getrandbits
        size = least + _below(bits, most - least + 1)
        words = [VERBS[_below(bits, len(VERBS))]] if name in _FIRST_WORDS else []
        count = len(words)
        while size:
            words += _ADJECTIVES[_below(bits, len(_ADJECTIVES))], NOUNS[_below(bits, len(NOUNS))]
            count += 3
            if count >= size - 2:
                break
            words.append(LINKS[_below(bits, len(LINKS))])
            count += 1
        text = " ".join(words).capitalize()
        return text if name in _SHORT else f"{text}."


def _marked(rng: random.Random, name: str, draw_text: DrawText) -> str:
    """The text behind a marker: of several values with semicolons between them."""
    if name == "verdict":
        return rng.choice(("first", "second", "tie"))
    text = draw_text(rng, name)
    while name == "values" and text.count(";") < _VALUES - 1:
        text += f"; {draw_text(rng, name)}"
    return text


def _below(bits: Callable[[int], int], limit: int) -> int:
    """`random.randrange(limit)` from these bits, without its checks: most of the time of a text goes here."""
    size = limit.bit_length()
    number = bits(size)
    while number >= limit:
        number = bits(size)
    return number


def _stopped(request: TextRequest, text: Text) -> Text:
    """The text up to the first stop string; before `least_tokens` none counts."""
    begin = len(text.text) * request.least_tokens // max(1, text.tokens)
    found = [(text.text.find(stop, begin), stop) for stop in request.stop]
    at, stop = min(((at, stop) for at, stop in found if at >= 0), default=(-1, ""))
    if at < 0:
        return text
    end = at + len(stop)
    tokens = max(1, -(-end * text.tokens // len(text.text)))
    return Text(text.text[: end if request.keeps_stop else at], "stop", tokens, stop)


def digest_of(*parts: Any) -> bytes:
    """16 bytes that identify a request; the order of keys does not matter."""
    plain = [part.hex() if isinstance(part, bytes) else part for part in parts]
    return hashlib.blake2b(orjson.dumps(plain, option=orjson.OPT_SORT_KEYS), digest_size=16).digest()
