"""Evaluation of models: their answers to the same questions, compared by judges."""
