"""Signals that the caller of the suite ignores still reach the processes of the tests."""

from __future__ import annotations

import signal

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def restore_for_children() -> None:
    """Every child starts with these signals at their defaults, whatever the caller of the suite ignores.

    A child inherits "ignored" but no handler. So a handler that does nothing takes the place of "ignored": the suite
    itself goes on ignoring the signal (as under nohup), and its children don't.
    """
    for number in STOPPING:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, _ignore)


def _ignore(*_: object) -> None:
    pass
