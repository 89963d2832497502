"""Who judges answers to the corpus' own prompts: a benchmark's grader, or a function of the user's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from trims_core import user_code
from trims_core.benchmarks.benchmark import Benchmark
from trims_core.benchmarks.registry import BENCHMARKS, get_benchmark
from trims_core.errors import ConfigError
from trims_core.fingerprint import Digests

OwnGrader: TypeAlias = Callable[[Sequence[Mapping[str, str]], str, str], bool | float]
"""(messages, completion, answer): the conversation, the student's text, the corpus' own completion. It gives
whether the text is right, or a reward."""


def find_grader(text: str, setting: str) -> Benchmark | OwnGrader:
    """The grader of this name, or at this `package.module:function`.

    Raises:
        ConfigError: there is none, it is no function, or it takes more than a completion to know the answer.
    """
    if ":" in text:
        return own_function(text, setting)
    try:
        benchmark = get_benchmark(text)
    except ConfigError as error:
        raise ConfigError(f"{setting}: {error}, or your own package.module:function") from None
    if not benchmark.finds_gold:
        able = ", ".join(name for name, one in BENCHMARKS.items() if one.finds_gold)
        raise ConfigError(
            f"{setting}: {text} cannot take a right answer from a completion: its problems bring more than"
            f" one. Expected one of {able}, or your own package.module:function"
        )
    return benchmark


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
    benchmark = get_benchmark(text)
    return f"{benchmark.grader} {benchmark.grader_version}"
