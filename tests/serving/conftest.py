"""What the model tests share: one small real server for the whole session."""

from __future__ import annotations

import asyncio

import pytest_asyncio

from explore_async.serving.servers.embedded import EmbeddedServer
from explore_async.serving.servers.models import fetch


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def small_server():
    """SmolLM2-135M behind the embedded server, fetched by the real code once and kept in the user's cache."""
    path = await asyncio.to_thread(fetch, "smollm2-135m")
    async with EmbeddedServer(path, model_name="smollm2-135m", context_tokens=1024) as server:
        yield server
