"""The grades stage: which answers are right.

grading      the verdict on one answer; a grader that raises costs no sample
cells        a cell's accuracy beside the sweep's numbers
of_sweeps    grades of a model's sweep: one unit per unit of the sweep, cells.json
of_rollouts  verdicts and rewards of rollouts: one unit per unit of the rollouts
rewarding    several rewards with weights; one that fails stops, with the rollout's name
stage        SPEC: one of both, as the node says
"""
