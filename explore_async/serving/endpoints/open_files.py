"""The number of sockets that this process may open at once: the system's limit of open files, raised where possible.

Beyond the limit every endpoint seems to refuse connections, and no file of the run can be written.
"""

from __future__ import annotations

import contextlib
import resource

from explore_async.errors import ConfigError

_SPARE = 256
_LEAST_SPARE = 64
"""Open files beside the sockets: those of the run and of its libraries."""


def available_sockets(connections: int) -> int:
    """The number of these connections that can be open at once."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _SPARE
    if soft != resource.RLIM_INFINITY and soft < wanted:
        ceiling = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, ceiling), hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    fit = connections if soft == resource.RLIM_INFINITY else soft - _LEAST_SPARE
    return min(connections, max(0, fit))


def require_sockets(connections: int) -> None:
    """Raises ConfigError unless all of them can be open at once."""
    if (room := available_sockets(connections)) < connections:
        raise ConfigError(
            f"{connections} requests at once need as many sockets, and this process may open {room} (ulimit -n): lower "
            "--concurrency, or raise the limit"
        )
