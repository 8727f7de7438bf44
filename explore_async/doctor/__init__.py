"""`explore-async doctor`: whether a run directory is whole, and what of it can be mended."""
