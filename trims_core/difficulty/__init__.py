"""Teacher scores become difficulties of the student's tokens, and those become K equal-mass buckets."""
