"""Settings of an endpoint for tests of the pool."""

from __future__ import annotations

from typing import Any

from explore_async.settings.operation import EndpointSettings


def endpoint(url: str, concurrency: int | str = 128, **settings: Any) -> EndpointSettings:
    """An endpoint with a declared concurrency, which does not depend on what is measured."""
    return EndpointSettings(url=url, concurrency=concurrency, **settings)
