"""Verdicts and rewards of rollouts: by a grader (a named one, the user's), or by weighted rewards.

A grade belongs to an answer by prompt, number and digest of the answer's tokens. Right answers are those of
the corpus' own completions; a completion in which the grader finds none gives the verdict `error`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final, TypeAlias

from trims_core._faults import fault_point
from trims_core.benchmarks import Grader, OwnGrader, find_grader, grader_version
from trims_core.benchmarks.graders import UNGRADED, VERDICTS
from trims_core.benchmarks.rewards import reward_version
from trims_core.decoding_sections import RolloutsConfig
from trims_core.errors import SweepError
from trims_core.fingerprint import Digests
from trims_core.grades import rewarding
from trims_core.grades.grading import (
    RolloutGrade,
    judge_completions,
    judge_own,
    tell_failures,
)
from trims_core.grades.rewarding import (
    RewardGradesSettings,
    Rewarding,
    mean_parts,
    parts_table,
    reward_settings,
)
from trims_core.reward_weights import RewardsConfig
from trims_core.schema import CORPUS, CORPUS_TEXT, ROLLOUT_GRADES, ROLLOUTS, read_table, write_table
from trims_core.sections import Section
from trims_core.stage import Make, Outcome, Unit, Work
from trims_core.store import Attempt, Made, UnitRecord
from trims_core.store.rows import rows_digest
from trims_core.token_digests import ids_digest

TABLE_FILE: Final = "grades.parquet"
_SETTING: Final = "rollouts.grader"

Example: TypeAlias = tuple[list[dict[str, str]], str]
"""Messages and completion."""
Asked: TypeAlias = tuple[str, list[dict[str, str]], str, str]
"""The rollout's name, messages, its text, and the corpus' completion."""


class RolloutGradesSettings(Section):
    """All that grading rollouts by a grader reads."""

    grader: str
    right_from: float
    """At its default with a named grader, whose answers are right or wrong."""


Settings: TypeAlias = RolloutGradesSettings | RewardGradesSettings


def settings(judged_by: RolloutsConfig | RewardsConfig) -> Settings:
    """Of the section rollouts, or of rewards alone."""
    if not isinstance(judged_by, RolloutsConfig):
        return reward_settings(judged_by)
    if judged_by.rewards is not None:
        return reward_settings(judged_by.rewards)
    assert judged_by.grader is not None
    right_from = judged_by.right_from if judged_by.is_own_grader else 1.0
    return RolloutGradesSettings(grader=judged_by.grader, right_from=right_from)


def inputs(chosen: Settings, digests: Digests) -> dict[str, str]:
    """What the verdicts and rewards depend on."""
    if isinstance(chosen, RolloutGradesSettings):
        return {"grader": grader_version(chosen.grader, _SETTING, digests)}
    return {f"reward.{name}": reward_version(name, rewarding.SETTING, digests) for name in chosen.weights}


def units(work: Work) -> list[Unit]:
    """One per unit of the rollouts, under its name, with the corpus shard that its prompts come from."""
    rollouts, corpus = work.parents["rollouts"], work.parents["corpus"]
    digest_of = cache(lambda file: rows_digest(file, CORPUS_TEXT))
    found = []
    for unit in rollouts.units:
        shard = unit.name.partition("/")[2].rpartition("-")[0].replace("tokens", "corpus")
        corpus_file = corpus.file(f"{shard}/corpus.parquet")
        made_of = {**work.inputs, "rollouts": unit.content_digest, "corpus": digest_of(corpus_file)}
        source = (rollouts.file(f"{unit.name}/rollouts.parquet"), corpus_file)
        found.append(Unit(unit.name, work.settings.result_fields(), made_of, source))
    return found


@dataclass(frozen=True)
class _Grading:
    """A grader."""

    grader: Grader | OwnGrader
    text: str
    right_from: float

    def grades(self, asked: Sequence[Asked]) -> list[RolloutGrade]:
        if isinstance(self.grader, Grader):
            texts, answers = [text for _, _, text, _ in asked], [answer for *_, answer in asked]
            return judge_completions(self.grader, texts, answers)
        return [
            judge_own(self.grader, messages, text, answer, self.right_from)
            for _, messages, text, answer in asked
        ]


@contextmanager
def maker(work: Work, waiting: Sequence[Unit], done: Sequence[UnitRecord]) -> Iterator[Make]:
    """Grades chunks; an answer that a grader stumbles over is written all the same.

    Raises:
        ConfigError: the grader or a reward is not there.
        RewardError: a reward failed; names the rollout.
    """
    judge = _judge(work.settings)
    examples_of = lru_cache(maxsize=1)(_examples)
    n_done, n_all = len(done), len(done) + len(waiting)

    def make(unit: Unit, attempt: Attempt) -> Made:
        nonlocal n_done
        rollouts_file, corpus_file = unit.source
        rows = read_table(rollouts_file, ROLLOUTS).select(["id", "rollout", "text", "token_ids"]).to_pydict()
        examples, where = examples_of(corpus_file), f"{work.node_id}, {unit.name}"
        asked: list[Asked] = []
        for name, number, text in zip(rows["id"], rows["rollout"], rows["text"], strict=True):
            messages, completion = examples[name]
            asked.append((f"{name}#{number}", messages, text, completion))
        if isinstance(judge, Rewarding):
            grades = [judge.grade(where, *one) for one in asked]
        else:
            grades = judge.grades(asked)
        columns = {
            "id": rows["id"],
            "rollout": rows["rollout"],
            "response_digest": [ids_digest(ids) for ids in rows["token_ids"]],
            "grader": [judge.text] * len(grades),
            **{
                name: [getattr(grade, name) for grade in grades]
                for name in ("verdict", "reward", "extracted", "gold")
            },
        }
        about = {**unit.settings, **unit.inputs}
        files = {TABLE_FILE: write_table(attempt.path / TABLE_FILE, ROLLOUT_GRADES, columns, about)}
        if isinstance(judge, Rewarding):
            n_parts = judge.write(attempt.path, rows["id"], rows["rollout"], grades, about)
            files[rewarding.TABLE_FILE] = n_parts
        tell_failures(where, judge.text, rows["id"], grades)
        fault_point("grades.before_rollout_record")
        n_done += 1
        work.progress(n_done, n_all, f"graded {unit.name}")
        return Made(files, _notes(judge, grades))

    yield make


def _judge(chosen: Settings) -> _Grading | Rewarding:
    if isinstance(chosen, RewardGradesSettings):
        return Rewarding.of(chosen)
    return _Grading(find_grader(chosen.grader, _SETTING), chosen.grader, chosen.right_from)


def _notes(judge: _Grading | Rewarding, grades: Sequence[RolloutGrade]) -> dict[str, Any]:
    """What a unit notes, to be summed over all."""
    verdicts = Counter(grade.verdict for grade in grades)
    notes: dict[str, Any] = {verdict: verdicts[verdict] for verdict in VERDICTS}
    notes["rewards"] = sum(grade.reward for grade in grades if grade.reward is not None)
    notes["problem"] = next((grade.problem for grade in grades if grade.problem), None)
    return {**notes, "parts": judge.notes(grades)} if isinstance(judge, Rewarding) else notes


def _examples(corpus_file: Path) -> dict[str, Example]:
    rows = read_table(corpus_file, CORPUS).select(list(CORPUS_TEXT)).to_pydict()
    return dict(zip(rows["id"], zip(rows["messages"], rows["completion"], strict=True), strict=True))


def finish(work: Work, done: Mapping[str, UnitRecord]) -> Outcome:
    """Counts and card.

    Raises:
        SweepError: the grader failed on every answer.
    """
    chosen: Settings = work.settings
    notes: list[Mapping[str, Any]] = [record.notes for record in done.values()]
    verdicts = {verdict: sum(note[verdict] for note in notes) for verdict in VERDICTS}
    n, n_ungraded = sum(verdicts.values()), sum(verdicts[verdict] for verdict in UNGRADED)
    if isinstance(chosen, RolloutGradesSettings) and n == n_ungraded:
        problem = next(note["problem"] for note in notes if note["problem"])
        raise SweepError(
            f"{work.node_id}: the grader {chosen.grader} failed on all {n} answers; the first:"
            f" {problem}. Correct it, or set another rollouts.grader; nothing is decoded again"
        )
    counts = {"n_rollouts": n, "n_right": verdicts["right"], "n_ungraded": n_ungraded}
    mean_reward = sum(note["rewards"] for note in notes) / (n - n_ungraded)
    info: dict[str, Any] = {"verdicts": verdicts, "mean_reward": mean_reward}
    right = f"{verdicts['right']} of {n} answers are right ({100 * verdicts['right'] / n:.1f} %"
    if isinstance(chosen, RolloutGradesSettings):
        info = {"grader": chosen.grader, **info}
        card = (
            f"Graded by `{chosen.grader}`: {right}), mean reward {mean_reward:.3g}; {n_ungraded} could not be"
            " graded (the grader raised or timed out) and count as not right."
        )
    else:
        means = mean_parts(notes)
        info = {"weights": chosen.weights, "right_by": chosen.right_by, "mean_rewards": means, **info}
        card = f"{right}, by `{chosen.right_by}`), mean reward {mean_reward:.4g} in all.\n\n"
        card += parts_table(chosen, means)
    return Outcome(counts, info, card, work.parents["rollouts"].manifest.seed)
