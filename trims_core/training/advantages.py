"""What rollouts are worth beside each other, and how likely their tokens were when they were drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Final

import torch
from torch import Tensor

from trims_core.errors import InputError
from trims_core.schema import ROLLOUT_GRADES, ROLLOUTS, read_table

_STD_FLOOR: Final = 1e-4


@dataclass(frozen=True)
class Judged:
    """One rollout. Held in memory: four bytes per token of a round."""

    advantage: float
    is_flat: bool
    """Whether all answers to its prompt have the same reward."""
    logprob_C: Tensor
    """float32, nats, of each token when it was revealed; 0 where none was."""


def judged_rollouts(rollouts: Sequence[Path], grades: Sequence[Path], kind: str) -> dict[str, Judged]:
    """All rollouts of a round, by `<example>#<rollout>`.

    Args:
        rollouts, grades: tables in the same order. kind: centred or standardised.

    Raises:
        InputError: a rollout has no reward.
    """
    logprobs, rewards = {}, {}
    for rollouts_file, grades_file in zip(rollouts, grades, strict=True):
        for row in _rows(rollouts_file, ROLLOUTS, "logprob"):
            known = [0.0 if value is None else value for value in row["logprob"]]
            logprobs[row["id"], row["rollout"]] = torch.tensor(known, dtype=torch.float32)
        for row in _rows(grades_file, ROLLOUT_GRADES, "reward"):
            if row["reward"] is None:
                raise InputError(
                    f"{grades_file}: rollout {row['id']}#{row['rollout']} has no reward; expected one for"
                    " each. Correct the grader, then run again with --refresh grades"
                )
            rewards[row["id"], row["rollout"]] = row["reward"]
    groups: dict[str, list[float]] = {}
    for (example, _), reward in sorted(rewards.items()):
        groups.setdefault(example, []).append(reward)
    return {
        f"{example}#{number}": Judged(
            advantage(rewards[example, number], groups[example], kind), is_flat(groups[example]), logprob_C
        )
        for (example, number), logprob_C in logprobs.items()
    }


def advantage(reward: float, group: Sequence[float], kind: str) -> float:
    """Of an answer among the rewards of its prompt's answers; 0 where all are equal."""
    if is_flat(group):
        return 0.0
    centred = reward - fmean(group)
    return centred if kind == "centred" else centred / (stdev(group) + _STD_FLOOR)


def is_flat(group: Sequence[float]) -> bool:
    """Whether nothing distinguishes the answers."""
    return max(group) == min(group)


def _rows(path: Path, table: Any, column: str) -> Iterator[dict[str, Any]]:
    yield from read_table(path, table).select(["id", "rollout", column]).to_pylist()
