"""Where completions come from: one attempt over HTTP (client), many endpoints as one (pool), and servers to ask:
simulated ones here, real ones beside them. Knows nothing of tasks or examples.
"""
