"""A run in the browser, while it is on and afterwards. Reads the run directory's files, and writes nothing."""

PORT = 8400
"""The port of the view, unless another is wanted or another process has it."""
