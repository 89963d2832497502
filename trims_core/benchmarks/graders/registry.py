"""Graders by name."""

from __future__ import annotations

from typing import Final

from trims_core.benchmarks.graders import d1, numbers, puzzles
from trims_core.benchmarks.graders.grader import Grader
from trims_core.benchmarks.graders.symbolic import LastBoxText, MathVerify, MathVerifyBox
from trims_core.errors import ConfigError, nearest_name

_ALL: Final[tuple[Grader, ...]] = (
    numbers.LastAnswerSentence(),
    numbers.Gsm8kNumber(),
    numbers.StrictNumber(),
    numbers.StrictNumberNoCommas(),
    numbers.FlexibleNumber(),
    numbers.FlexibleNumberNoCommas(),
    numbers.FlexibleText(),
    numbers.FirstBox(),
    numbers.FirstBoxNoCommas(),
    numbers.LastBox(),
    numbers.LastBoxNoCommas(),
    LastBoxText(),
    MathVerify(),
    MathVerifyBox(),
    puzzles.Countdown(),
    puzzles.CountdownSteps(),
    puzzles.Sudoku(),
    puzzles.SudokuCells(),
    d1.D1Gsm8k(),
    d1.D1Math(),
    d1.D1Countdown(),
    d1.D1Sudoku(),
)
GRADERS: Final[dict[str, Grader]] = {grader.name: grader for grader in _ALL}


def get_grader(name: str) -> Grader:
    """The grader of this name. Raises: ConfigError naming the known ones."""
    if name not in GRADERS:
        raise ConfigError(f"grader {name!r} is not known; {nearest_name(name, GRADERS)}")
    return GRADERS[name]
