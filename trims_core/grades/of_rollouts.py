"""Verdicts and rewards of rollouts, by a benchmark's grader or a function of the user's.

A grade belongs to an answer by prompt, number and digest of the answer's tokens. Right answers are those of
the corpus' own completions; a completion in which the grader finds none gives the verdict `error`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final, TypeAlias

from trims_core._faults import fault_point
from trims_core.benchmarks import Benchmark, OwnGrader, find_grader, grader_version
from trims_core.config import TrimsConfig
from trims_core.errors import SweepError
from trims_core.fingerprint import Digests
from trims_core.grades.grading import UNGRADED, VERDICTS, Grade, judge_completion, judge_own, tell_failures
from trims_core.graph import Node, round_variant
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


class RolloutGradesSettings(Section):
    """All that grading rollouts reads."""

    grader: str
    right_from: float
    """At its default with a benchmark's grader, whose answers are right or wrong."""


def settings(config: TrimsConfig, node: Node) -> RolloutGradesSettings:
    """From the section rollouts, or of a round's variant."""
    if "round" in node.params:
        return RolloutGradesSettings(grader=round_variant(config, node).grader, right_from=1.0)
    chosen = config.given_rollouts
    right_from = chosen.right_from if chosen.is_own_grader else 1.0
    return RolloutGradesSettings(grader=chosen.grader, right_from=right_from)


def inputs(chosen: RolloutGradesSettings, digests: Digests) -> dict[str, str]:
    """What the grader's verdicts depend on."""
    return {"grader": grader_version(chosen.grader, _SETTING, digests)}


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


@contextmanager
def maker(work: Work, waiting: Sequence[Unit], done: Sequence[UnitRecord]) -> Iterator[Make]:
    """Grades chunks; an answer that the grader stumbles over is written all the same.

    Raises:
        ConfigError: the grader is not there.
    """
    chosen: RolloutGradesSettings = work.settings
    grader = find_grader(chosen.grader, _SETTING)
    examples_of = lru_cache(maxsize=1)(_examples)
    n_done, n_all = len(done), len(done) + len(waiting)

    def make(unit: Unit, attempt: Attempt) -> Made:
        nonlocal n_done
        rollouts_file, corpus_file = unit.source
        rows = read_table(rollouts_file, ROLLOUTS).select(["id", "rollout", "text", "token_ids"]).to_pydict()
        examples = examples_of(corpus_file)
        grades = [
            _judge(grader, chosen.right_from, text, examples[name])
            for name, text in zip(rows["id"], rows["text"], strict=True)
        ]
        columns = {
            "id": rows["id"],
            "rollout": rows["rollout"],
            "response_digest": [ids_digest(ids) for ids in rows["token_ids"]],
            "grader": [chosen.grader] * len(grades),
            **{
                name: [getattr(grade, name) for grade in grades]
                for name in ("verdict", "reward", "extracted", "gold")
            },
        }
        about = {**unit.settings, **unit.inputs}
        n_rows = write_table(attempt.path / TABLE_FILE, ROLLOUT_GRADES, columns, about)
        tell_failures(f"{work.node_id}, {unit.name}", chosen.grader, rows["id"], grades)
        fault_point("grades.before_rollout_record")
        n_done += 1
        work.progress(n_done, n_all, f"graded {unit.name}")
        verdicts = Counter(grade.verdict for grade in grades)
        rewards = [grade.reward for grade in grades if grade.reward is not None]
        problem = next((grade.problem for grade in grades if grade.problem), None)
        notes: dict[str, Any] = {verdict: verdicts[verdict] for verdict in VERDICTS}
        return Made({TABLE_FILE: n_rows}, {**notes, "rewards": sum(rewards), "problem": problem})

    yield make


def _examples(corpus_file: Path) -> dict[str, Example]:
    rows = read_table(corpus_file, CORPUS).select(list(CORPUS_TEXT)).to_pydict()
    return dict(zip(rows["id"], zip(rows["messages"], rows["completion"], strict=True), strict=True))


def _judge(grader: Benchmark | OwnGrader, right_from: float, text: str, example: Example) -> Grade:
    messages, completion = example
    if isinstance(grader, Benchmark):
        return judge_completion(grader, text, completion)
    return judge_own(grader, messages, text, completion, right_from)


def finish(work: Work, done: Mapping[str, UnitRecord]) -> Outcome:
    """Counts and card.

    Raises:
        SweepError: the grader failed on every answer.
    """
    notes: list[Mapping[str, Any]] = [record.notes for record in done.values()]
    verdicts = {verdict: sum(note[verdict] for note in notes) for verdict in VERDICTS}
    n, n_ungraded = sum(verdicts.values()), sum(verdicts[verdict] for verdict in UNGRADED)
    if n == n_ungraded:
        problem = next(note["problem"] for note in notes if note["problem"])
        raise SweepError(
            f"{work.node_id}: the grader {work.settings.grader} failed on all {n} answers; the first:"
            f" {problem}. Correct it, or set another rollouts.grader; nothing is decoded again"
        )
    counts = {"n_rollouts": n, "n_right": verdicts["right"], "n_ungraded": n_ungraded}
    mean_reward = sum(note["rewards"] for note in notes) / (n - n_ungraded)
    info = {"grader": work.settings.grader, "verdicts": verdicts, "mean_reward": mean_reward}
    card = (
        f"Graded by `{work.settings.grader}`: {verdicts['right']} of {n} answers are right"
        f" ({100 * verdicts['right'] / n:.1f} %), mean reward {mean_reward:.3g}; {n_ungraded} could not be"
        " graded (the grader raised or timed out) and count as not right."
    )
    return Outcome(counts, info, card, work.parents["rollouts"].manifest.seed)
