"""First on the path of a process of the command line that is to behave otherwise: more checkpoints, another clock,
other names.

CHECKPOINT_EVERY: examples judged from one checkpoint to the next.
TORTURE_CLOCK: a file with the seconds by which the time of day is off; the monotonic clock stays as it is.
TORTURE_NAME: a file; while it is there, the host name model.test is not known. Otherwise it is this machine.
"""

from __future__ import annotations

import datetime as dt
import os
import socket
import time
from pathlib import Path

HOST = "model.test"

clock, name = os.environ.get("TORTURE_CLOCK"), os.environ.get("TORTURE_NAME")

if clock is not None:
    real_time, real_time_ns, real_datetime = time.time, time.time_ns, dt.datetime
    told = Path(clock)

    def off() -> int:
        return int(told.read_text() or 0)

    class Datetime(real_datetime):
        @classmethod
        def now(cls, tz=None):
            return cls.fromtimestamp(time.time(), tz)

    time.time = lambda: real_time() + off()
    time.time_ns = lambda: real_time_ns() + off() * 10**9
    dt.datetime = Datetime

if name is not None:
    real_getaddrinfo = socket.getaddrinfo
    gone, failed = Path(name), Path(f"{name}.failed")

    def getaddrinfo(host, *arguments, **more):
        if host == HOST:
            if gone.exists():
                with failed.open("a") as file:
                    file.write("x")
                raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
            host = "127.0.0.1"
        return real_getaddrinfo(host, *arguments, **more)

    socket.getaddrinfo = getaddrinfo

if (every := os.environ.get("CHECKPOINT_EVERY")) is not None:
    from explore_async.running import checkpointing

    checkpointing.EXAMPLES_PER_CHECKPOINT = int(every)
