"""A Ray cluster at hand, for the options `--engine ray` (extra `ray`). Ray is imported nowhere before one is given."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from explore_async.errors import ConfigError, ServerError

_CONNECTED_WITHIN_S = 10.0
_CLIENT = "ray://"


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
    also joins one that runs on this machine. Raises ConfigError without ray, and ServerError where Ray fails, or where
    nothing listens at the address.
    """
    require_ray()
    import ray

    began = not ray.is_initialized()
    if began:
        check_address(os.environ.get("RAY_ADDRESS", ""))
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


def check_address(address: str) -> None:
    """Raises ServerError where nothing listens at HOST:PORT, which Ray itself would try for minutes. Of any other
    address Ray says at once what it is.
    """
    host, _, port = address.removeprefix(_CLIENT).rpartition(":")
    if not host or not (port.isascii() and port.isdecimal()):
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECTED_WITHIN_S).close()
    except (OSError, OverflowError) as error:  # a port above 65,535
        raise ServerError(f"RAY_ADDRESS={address}: no Ray cluster can be reached there: {error}") from error


def _own_cluster(least_processors: int | None) -> dict[str, Any]:
    if least_processors is None or os.environ.get("RAY_ADDRESS"):
        return {}
    return {"address": "local", "num_cpus": max(least_processors, os.cpu_count() or 1)}
