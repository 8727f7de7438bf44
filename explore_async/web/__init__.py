"""A run in the browser, while it is on and afterwards. Reads the run directory's files, and writes nothing."""
