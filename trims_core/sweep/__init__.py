"""The sweep stage: accuracy against tokens per forward, cell by cell.

cells    the grid of tasks and thresholds, and what a finished cell says about itself
runner   decoding and grading one cell
stage    SPEC: the key, resuming per cell, cells.json
"""
