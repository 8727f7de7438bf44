"""The source of completions: requests to endpoints over HTTP, model servers that we start, and a simulated server. It
knows nothing of tasks or examples.
"""
