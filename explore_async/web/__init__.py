"""Pages in the browser: a run, while it is on and afterwards, and two answers for people to compare."""

PORT = 8400
"""The port of the view, unless another is wanted or another process has it."""
COMPARE_PORT = 8401
"""The port of the comparison, so that it and the view can be served at once."""
LOOPBACK = "127.0.0.1"
