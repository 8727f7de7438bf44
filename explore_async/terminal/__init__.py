"""Output to a terminal: safe texts, consoles, progress."""
