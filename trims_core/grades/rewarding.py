"""What rollouts earn: a sum of named rewards with weights, each part kept.

Unlike a grader, whose failures are counted, a reward that fails stops the grading and names the rollout: an
answer that is trained on with a reward that nobody gave would teach something else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from trims_core.benchmarks.rewards import REWARDS, Reward, find_reward, right_by
from trims_core.errors import RewardError, TrimsError
from trims_core.grades.grading import RolloutGrade
from trims_core.schema import ROLLOUT_REWARDS, write_table
from trims_core.sections import Section

TABLE_FILE: Final = "rewards.parquet"
SETTING: Final = "rewards"
_LARGEST: Final = 3.4e38
"""That a reward's column holds."""
_SHOWN: Final = 60

Judged: TypeAlias = tuple[Sequence[Mapping[str, str]], str, str]
"""Messages, the student's text, the corpus' completion."""


class RewardGradesSettings(Section):
    """All that grading rollouts by rewards reads."""

    weights: dict[str, float]
    right_by: str
    """The reward that says which answers are right: the first that can, in the order in which they were
    given, which the weights no longer show."""


def reward_settings(weights: Mapping[str, float]) -> RewardGradesSettings:
    """Of checked weights (`reward_weights.RewardsConfig`)."""
    decisive = right_by(weights)
    assert decisive is not None
    return RewardGradesSettings(weights=dict(sorted(weights.items())), right_by=decisive)


@dataclass(frozen=True)
class Rewarding:
    """Rewards with their weights, loaded."""

    rewards: tuple[Reward, ...]
    weights: tuple[float, ...]
    right_by: str

    @classmethod
    def of(cls, chosen: RewardGradesSettings) -> Rewarding:
        """Raises: ConfigError: a reward is not there."""
        rewards = tuple(find_reward(name, SETTING) for name in chosen.weights)
        return cls(rewards, tuple(chosen.weights.values()), chosen.right_by)

    @property
    def text(self) -> str:
        """`2·gsm8k + 1·gsm8k_format`."""
        return " + ".join(
            f"{weight:g}·{reward.name}" for reward, weight in zip(self.rewards, self.weights, strict=True)
        )

    def grade(
        self, where: str, rollout: str, messages: Sequence[Mapping[str, str]], text: str, answer: str
    ) -> RolloutGrade:
        """What a text earns and whether it is right.

        Args:
            where, rollout: for errors: node and unit; `r1#0`.

        Raises:
            RewardError: a reward raised or gave no finite number, or all of them say nothing.
        """
        parts = tuple(_told(where, rollout, reward, (messages, text, answer)) for reward in self.rewards)
        paid = [weight * part for weight, part in zip(self.weights, parts, strict=True) if part is not None]
        total = sum(paid)
        if not paid or not abs(total) < _LARGEST:
            what = f"is {total:g}" if paid else "is missing: every reward gave None"
            raise RewardError(
                f"{where}: the reward {self.text} of rollout {rollout} {what}; expected a finite number."
                " Correct the rewards or their weights; nothing is decoded again"
            )
        decisive = next(place for place, one in enumerate(self.rewards) if one.name == self.right_by)
        value, enough = parts[decisive], self.rewards[decisive].right_from
        right = value is not None and enough is not None and value >= enough
        return RolloutGrade("right" if right else "wrong", None, reward=total, parts=parts)

    def write(
        self,
        folder: Path,
        ids: Sequence[str],
        rollouts: Sequence[int],
        grades: Sequence[RolloutGrade],
        about: Any,
    ) -> int:
        """The table of the parts, and the number of its rows."""
        n = len(self.rewards)
        columns = {
            "id": [name for name in ids for _ in range(n)],
            "rollout": [number for number in rollouts for _ in range(n)],
            "name": [reward.name for _ in ids for reward in self.rewards],
            "weight": [weight for _ in ids for weight in self.weights],
            "value": [part for grade in grades for part in grade.parts],
        }
        return write_table(folder / TABLE_FILE, ROLLOUT_REWARDS, columns, about)

    def notes(self, grades: Sequence[RolloutGrade]) -> dict[str, dict[str, float]]:
        """Reward → sum of what it gave, and to how many answers."""
        given = zip(*(grade.parts for grade in grades), strict=True)
        columns = ([part for part in column if part is not None] for column in given)
        return {
            reward.name: {"sum": math.fsum(column), "n": len(column)}
            for reward, column in zip(self.rewards, columns, strict=True)
        }


def _told(where: str, rollout: str, reward: Reward, about: Judged) -> float | None:
    """What a reward says of a text. Raises: RewardError: it fails."""
    try:
        return reward.value(*about)
    except TrimsError:  # an interruption among them, which must stop the run
        raise
    except Exception as error:
        raise RewardError(
            f"{where}: the reward {reward.name} failed on rollout {rollout}"
            f" ({type(error).__name__}: {error}); its text begins {about[1][:_SHOWN]!r}. Correct the reward,"
            f" or the example {rollout.rpartition('#')[0]!r} of the corpus; nothing is decoded again"
        ) from error


def mean_parts(notes: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Reward → the mean of what it gave, from the notes of all units; None where it never said anything."""
    found: dict[str, float | None] = {}
    for name in notes[0]["parts"]:
        n = sum(note["parts"][name]["n"] for note in notes)
        found[name] = sum(note["parts"][name]["sum"] for note in notes) / n if n else None
    return found


def parts_table(chosen: RewardGradesSettings, means: Mapping[str, float | None]) -> str:
    """The rewards as a Markdown table, for the artifact's card, and the floors of those that have some."""
    lines = ["| reward | weight | mean |", "|---|---|---|"]
    for name, mean in means.items():
        lines.append(
            f"| {name} | {chosen.weights[name]:g} | {'–' if mean is None else format(mean, '.4g')} |"
        )
    floors = [(name, REWARDS[name].floors) for name in means if name in REWARDS and REWARDS[name].floors]
    lines += [f"\n`{name}`, {text}." for name, text in floors]
    return "\n".join(lines)
