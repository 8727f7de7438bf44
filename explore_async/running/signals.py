"""The signals that end a run."""

from __future__ import annotations

import signal


def endings() -> tuple[signal.Signals, ...]:
    """The signals that end a run as SIGTERM does. SIGHUP is none where it is ignored: whoever starts us by
    nohup wants the terminal to close without us.
    """
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        return (signal.SIGTERM,)
    return (signal.SIGTERM, signal.SIGHUP)
