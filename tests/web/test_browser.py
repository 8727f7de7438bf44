"""The report and the view in a real browser: they work without network and errors, and hostile data is only text."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import orjson
import pytest
from playwright.sync_api import Browser, Page
from support.browser import InThread, Watched
from support.cli import config, explore, finished, launch
from support.originals import original_folder

from explore_async.serving.simulated.server import Latency, SimulatedServer
from explore_async.web.app import serving

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

HOSTILE = [
    {
        "instruction": "<script>window.hit=1</script></script><script>window.hit=1</script> Write a poem",
        "output": "\u202egnp.exe <img src=x onerror='window.hit=1'>",
        "topic": "<b onmouseover='window.hit=1'>x</b><a href='javascript:window.hit=1'>y</a>",
    },
    {"instruction": "Write a long story", "output": "word " * 200_000, "topic": "\x1b[31mred \u2066"},
    *({"instruction": f"List {n} rivers of region {n}", "output": "x", "topic": "plain"} for n in range(30)),
]


def hostile_file(folder: Path) -> Path:
    path = folder / "hostile.jsonl"
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in HOSTILE))
    return path


def test_the_report(browser: Browser, tmp_path: Path, beside: InThread) -> None:
    """All pictures are drawn; the treemap zooms and changes its colours; tables sort and search; two sets compare."""
    original_folder(tmp_path / "theirs", 1, tasks=9)
    command = ("analyze", tmp_path / "theirs", hostile_file(tmp_path), "--report", tmp_path / "r.html")
    assert beside.run(explore(*command)).code == 0
    watched = Watched(browser)
    page = watched.page
    page.goto((tmp_path / "r.html").as_uri())
    page.wait_for_selector("body[data-ready=yes]")
    assert page.locator("svg.main-svg").count() >= 12
    wider = "one => one.querySelector('svg.main-svg').getBoundingClientRect().width > one.getBoundingClientRect().width"
    plots = page.locator(".plot:visible")
    assert not [one for one in plots.all() if one.evaluate(wider)]
    page.wait_for_function("() => document.querySelectorAll('#treemap .slice').length >= 9")
    before = page.locator("#treemap .slice").count()
    page.locator("#treemap .slice").nth(1).click()
    page.wait_for_function(f"() => document.querySelectorAll('#treemap .slice').length !== {before}")
    page.select_option("#tree-colour", "novelty")
    page.fill("#example-filter", "rivers of region 17")
    assert page.locator("#example-table tbody tr").count() == 1
    page.fill("#example-filter", "")
    heading = page.locator("#task-table th", has_text="kept")
    heading.locator("button").click()
    kept = [int(text.replace(",", "")) for text in page.locator("#task-table tbody td:nth-child(5)").all_inner_texts()]
    assert kept == sorted(kept, reverse=True)
    assert heading.get_attribute("aria-sort") == "descending"
    assert page.locator("#diversity-table tbody tr").count() >= 3
    assert page.locator("#shape-table tbody tr").count() == 10
    page.set_viewport_size({"width": 390, "height": 800})
    page.wait_for_function("() => document.documentElement.scrollWidth <= 390")  # once the plots have followed
    assert "compare" in page.inner_text("#pairs").lower() or page.locator("#sunbursts svg").count() >= 2
    watched.check()

    assert beside.run(explore("import", tmp_path / "theirs", "--out", tmp_path / "data")).code == 0
    (tmp_path / "r.html").rename(tmp_path / "data" / "report.html")
    view = serving([tmp_path / "data"], 0)
    watched = Watched(browser)
    watched.page.goto(beside.run(view.__aenter__()))
    with watched.page.expect_popup() as opened:
        watched.page.get_by_role("link", name="Report").click()
    opened.value.wait_for_selector("body[data-ready=yes]")  # it works in its sandbox
    assert opened.value.evaluate("origin") == "null"
    opened.value.close()
    watched.check()
    beside.run(view.__aexit__(None, None, None))


def test_a_hostile_data_set_is_text(browser: Browser, tmp_path: Path, beside: InThread) -> None:
    """Script tags, handlers and links do nothing; bidi controls and escapes are marks; a megabyte does not hang it."""
    command = ("analyze", hostile_file(tmp_path), "--column", "task=topic", "--report", tmp_path / "r.html")
    assert beside.run(explore(*command)).code == 0
    watched = Watched(browser)
    watched.page.goto((tmp_path / "r.html").as_uri())
    watched.page.wait_for_selector("body[data-ready=yes]")
    text = watched.page.inner_text("#examples")
    assert "<script>window.hit=1</script>" in text
    assert "\u202e" not in text
    watched.page.locator("#treemap .slice", has_text="onmouseover").first.hover(force=True)
    assert watched.page.locator("#treemap a[href^=javascript]").count() == 0
    watched.check()


def test_the_view_of_a_live_run(browser: Browser, tmp_path: Path, beside: InThread) -> None:
    """Counts rise by themselves, its phase and its endpoint are shown, a task is chosen by keyboard, search finds, evidence
    is shown, and its end is told.
    """
    server = SimulatedServer(4, Latency(0.2, 0.3))
    beside.run(server.__aenter__())
    process = beside.run(launch("run", config(tmp_path), "--endpoint", server.url, "--out", tmp_path / "run"))
    ending = asyncio.run_coroutine_threadsafe(finished(process), beside.loop)
    while not (tmp_path / "run" / "live.json").exists():
        assert not ending.done()
    view = serving([tmp_path / "run"], 0)
    watched = Watched(browser)
    page = watched.page
    page.goto(beside.run(view.__aenter__()))
    page.wait_for_function("() => document.querySelector('#status').textContent.startsWith('running')")
    page.wait_for_function("() => /(exploring|generating) .* of /.test(document.querySelector('#status').textContent)")
    page.wait_for_function(f"() => document.querySelector('#endpoints td').textContent === '{server.url}'")
    kept = "Number(document.querySelector('.figure b').textContent.replaceAll(',', ''))"
    first = page.evaluate(kept)
    page.wait_for_function(f"() => {kept} > {first}", timeout=300_000)
    page.wait_for_selector("#tree li[data-task='0']", timeout=300_000)
    page.wait_for_function("() => document.querySelector('#found').textContent === '100 of 100 kept'", timeout=300_000)
    page.locator("#tree li").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert page.locator("#tree li[aria-selected=true]").get_attribute("data-task") == "0"
    page.wait_for_selector("#list li button")
    page.wait_for_function("() => document.querySelector('#status').textContent.startsWith('ended')", timeout=300_000)
    assert ending.result(300).code == 0
    assert not page.is_visible("#endpoints")
    page.fill("#query", page.locator("#list li button span").first.inner_text()[:30])
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelectorAll('#list li').length > 0")
    page.locator("#list li button").first.press("Enter")
    page.wait_for_function("() => document.querySelector('#evidence').innerText.includes('raw completion')")
    watched.check()
    beside.run(view.__aexit__(None, None, None))
    beside.run(server.__aexit__(None, None, None))


def test_the_view_says_what_a_run_waits_for(browser: Browser, tmp_path: Path, beside: InThread) -> None:
    """Stored completions that are not judged, the requests that they wait for, and requests beyond what may be in flight."""
    rows = b"".join(orjson.dumps({"instruction": f"Write {n}", "output": "x"}) + b"\n" for n in range(3))
    (tmp_path / "rows.jsonl").write_bytes(rows)
    assert beside.run(explore("import", tmp_path / "rows.jsonl", "--out", tmp_path / "data")).code == 0
    waits = "1,204 stored completions wait for 2 requests at http://<b>1</b> (the first sent 1 min 5 s ago)"
    one = {"url": "http://b", "state": "ok", "in_flight": 29, "limit": 19}
    steps = {"done": 3, "of": 9, "what": "tasks", "at_most": True}
    live = {
        "on": True,
        "elapsed_s": 70,
        "phase": "exploring",
        "steps": steps,
        "kept": 3,
        "dropped": 0,
        "tokens_per_s": 512,
    }
    live |= {"in_flight": 1029, "capacity": 1019, "endpoints": [one]}
    file = tmp_path / "data" / "live.json"
    file.write_bytes(orjson.dumps({**live, "held_up": waits, "stored_not_judged": 1204, "trouble": ""}))
    os.utime(file, (later := time.time() + 3600, later))  # so that it stays fresh
    view = serving([tmp_path / "data"], 0)
    watched = Watched(browser)
    page = watched.page
    page.goto(beside.run(view.__aenter__()))
    page.wait_for_selector("#held_up:visible")
    assert page.inner_text("#held_up") == waits
    assert not page.is_visible("#trouble")
    assert "3 of at most 9 tasks" in page.inner_text("#status")
    assert "29, going down to 19" in page.inner_text("#endpoints")
    figures = page.inner_text("#figures")
    assert "1,029\nin flight, going down to 1,019" in figures
    assert "1,204\nstored, not judged yet" in figures
    watched.check()
    beside.run(view.__aexit__(None, None, None))


def test_the_view_of_hostile_data(browser: Browser, tmp_path: Path, beside: InThread) -> None:
    """An imported file of attacks, in light and dark and on a narrow screen: text."""
    assert (
        beside.run(explore("import", hostile_file(tmp_path), "--column", "task=topic", "--out", tmp_path / "data")).code
        == 0
    )
    view = serving([tmp_path / "data"], 0)
    watched = Watched(browser)
    page = watched.page
    page.emulate_media(color_scheme="dark")
    page.goto(beside.run(view.__aenter__()))
    page.wait_for_selector("#list li")
    assert "<script>window.hit=1</script>" in page.inner_text("#list")
    assert "<b onmouseover" in page.inner_text("#tree")
    page.locator("#list li button").first.click()
    page.wait_for_function("() => document.querySelector('#evidence').innerText.includes('onerror')")
    page.locator("#tree li").nth(2).click()
    page.wait_for_function("() => document.querySelector('#evidence').innerText.includes('onmouseover')")
    page.set_viewport_size({"width": 400, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth <= 400")
    watched.check()
    beside.run(view.__aexit__(None, None, None))


SEPARATE = f"""
name: test
domains: [{{name: Garden, system: "{"<img src=x onerror='window.hit=1'>"}"}}]
exploration: {{depth: 0}}
responses: separate
judge: {{threshold: 1}}
targets: {{examples: 4}}
operation: {{report: false}}
"""


def test_the_view_of_answers_of_their_own(browser: Browser, tmp_path: Path, beside: InThread) -> None:
    """Scores are figures, and the evidence has each request with its verdict; a hostile system prompt is text."""

    async def made() -> int:
        async with SimulatedServer(64) as server:
            path = config(tmp_path, SEPARATE)
            return (await explore("run", path, "--endpoint", server.url, "--out", tmp_path / "run")).code

    assert beside.run(made()) == 0
    view = serving([tmp_path / "run"], 0)
    watched = Watched(browser)
    page = watched.page
    page.goto(beside.run(view.__aenter__()))
    page.wait_for_selector("#list li")
    figures = page.inner_text("#figures")
    assert "new instructions" in figures
    assert "mean scores" in figures
    page.locator("#list li button").first.click()
    page.wait_for_function("() => document.querySelector('#evidence').innerText.includes('judge of answer 0')")
    evidence = page.inner_text("#evidence")
    for shown in ("<img src=x onerror", "instruction", "answer 0", "its reason", "scores", "passed"):
        assert shown in evidence, shown
    watched.check()
    beside.run(view.__aexit__(None, None, None))


def test_a_tab_stays_with_its_run(browser: Browser, tmp_path: Path, beside: InThread) -> None:
    """A tab is open while the view is started anew, once with one run more and once without its own: marks go to the run
    that it shows, or nowhere, and it says so.
    """
    runs = tmp_path / "runs"
    imported(runs / "b", beside)
    view = serving([runs], 0)
    page = browser.new_page()
    page.goto(url := beside.run(view.__aenter__()))
    port = int(url.rpartition(":")[2])
    page.locator("#list li button").first.click()
    page.wait_for_selector("#mark")
    beside.run(view.__aexit__(None, None, None))
    imported(runs / "a", beside)
    view = serving([runs], port)
    beside.run(view.__aenter__())
    page.wait_for_function("() => document.querySelectorAll('#runs option').length === 2")
    assert str(runs / "b") in page.locator("#runs option:checked").inner_text()
    page.get_by_role("button", name="Bad").click()
    page.wait_for_selector("#list small.bad")
    beside.run(view.__aexit__(None, None, None))
    view = serving([runs / "a"], port)
    beside.run(view.__aenter__())
    page.wait_for_function("() => document.querySelector('#status').innerText.includes('this run any more')")
    page.get_by_role("button", name="Good").click()
    page.wait_for_function("() => document.querySelector('#mark small').innerText.includes('this run any more')")
    page.wait_for_function("() => document.querySelectorAll('#runs option').length === 1")
    page.select_option("#runs", index=0)
    page.wait_for_selector("#list li")
    page.close()
    beside.run(view.__aexit__(None, None, None))
    assert [path.parent.name for path in runs.glob("*/marks.jsonl")] == ["b"]
    assert len((runs / "b" / "marks.jsonl").read_bytes().splitlines()) == 1


def test_many_tabs(browser: Browser, tmp_path: Path, beside: InThread) -> None:
    """Tabs that are not seen leave their connections to the others, and go on where they were once they are seen again."""
    imported(tmp_path / "data", beside)
    view = serving([tmp_path / "data"], 0)
    url = beside.run(view.__aenter__())
    context = browser.new_context()
    pages = []
    for _ in range(8):
        pages.append(page := context.new_page())
        page.goto(url)
        page.wait_for_selector("#list li")
        seen(page, False)
    first = pages[0]
    first.locator("#list li button").first.click()
    first.wait_for_selector("#mark")
    pages[1].locator("#list li button").first.click()
    pages[1].get_by_role("button", name="Bad").click()
    pages[1].wait_for_selector("#mark button[aria-pressed=true]")
    assert "marked" not in first.inner_text("#figures")
    seen(first, True)
    first.wait_for_function("() => document.querySelector('#figures').innerText.includes('bad 1')")
    assert first.is_visible("#mark")
    context.close()
    beside.run(view.__aexit__(None, None, None))


def imported(folder: Path, beside: InThread) -> None:
    """A data directory with an example."""
    folder.parent.mkdir(exist_ok=True)
    file = folder.with_suffix(".jsonl")
    file.write_bytes(orjson.dumps({"instruction": "Say so", "output": "x"}))
    assert beside.run(explore("import", file, "--out", folder)).code == 0


def seen(page: Page, is_seen: bool) -> None:
    """Tells the page that its tab is seen or not, as the browser does; without a screen all tabs count as seen."""
    hidden = orjson.dumps(not is_seen).decode()
    page.evaluate(f"Object.defineProperty(document, 'hidden', {{ value: {hidden}, configurable: true }})")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


CODE = "def add(a, b):\n    if a:\n        return a + b\n    return b"


def test_marks_and_code(browser: Browser, tmp_path: Path, beside: InThread) -> None:
    """An example is marked by mouse and by keyboard, with a note that is only text, and stays so after a reload. Code is
    in monospace with its indentation, between fences or not; lists and prose are not.
    """
    outputs = [CODE, f"Do this:\n```python\n{CODE}\n```\nDone with `add`.", "- one\n- two\n  - three\n- four"]
    rows = [{"instruction": f"Write part {n} of it", "output": output} for n, output in enumerate(outputs)]
    (tmp_path / "rows.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    assert beside.run(explore("import", tmp_path / "rows.jsonl", "--out", tmp_path / "data")).code == 0
    view = serving([tmp_path / "data"], 0)
    watched = Watched(browser)
    page = watched.page
    page.goto(beside.run(view.__aenter__()))
    page.locator("#list li button").first.click()
    page.wait_for_selector("#evidence code.block")
    assert page.locator("#evidence code.block").inner_text() == CODE
    assert "mono" in page.locator("#evidence code.block").evaluate("one => getComputedStyle(one).fontFamily")
    page.get_by_label("Note").fill("<img src=x onerror='window.hit=1'>")
    page.get_by_role("button", name="Bad").click()
    page.wait_for_selector("#list small.bad")
    page.locator("#list li button").first.focus()
    page.keyboard.press("ArrowDown")
    page.wait_for_function("() => document.querySelectorAll('#evidence code').length === 2")
    assert page.locator("#evidence code.block").inner_text() == CODE
    assert page.locator("#evidence code:not(.block)").inner_text() == "add"
    page.keyboard.press("g")
    page.wait_for_selector("#list small.good")
    page.keyboard.press("ArrowDown")
    page.wait_for_function("() => document.querySelector('#evidence').innerText.includes('three')")
    assert page.locator("#evidence code").count() == 0
    page.keyboard.press("g")
    page.wait_for_selector("#mark button[aria-pressed=true]")
    page.keyboard.press("g")  # again takes it back
    page.wait_for_function("() => document.querySelectorAll('#list small.good').length === 1")
    page.wait_for_function("() => document.querySelector('#figures').innerText.includes('bad 1, good 1')")
    page.reload()
    page.wait_for_selector("#list small.bad")
    assert "<img src=x" in page.locator("#list small.bad").inner_text()
    page.select_option("#what", "marked")
    page.wait_for_function("() => document.querySelectorAll('#list li').length === 2")
    page.locator("#list li button").first.click()
    page.wait_for_selector("#mark button[value=bad][aria-pressed=true]")
    watched.check()
    beside.run(view.__aexit__(None, None, None))
