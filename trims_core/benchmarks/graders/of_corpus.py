"""Who judges answers to the corpus' own prompts: a named grader, or a function of the user's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from trims_core import user_code
from trims_core.benchmarks.graders.grader import Grader
from trims_core.benchmarks.graders.registry import GRADERS
from trims_core.benchmarks.registry import BENCHMARKS
from trims_core.errors import ConfigError, nearest_name
from trims_core.fingerprint import Digests

OwnGrader: TypeAlias = Callable[[Sequence[Mapping[str, str]], str, str], bool | float]
"""(messages, completion, answer): the conversation, the student's text, the corpus' own completion. It gives
whether the text is right, or a reward."""


def find_grader(text: str, setting: str) -> Grader | OwnGrader:
    """The grader of this name, the main one of the benchmark of this name, or the function at this
    `package.module:function`.

    Raises:
        ConfigError: there is none, it is no function, or it takes more than a completion to know the answer.
    """
    if ":" in text:
        return own_function(text, setting)
    grader = _named(text, setting)
    if not grader.finds_gold:
        raise ConfigError(
            f"{setting}: {text} cannot take a right answer from a completion: its problems bring more than"
            f" one. Expected one of {', '.join(_able())}, or your own package.module:function"
        )
    return grader


def own_function(text: str, setting: str) -> OwnGrader:
    """The function at this `package.module:function`. Raises: ConfigError: there is none."""
    found: OwnGrader = user_code.load(text, setting)
    if not callable(found):
        raise ConfigError(f"{setting}: {text} is no function; expected one of (messages, completion, answer)")
    return found


def grader_version(text: str, setting: str, digests: Digests) -> str:
    """What a grader's verdicts depend on: name and version, or the digest of the user's code."""
    if ":" in text:
        return f"{text} {user_code.source_digest(text, setting, digests)}"
    return _named(text, setting).key


def _named(text: str, setting: str) -> Grader:
    if text in BENCHMARKS and BENCHMARKS[text].graders:
        text = BENCHMARKS[text].graders[0]
    if text not in GRADERS:
        nearest = nearest_name(text, (*BENCHMARKS, *GRADERS))
        raise ConfigError(
            f"{setting}: grader {text!r} is not known; {nearest}, or your own package.module:function"
        )
    return GRADERS[text]


def _able() -> list[str]:
    """Benchmarks and graders that find a right answer in a completion."""
    able = [name for name, grader in GRADERS.items() if grader.finds_gold]
    return [name for name, one in BENCHMARKS.items() if one.graders[:1] and one.graders[0] in able] + able
