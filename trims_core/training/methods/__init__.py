"""Training methods, one per file: the equation from top to bottom."""
