"""The bench: the speed of endpoints on the prompts of a run, measured on the client's side at rising concurrency."""
