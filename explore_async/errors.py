"""All errors that explore_async raises on purpose, and the exit code of each.

ExploreError
├─ ConfigError               unknown or invalid setting; resume with another config            exit 2
├─ EndpointError             at the HTTP boundary: endpoint, status, whether to retry          exit 6
│  ├─ EndpointUnavailable       connection ended, 5xx, a response that cannot be read: retried
│  │  ├─ ConnectionFailed          nothing was sent: retried, and never the fault of the request
│  │  ├─ AttemptTimedOut           no whole response by the deadline: retried with a longer one
│  │  ├─ NoText                    thoughts, tool calls or an event stream instead of a text: retried
│  │  └─ CacheFull                 no room left while the completion was written: retried
│  ├─ RateLimited               429, or 503 with Retry-After: retried later
│  └─ RequestRejected           other 4xx: final
│     └─ ContextOverflow           prompt and completion do not fit: final for this request only
├─ ServerError               a local server did not start or died; carries the tail of its log exit 3
├─ StorageError              the run directory cannot be used, or an output cannot be written  exit 4
│  ├─ DamagedStore              stored data is not as it was written: `doctor --repair`
│  ├─ InUse                     another process is in the run directory
│  ├─ NewerFormat               a newer version of explore_async wrote it: update
│  └─ OtherWork                 the directory is that of another command
├─ SystemLimit               the system gives no more memory, threads or processes             exit 4
└─ DataError                 an input file has a fault; names file, line and field             exit 5

This module imports nothing outside the standard library: the model fetcher runs before anything is installed.
"""

from __future__ import annotations


class ExploreError(Exception):
    """An error that the user can act on. The message says what happened, where, and what to do."""

    exit_code = 1


class ConfigError(ExploreError):
    """A setting or an option is unknown or invalid, or a run directory belongs to another recipe."""

    exit_code = 2


class EndpointError(ExploreError):
    """A fault at the HTTP boundary. `endpoint` is the base URL, `status` the HTTP status, if there was a response."""

    exit_code = 6

    def __init__(self, message: str, *, endpoint: str = "", status: int | None = None) -> None:
        super().__init__(message)
        self.endpoint = endpoint
        self.status = status


class EndpointUnavailable(EndpointError):
    """The endpoint could not answer now; the request is sent again."""


class ConnectionFailed(EndpointUnavailable):
    """There was no connection: nothing was sent, so the request cannot be the cause."""


class AttemptTimedOut(EndpointUnavailable):
    """The response was not complete at the attempt's deadline; the next attempt may get a longer one."""


class NoText(EndpointUnavailable):
    """The endpoint answered 200 without a text. `instead`: what it has in its place; see serving.endpoints.wire."""

    def __init__(self, message: str, *, instead: str, endpoint: str = "", status: int | None = None) -> None:
        super().__init__(message, endpoint=endpoint, status=status)
        self.instead = instead


class CacheFull(EndpointUnavailable):
    """The engine had no room left while it wrote the completion; requests beside it may have taken the room."""


class RateLimited(EndpointError):
    """The endpoint asks to send later. `retry_after` is in seconds, None when it names no time."""

    def __init__(
        self, message: str, *, endpoint: str = "", status: int | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message, endpoint=endpoint, status=status)
        self.retry_after = retry_after


class RequestRejected(EndpointError):
    """The endpoint will never answer this request."""


class ContextOverflow(RequestRejected):
    """Prompt and completion do not fit into the model's context. Not a fault of the run."""


class ServerError(ExploreError):
    """A server that this program starts did not start, or died. The message ends with its log."""

    exit_code = 3


class StorageError(ExploreError):
    """A run directory cannot be used, or an output cannot be written."""

    exit_code = 4


class DamagedStore(StorageError):
    """The stored completions are not as they were written; `explore-async doctor RUN --repair` saves what it can."""


class InUse(StorageError):
    """Another process is in the run directory."""


class NewerFormat(StorageError):
    """A newer version of explore_async wrote the file, in a format that this version does not read."""


class OtherWork(StorageError):
    """The directory is that of another command."""


class SystemLimit(ExploreError):
    """The system gives no more of `resource`. Stored data stays."""

    exit_code = 4

    def __init__(self, resource: str) -> None:
        super().__init__(
            f"the system gives this process no more {resource}. Stored data is safe: run again with a higher limit"
        )


class DataError(ExploreError):
    """An input file is not what it should be. The message names the file, the line and the field."""

    exit_code = 5


EXIT_UNHEALTHY = StorageError.exit_code
EXIT_NOTHING_KEPT = 7
EXIT_SIGINT = 130
EXIT_SIGTERM = 143
