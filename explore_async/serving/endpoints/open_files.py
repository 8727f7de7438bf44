"""How many sockets this process may have open at once: the system's limit of open files, raised as far as it lets us.

Beyond the limit every endpoint looks like one that refuses connections, and no file of the run can be written.
"""

from __future__ import annotations

import contextlib
import resource

from explore_async.errors import ConfigError

_SPARE = 256
_LEAST_SPARE = 64
"""Files beside the sockets: what a run has open itself, and what its libraries may want."""


def room_for(connections: int) -> int:
    """How many of the connections can be open at once."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _SPARE
    if soft != resource.RLIM_INFINITY and soft < wanted:
        ceiling = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, ceiling), hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    fit = connections if soft == resource.RLIM_INFINITY else soft - _LEAST_SPARE
    return min(connections, max(0, fit))


def check_room_for(connections: int) -> None:
    """Raises ConfigError unless all of them can be open at once."""
    if (room := room_for(connections)) < connections:
        raise ConfigError(
            f"{connections} requests at once need as many sockets, and this process may open {room} (ulimit -n): ask "
            "for fewer at once (--concurrency), or have the limit raised"
        )
