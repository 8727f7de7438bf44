"""A simulated server without a real model, for tests and benchmarks."""
