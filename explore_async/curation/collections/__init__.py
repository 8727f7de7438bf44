"""Tasks and examples, wherever they are stored."""
