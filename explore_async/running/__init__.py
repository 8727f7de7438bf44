"""One run in progress: it drives exploration against serving and remembers in storage."""
