"""A server without a model, for tests and benchmarks."""
