"""What a data set covers: pairs of verb and noun, overlap of its texts, estimates beyond the sample, and their cost."""
