"""The page of a comparison in a real browser, as its raters use it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from aiohttp import web
from playwright.sync_api import Browser, Page
from support.browser import InThread, Watched

from explore_async.evaluation.blind import BlindPair, blind_pairs
from explore_async.evaluation.pairing import Pair
from explore_async.evaluation.rater_figures import figures_of_raters
from explore_async.evaluation.rater_verdicts import Verdicts
from explore_async.web import LOOPBACK
from explore_async.web.compare import Comparison, application
from explore_async.web.page import serving_page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

ANN = "Ann <b>Lee</b>"
CODE = "def add(a, b):\n    if a:\n        return a + b  # " + "far " * 60 + "\n    return b"
HOSTILE = "<script>window.hit=1</script><img src=x onerror='window.hit=1'> \u202egnp.exe \x1b[31m"
PAIRS = [
    Pair("0", "Add two numbers in Python", "", f"Do this:\n```python\n{CODE}\n```\nDone with `add`.", "Use `sum`.", ""),
    Pair("1", HOSTILE, "<b onmouseover='window.hit=1'>x</b>", f"{HOSTILE} one", f"[x](javascript:window.hit=1) {HOSTILE}", ""),
    Pair("2", "Tell a story", "", "word " * 40_000, "It was night.\n\n" * 30, ""),
    Pair("3", "Same", "", "the same", "the same", ""),
    Pair("4", "Say so in Arabic", "", "هذا جواب", "A short one", ""),
]  # fmt: skip


@contextmanager
def served(beside: InThread, path: Path, port: int = 0) -> Iterator[tuple[str, Comparison]]:
    with ExitStack() as stack:

        def made() -> tuple[Comparison, web.Application]:
            verdicts = Verdicts(path)
            stack.enter_context(verdicts.writing())
            comparison = Comparison(blind_pairs(PAIRS, 0), verdicts)
            return comparison, application(comparison, address=LOOPBACK)

        comparison, app = beside.run(asyncio.to_thread(made))
        site = serving_page(app, port)
        yield beside.run(site.__aenter__()), comparison
        beside.run(site.__aexit__(None, None, None))


def is_judged(page: Page, done: int) -> None:
    page.wait_for_function(f"() => document.querySelector('#count').textContent === '{done} of 4 judged'")


def shown(page: Page, comparison: Comparison, rater: str) -> BlindPair:
    """The pair that the page shows."""
    question = comparison.state(rater)["question"]
    first_line = question["instruction"].splitlines()[0][:10]
    assert first_line in page.inner_text("#instruction")
    return comparison.pairs.by_id[question["id"]]


def judged_by_keyboard(page: Page, comparison: Comparison) -> dict[str, str]:
    """Judges all, and takes one back. Returns the sources that are better by what the page showed."""
    chosen = {}
    for done, key in enumerate(("1", "ArrowRight", "0", "2")):
        is_judged(page, done)
        pair = shown(page, comparison, ANN)
        left = comparison.pairs.left(pair, ANN)
        chosen[pair.id] = "tie" if key == "0" else left if key == "1" else {"a": "b", "b": "a"}[left]
        check_texts(page, pair, "#left" if left == "a" else "#right")
        if done == 1:  # within the comment keys are letters
            page.keyboard.press("c")
            page.keyboard.type("1 is u")
            page.keyboard.press("Enter")
            page.keyboard.press(key)
            is_judged(page, 2)
            page.keyboard.press("u")
            is_judged(page, 1)
            assert page.input_value("#comment") == "1 is u"
            assert page.locator("#choices .before").get_attribute("value") == "right"
        page.keyboard.press(key)
    page.wait_for_selector("#end:visible")
    assert not page.is_visible("#choices")
    return chosen


def check_texts(page: Page, pair: BlindPair, side_of_a: str) -> None:
    if pair.instruction == PAIRS[0].instruction:
        side = page.locator(side_of_a)
        assert side.locator("code.block").inner_text() == CODE
        assert "mono" in side.locator("code.block").evaluate("one => getComputedStyle(one).fontFamily")
        assert side.locator("code:not(.block)").inner_text() == "add"
    if pair.instruction.startswith("<script>"):
        assert "<script>window.hit=1</script>" in page.inner_text("#instruction")
        assert "\u202e" not in page.inner_text("main")
        assert page.locator("main a, main img, main script").count() == 0


def judge_by_touch(phone: Page, count: int) -> None:
    for done in range(count):
        is_judged(phone, done)
        assert phone.evaluate("document.documentElement.scrollWidth <= 390")
        left, right = (phone.locator(one).bounding_box() for one in ("#left", "#right"))
        assert left["y"] + left["height"] <= right["y"]
        button = phone.get_by_role("button", name="Tie").bounding_box()
        assert button["y"] + button["height"] <= 800  # at hand without scrolling, however long the answers are
        assert button["height"] >= 44
        phone.get_by_role("button", name="1 is better").tap()
    is_judged(phone, count)


def test_two_raters(browser: Browser, tmp_path: Path, beside: InThread) -> None:
    """One by keyboard, who takes back and goes on after the server was started again; one on a phone, in dark, by
    touch. Their verdicts are those of the sources that they saw; hostile texts are only text, code keeps its form.
    """
    path = tmp_path / "v.jsonl"
    ann = Watched(browser)
    bob = Watched(browser, viewport={"width": 390, "height": 800}, has_touch=True, color_scheme="dark")
    page, phone = ann.page, bob.page
    with served(beside, path) as (url, comparison):
        page.goto(url)
        page.get_by_label("Your name").fill(ANN)
        assert not page.is_visible("footer")
        page.keyboard.press("Enter")
        page.wait_for_selector("#question:visible")
        assert not page.is_visible("#enter")
        chosen = judged_by_keyboard(page, comparison)
        assert {key: one.verdict for key, one in comparison.verdicts.of[ANN].items()} == chosen
        assert "1 is u" in {one.comment for one in comparison.verdicts.of[ANN].values()}
        page.keyboard.press("u")
        is_judged(page, 3)
        phone.goto(url)
        phone.get_by_label("Your name").fill("Bob")
        phone.get_by_role("button", name="Begin").tap()
        judge_by_touch(phone, 2)
        port = int(url.rpartition(":")[2])
    phone.get_by_role("button", name="Tie").tap()
    phone.wait_for_selector("#trouble:visible")
    assert "nothing was kept" in phone.inner_text("#trouble")
    bob.errors.clear()  # the refused connection

    with served(beside, path, port) as (url, comparison):
        page.goto(url)  # the name is in the browser, the progress is in the file
        is_judged(page, 3)
        page.keyboard.press("2")
        page.wait_for_selector("#end:visible")
        phone.get_by_role("button", name="Tie").tap()
        is_judged(phone, 3)
        assert not phone.is_visible("#trouble")
        phone.get_by_role("button", name="Undo").tap()
        is_judged(phone, 2)
        figures = figures_of_raters(comparison.pairs, comparison.verdicts.of)
        assert {name: rated.judged for name, rated in figures.by_rater.items()} == {ANN: 4, "Bob": 2}
        assert figures.left_won["Bob"] == 1
        assert figures.agreement.questions == 2
        page.get_by_role("button", name="Change").click()
        page.wait_for_selector("#enter:visible")
        assert not page.is_visible("#question")
        page.reload()
        page.wait_for_selector("#enter:visible")
    ann.check()
    bob.check()
