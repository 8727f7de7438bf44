"""Coverage of a dataset: pairs of verb and noun, overlap of its texts, estimates beyond the sample, and the cost."""
