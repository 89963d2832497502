"""Graders by name."""

from __future__ import annotations

from typing import Final

from trims_core.benchmarks.graders.code import HumanEval, HumanEvalRaw, Mbpp, MbppRaw
from trims_core.benchmarks.graders.grader import Grader
from trims_core.benchmarks.graders.numbers import Gsm8kNumber, LastAnswerSentence
from trims_core.errors import ConfigError, nearest_name

_CODE: Final = (HumanEval(), HumanEvalRaw(), Mbpp(), MbppRaw())
_ALL: Final[tuple[Grader, ...]] = (LastAnswerSentence(), Gsm8kNumber(), *_CODE)
GRADERS: Final[dict[str, Grader]] = {grader.name: grader for grader in _ALL}


def get_grader(name: str) -> Grader:
    """The grader of this name. Raises: ConfigError naming the known ones."""
    if name not in GRADERS:
        raise ConfigError(f"grader {name!r} is not known; {nearest_name(name, GRADERS)}")
    return GRADERS[name]
