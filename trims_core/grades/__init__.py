"""The grades stage: which answers of a sweep are right.

grading  the verdict on one answer; a grader that raises costs no sample
cells    a cell's accuracy beside the sweep's numbers
stage    SPEC: one unit per unit of the sweep, cells.json
"""
