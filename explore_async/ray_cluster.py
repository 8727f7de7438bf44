"""A Ray cluster at hand, for the options `--engine ray` (extra `ray`). Ray is imported nowhere before one is given."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from explore_async.errors import ConfigError, ServerError


def require_ray() -> None:
    """Raises ConfigError where Ray is missing."""
    try:
        import_module("ray.exceptions")
    except ImportError as error:
        raise ConfigError("--engine ray needs Ray: pip install 'explore-async[ray]'") from error


@contextmanager
def ray_at_hand(least_processors: int | None = None) -> Iterator[None]:
    """Joins the cluster of RAY_ADDRESS, or starts Ray on this machine and ends it.

    `least_processors`: as many places for work, one for each processor, has a Ray that is started here at least; None
    also joins one that runs on this machine. Raises ConfigError without ray, and ServerError where Ray fails.
    """
    require_ray()
    import ray

    began = not ray.is_initialized()
    if began:
        own = _own_cluster(least_processors)
        try:
            ray.init(**own, log_to_driver=False, logging_level="error", include_dashboard=False)
        except (OSError, RuntimeError, ValueError) as error:
            raise ServerError(f"Ray cannot be reached or started: {error}") from error
    try:
        yield
    except ray.exceptions.RayError as error:
        what = str(error).strip().splitlines()[-1]
        raise ServerError(
            f"Ray has not ended its work: {what}. explore_async has to be installed on each of its machines"
        ) from error
    finally:
        if began:
            ray.shutdown()


def _own_cluster(least_processors: int | None) -> dict[str, Any]:
    if least_processors is None or os.environ.get("RAY_ADDRESS"):
        return {}
    return {"address": "local", "num_cpus": max(least_processors, os.cpu_count() or 1)}
