"""Estimates the cost of a run by rehearsing it on a virtual clock."""
