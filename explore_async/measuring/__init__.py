"""How fast endpoints answer this product's own prompts: a sweep of concurrency, measured on the client's side."""
