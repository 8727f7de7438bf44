"""Coverage of a data set: pairs of verb and noun, overlap of its texts, estimates beyond the sample, and the cost."""
