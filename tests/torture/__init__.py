"""Runs under torture: kills, signals, clocks, servers, names, power. `python -m torture` is the long form, a report."""
