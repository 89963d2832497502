"""The analysis stage: why models decode as they do, at one point of their sweeps.

settings    what the stage reads, and the point it looks at
answers     order, agreement and departure of each answer, from the samples alone
states      canvases at some moments of a trajectory, and how the student would fill them
texts       the student's tokens as text, with the bytes of each
questions   the texts of some trajectories as the teacher is asked about them, and what it said
difficulty  the teacher's NLL of an answer's tokens
cells       samples and verdicts of the analysed cells
card        the means, for people
stage       SPEC: per task and model three units (answers, proposals, teacher), analysis.json
"""
