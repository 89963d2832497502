"""The sweep stage: what a model answers at every decoding point, and how fast.

settings what a model's sweep reads, and of that what one cell reads
cells    the grid of tasks, caches and thresholds, and what a finished cell says about itself
rules    the decoder's settings for a cell
stage    SPEC: one unit per cell and chunk of problems, cells.json
"""
