"""Graders: how an answer is found in a text and when it is right, each with a name and a version.

grader       the base: verdicts and grades
numbers      answers that are one number
symbolic     answers that are mathematics: by their text, by math_verify
puzzles      Countdown and Sudoku, by the puzzle's rules
d1           the published rules of d1, faults included
worker_pool  processes under limits; math_worker is what runs in them
of_corpus    who judges answers to the corpus' own prompts
registry     all of them by name
"""

from trims_core.benchmarks.graders.grader import UNGRADED, VERDICTS, Grade, Grader, Verdict
from trims_core.benchmarks.graders.registry import GRADERS, get_grader

__all__ = ["GRADERS", "UNGRADED", "VERDICTS", "Grade", "Grader", "Verdict", "get_grader"]
