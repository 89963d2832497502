"""Rewards: what a student's answer to a prompt of the corpus earns, for methods that learn from it.

tasks      the known tasks' rewards as they should be
published  the same as the published program gives them, for comparison
registry   all of them by name
"""

from trims_core.benchmarks.rewards.registry import (
    REWARDS,
    Reward,
    check_name,
    find_reward,
    finite,
    reward_version,
    right_by,
)

__all__ = ["REWARDS", "Reward", "check_name", "find_reward", "finite", "reward_version", "right_by"]
