"""Settings of rewards: what an answer earns, as a sum of named rewards with weights."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import AfterValidator, Field

from trims_core.errors import ConfigError


def _checked(weights: dict[str, float]) -> dict[str, float]:
    """The same. Raises: ValueError: a name that is no reward's, or rewards that teach nothing."""
    from trims_core.benchmarks.rewards import REWARDS, check_name, right_by

    problems = []
    for name in weights:
        try:
            check_name(name, "rewards")
        except ConfigError as error:
            problems.append(str(error))
    if not problems and not any(weights.values()):
        problems.append("rewards: all weights are 0; expected one that is not")
    if not problems and right_by(weights) is None:
        able = ", ".join(name for name, reward in REWARDS.items() if reward.right_from is not None)
        problems.append(
            f"rewards: {', '.join(weights)} pay for form alone, so nobody says which answers are right; add"
            f" one of {able}, or your own package.module:function (with weight 0 to watch it only)"
        )
    if problems:
        raise ValueError("; ".join(problems))
    return weights


RewardsConfig: TypeAlias = Annotated[dict[str, float], Field(min_length=1), AfterValidator(_checked)]
"""Reward → weight, such as `{gsm8k: 2.0, gsm8k_format: 1.0, my_module:brevity: 0.1}`; an answer earns
Σ weight · value. Names are those of docs/rl.md or your own `package.module:function`."""
