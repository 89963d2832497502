"""The analysis stage: why models decode as they do, at one point of their sweeps.

settings      what the stage reads, and the point it looks at
cells         samples and verdicts of the analysed cells
answers       order, agreement and departure of each answer, from the samples alone
proposals     how a student would fill the canvases of some trajectories
texts         a student's tokens as text, with the bytes of each
questions     texts as the teacher is asked about them, and what it said
trajectories  what is asked of each state, and the tables of what was said
difficulty    the teacher's NLL of an answer's tokens
making        students and teacher at work, one after the other
card          the means, for people
stage         SPEC: three units per task and model
"""
