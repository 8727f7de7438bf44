"""A watched page of a browser, and an event loop beside it."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from playwright.sync_api import Browser, Page


class Watched:
    """A page that notes errors and every request that leaves this machine."""

    def __init__(self, browser: Browser, **options: Any) -> None:
        self.page: Page = browser.new_page(**{"viewport": {"width": 1300, "height": 900}, **options})
        self.errors: list[str] = []
        self.abroad: list[str] = []
        self.page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        own = ("file:", "data:", "blob:", "http://127.0.0.1:")
        self.page.on(
            "request", lambda request: None if request.url.startswith(own) else self.abroad.append(request.url)
        )

    def check(self) -> None:
        assert self.errors == []
        assert self.abroad == []
        assert self.page.evaluate("window.hit") is None
        self.page.close()


class InThread:
    """An event loop of its own, beside playwright's."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(60)

    def close(self) -> None:
        self.run(asyncio.sleep(0.3))  # connections that are closing
        self.run(self.loop.shutdown_default_executor())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()
