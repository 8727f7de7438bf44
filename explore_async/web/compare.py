"""`explore-async compare`: two answers to a question side by side, for raters who do not know whose they are.

It writes nothing but verdicts. Raters get the questions in one random order, the same for all, and the answers as left
and right; the page never learns which source an answer is from.
"""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from aiohttp import web

from explore_async.errors import DataError
from explore_async.evaluation.blind import BlindPair, BlindPairs, Side
from explore_async.evaluation.rater_verdicts import Choice, Verdict, Verdicts
from explore_async.web.page import (
    BadQuery,
    document_from,
    json_response,
    page_application,
    serving_page,
    stop_signal,
    stopped,
)

_LONGEST_NAME = 60
_LONGEST_COMMENT = 2_000
_SIDES = ("left", "right")
_T = TypeVar("_T")


@dataclass(slots=True)
class Comparison:
    """The questions that raters are asked, and the verdicts that they give. Not for several threads at once."""

    pairs: BlindPairs
    verdicts: Verdicts
    most: int | None = None
    """The number of questions; None: all."""
    _asked: dict[str, BlindPair] = field(init=False)

    def __post_init__(self) -> None:
        different = [pair for pair in self.pairs.by_id.values() if not pair.is_identical]
        self._asked = {pair.id: pair for pair in different[: self.most]}

    def state(self, rater: str) -> dict[str, Any]:
        """How far a rater is, with the first question without a verdict; null where there is none."""
        given = self.verdicts.of.get(rater, {})
        open_ = [pair for pair in self._asked.values() if pair.id not in given]
        done = len(self._asked) - len(open_)
        return {"done": done, "of": len(self._asked), "question": self._shown(open_[0], rater) if open_ else None}

    def judge(self, rater: str, pair_id: str, verdict: str, comment: str) -> None:
        """Keeps a verdict: left, right or tie. Raises DataError for an unknown question, StorageError."""
        pair = self._asked.get(pair_id)
        if pair is None:
            raise DataError("this question is not asked any more; load the page again")
        left = self.pairs.left(pair, rater)
        choice: Choice = "tie" if verdict == "tie" else left if verdict == "left" else _other(left)
        self._keep(pair, rater, choice, comment)

    def undo(self, rater: str) -> dict[str, str]:
        """Takes the latest verdict of a rater back, and returns it with its comment. Raises DataError, StorageError."""
        given = reversed(self.verdicts.of.get(rater, {}).values())
        latest = next((one for one in given if one.id in self._asked), None)
        if latest is None:
            raise DataError("there is no verdict to take back")
        self._keep(self._asked[latest.id], rater, None, "")
        shown = "tie" if latest.verdict == "tie" else _SIDES[latest.verdict != latest.left]
        return {"id": latest.id, "verdict": shown, "comment": latest.comment}

    def _keep(self, pair: BlindPair, rater: str, choice: Choice | None, comment: str) -> None:
        left, seed = self.pairs.left(pair, rater), self.pairs.seed
        line = Verdict(id=pair.id, rater=rater, verdict=choice, comment=comment, left=left, seed=seed)
        self.verdicts.add(line)

    def _shown(self, pair: BlindPair, rater: str) -> dict[str, str]:
        left = self.pairs.left(pair, rater)
        answers = {"left": pair.answer(left), "right": pair.answer(_other(left))}
        return {"id": pair.id, "instruction": pair.instruction, "input": pair.input, **answers}


_COMPARISON: web.AppKey[Comparison] = web.AppKey("comparison", Comparison)
_LOCK: web.AppKey[asyncio.Lock] = web.AppKey("lock", asyncio.Lock)


def application(comparison: Comparison, *, address: str) -> web.Application:
    """Serves the page and takes its verdicts."""
    app = page_application("compare.html", "page.js", "compare.js", "page.css", "compare.css", address=address)
    app[_COMPARISON], app[_LOCK] = comparison, asyncio.Lock()
    app.router.add_get("/api/state", _state)
    app.router.add_post("/api/verdicts", _judge)
    app.router.add_post("/api/undo", _undo)
    return app


async def serve(comparison: Comparison, *, address: str, port: int, announce: Callable[[str], None]) -> None:
    """Serves until SIGINT or SIGTERM, within `writing` of the verdicts. `announce` gets the URL. Raises ConfigError."""
    stop = stop_signal()
    app = await asyncio.to_thread(application, comparison, address=address)
    async with serving_page(app, port) as url:
        announce(url)
        await stopped(stop)


async def _state(request: web.Request) -> web.Response:
    return json_response(request.app[_COMPARISON].state(_rater(request.query.get("rater"))))


async def _judge(request: web.Request) -> web.Response:
    document = await document_from(request)
    rater, pair_id = _rater(document.get("rater")), document.get("id")
    verdict, comment = document.get("verdict"), document.get("comment", "")
    if not isinstance(pair_id, str) or verdict not in (*_SIDES, "tie"):
        raise BadQuery("a verdict has the id of a question, and is left, right or tie")
    if not isinstance(comment, str) or len(comment) > _LONGEST_COMMENT:
        raise BadQuery(f"a comment is a text of at most {_LONGEST_COMMENT:,} characters")
    comparison = request.app[_COMPARISON]
    await _alone(request, partial(comparison.judge, rater, pair_id, verdict, comment))
    return json_response(comparison.state(rater))


async def _undo(request: web.Request) -> web.Response:
    rater = _rater((await document_from(request)).get("rater"))
    comparison = request.app[_COMPARISON]
    before = await _alone(request, partial(comparison.undo, rater))
    return json_response({**comparison.state(rater), "before": before})


async def _alone(request: web.Request, change: Callable[[], _T]) -> _T:
    """Makes a change in a thread while no other is made, to its end even where the client drops its connection."""

    async def made() -> _T:
        async with request.app[_LOCK]:
            return await asyncio.to_thread(change)

    return await asyncio.shield(made())


def _rater(name: Any) -> str:
    """The name with single spaces, in the normal form of Unicode: the same wherever it is typed."""
    rater = unicodedata.normalize("NFC", " ".join(name.split())) if isinstance(name, str) else ""
    if not rater or not isinstance(name, str) or len(name) > _LONGEST_NAME:
        raise BadQuery(f"a rater has a name of at most {_LONGEST_NAME} characters")
    if not name.isprintable():
        hidden = next(character for character in name if not character.isprintable())
        raise BadQuery(
            f"a rater's name has no line break and no invisible character, and this one has U+{ord(hidden):04X}"
        )
    return rater


def _other(side: Side) -> Side:
    return "b" if side == "a" else "a"
