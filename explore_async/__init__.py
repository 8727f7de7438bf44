"""explore_async: instruction data that covers a domain, explored by an LLM as a tree of tasks."""

__version__ = "0.1.0"
