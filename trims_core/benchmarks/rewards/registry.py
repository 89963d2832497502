"""Rewards by name: of the known tasks, of the published program (`…_compat`), and the user's own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from trims_core import user_code
from trims_core.benchmarks.graders.of_corpus import own_function
from trims_core.benchmarks.rewards import published, tasks
from trims_core.benchmarks.sudoku_grids import floors_text
from trims_core.errors import ConfigError, nearest_name
from trims_core.fingerprint import Digests

RewardFunction: TypeAlias = Callable[[Sequence[Mapping[str, str]], str, str], Any]
"""(messages, completion, answer): the conversation, the student's text, the corpus' own completion. It gives
a number or a truth value, or None where it has nothing to say of this text."""


@dataclass(frozen=True)
class Reward:
    """What one function pays for a text."""

    name: str
    function: RewardFunction
    version: int = 1
    """Of one that is known by name: raised whenever it may pay otherwise."""
    right_from: float | None = None
    """Its value from which on an answer is right; None where it pays form alone."""
    floors: str | None = None
    """What its mean is without any thought, for cards."""

    def value(self, messages: Sequence[Mapping[str, str]], completion: str, answer: str) -> float | None:
        """What a text earns; None where the function says nothing. Raises: whatever the function raises;
        TypeError: it gave something else."""
        given = self.function(messages, completion, answer)
        return None if given is None else finite(given)


def finite(given: Any) -> float:
    """A reward as a number; true is 1. Raises: TypeError: it is none."""
    if isinstance(given, str) or not math.isfinite(given):
        raise TypeError(f"gave {given!r}; expected true, false or a finite number")
    return float(given)


_FLOORS: Final = floors_text()
_ALL: Final = (
    Reward("demo", tasks.demo, right_from=1.0),
    Reward("gsm8k", tasks.gsm8k, right_from=1.0),
    Reward("gsm8k_format", tasks.tags),
    Reward("math", tasks.math, right_from=1.0),
    Reward("math_format", tasks.math_format),
    Reward("countdown", tasks.countdown, right_from=1.0),
    Reward("countdown_format", tasks.countdown_format),
    Reward("sudoku", tasks.sudoku, right_from=1.0),
    Reward("sudoku_cells", tasks.sudoku_cells, right_from=1.0, floors=_FLOORS),
    Reward("gsm8k_compat", published.gsm8k_correct, right_from=2.0),
    Reward("gsm8k_integer_compat", published.gsm8k_integer),
    Reward("gsm8k_strict_format_compat", published.gsm8k_strict_format),
    Reward("gsm8k_soft_format_compat", published.gsm8k_soft_format),
    Reward("gsm8k_xml_count_compat", published.gsm8k_xml_count),
    Reward("math_compat", published.math_correct, right_from=2.0),
    Reward("math_format_compat", published.math_format),
    Reward("countdown_compat", published.countdown, right_from=1.0),
    Reward("sudoku_compat", published.sudoku, right_from=1.0, floors=_FLOORS),
)
REWARDS: Final[dict[str, Reward]] = {reward.name: reward for reward in _ALL}


def check_name(name: str, setting: str) -> None:
    """Raises ConfigError where a name is no reward's and no `package.module:function`; loads nothing."""
    if ":" in name:
        user_code.split_path(name, setting)
    elif name not in REWARDS:
        raise ConfigError(
            f"{setting}: reward {name!r} is not known; {nearest_name(name, REWARDS)}, or your own"
            " package.module:function"
        )


def find_reward(name: str, setting: str) -> Reward:
    """The reward of this name, or at this `package.module:function`. Raises: ConfigError: there is none."""
    check_name(name, setting)
    if ":" in name:
        return Reward(name, own_function(name, setting), right_from=1.0)
    return REWARDS[name]


def reward_version(name: str, setting: str, digests: Digests) -> str:
    """What a reward's values depend on: name and version, or the digest of the user's code."""
    if ":" in name:
        return f"{name} {user_code.source_digest(name, setting, digests)}"
    return f"{name} {REWARDS[name].version}"


def right_by(names: Iterable[str]) -> str | None:
    """The one of several rewards that says which answers are right: the first known one that pays for right
    answers, else the first of the user's own; None where all pay form alone."""
    named = list(names)
    known = (name for name in named if name in REWARDS and REWARDS[name].right_from is not None)
    own = (name for name in named if ":" in name)
    return next(known, None) or next(own, None)
