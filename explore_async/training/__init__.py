"""Fine-tunes a model on examples, and measures how likely a model finds them. Only `tune` and `models` import torch."""
