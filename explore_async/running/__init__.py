"""One run in progress: it drives exploration with completions from serving, and keeps them in storage."""
