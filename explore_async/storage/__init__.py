"""The run directory: the stored outcomes, which are the only truth, and the files derived from them."""
