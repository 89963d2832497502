"""The sweep stage: accuracy against tokens per forward, cell by cell.

cells    the grid of tasks, caches and thresholds, and what a finished cell says about itself
rules    the decoder's settings for a cell
runner   decoding and grading one cell
stage    SPEC: the key, resuming per cell, cells.json
"""
