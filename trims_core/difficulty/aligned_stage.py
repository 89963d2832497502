"""The aligned stage: scores of the teacher's tokens become difficulties of the student's tokens.

One unit per shard of scores. Nothing here knows K: another number of buckets aligns nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, Literal

from trims_core._faults import fault_point
from trims_core.config import TrimsConfig
from trims_core.difficulty.reading import ReadSettings, finish, inputs, student_renderer, write_shard
from trims_core.errors import CorruptShardError, InputError, RejectBudgetError
from trims_core.fingerprint import Json
from trims_core.graph import Node
from trims_core.rejects import check_budget
from trims_core.schema import ALIGNED, CORPUS_TEXT
from trims_core.stage import Make, StageSpec, Unit, Work
from trims_core.store import Attempt, Made, UnitRecord
from trims_core.store.rows import rows_digest

VERSION: Final = 2
TABLE_FILE: Final = "aligned.parquet"


class AlignedSettings(ReadSettings):
    """What an alignment depends on, beside scores, corpus and the student's tokenizer."""

    metric: Literal["nll", "entropy"]


def settings(config: TrimsConfig, _node: Node | None = None) -> AlignedSettings:
    """From the sections buckets and student."""
    buckets, student = config.buckets, config.student
    return AlignedSettings(
        metric=buckets.metric,
        supervised_end=buckets.supervised_end,
        family=student.family,
        student=student,
        max_rejected_fraction=config.max_rejected_by_student,
    )


def units(work: Work, _facts: None) -> list[Unit]:
    """One per scores shard, with the corpus shard it was made from; rows inside are joined by id."""
    scores, corpus = work.parents["scores"], work.parents["corpus"]
    if len(scores.units) != len(corpus.units):
        raise CorruptShardError(
            f"{scores.path} has {len(scores.units)} shards, {corpus.path} has {len(corpus.units)}; expected"
            " one scores shard per corpus shard. Score again with --refresh scores"
        )
    if not scores.rows(suffix="/scores.parquet"):
        raise InputError(f"{scores.path}: no scored example; expected at least one. See its rejects")
    pairs = zip(
        scores.units,
        scores.files(suffix="/scores.parquet"),
        corpus.files("corpus-", ".parquet"),
        strict=True,
    )
    return [
        Unit(
            scored.name.replace("scores", "aligned"),
            work.settings.result_fields(),
            {
                **work.inputs,
                "scores": scored.content_digest,
                "corpus": rows_digest(corpus_file, CORPUS_TEXT),
            },
            (scores_file, corpus_file),
        )
        for scored, scores_file, corpus_file in pairs
    ]


@contextmanager
def maker(work: Work, _facts: None, waiting: Sequence[Unit], done: Sequence[UnitRecord]) -> Iterator[Make]:
    """Loads the student's tokenizer and aligns shards.

    Raises:
        ConfigError: the scores lack the metric, or the student cannot stop at the end it would be taught.
        AlignmentError, NonFiniteScoreError, CorruptShardError: see `aligned.align_shard`.
    """
    from trims_core.difficulty.aligned import align_shard

    chosen: AlignedSettings = work.settings
    n_done, n_all = len(done), len(done) + len(waiting)
    work.progress(n_done, n_all, "loading the student's tokenizer")
    renderer = student_renderer(chosen)

    def make(unit: Unit, attempt: Attempt) -> Made:
        nonlocal n_done
        fault_point("aligned.before_shard")
        scores_file, corpus_file = unit.source

        def tick(n_rows: int) -> None:
            work.progress(n_done, n_all, f"aligning {unit.name}: {n_rows} rows")

        found = align_shard(scores_file, corpus_file, chosen.metric, renderer, tick)
        made = write_shard(attempt, unit, TABLE_FILE, ALIGNED, found)
        fault_point("aligned.before_record")
        n_done += 1
        work.progress(n_done, n_all, f"aligned {unit.name}")
        return made

    yield make


def gate(chosen: AlignedSettings, counts: Mapping[str, int], info: Mapping[str, Json]) -> None:
    """Raises RejectBudgetError if the student cannot read more of the scored rows than the settings allow."""
    check_budget(
        "aligned",
        chosen.max_rejected_fraction,
        counts["n_in"],
        info["rejected"],
        RejectBudgetError,
        "rows the student can read",
        f"{'scores' if chosen.student.max_rejected_fraction is None else 'student'}.max_rejected_fraction",
    )


SPEC: Final = StageSpec(
    "aligned",
    VERSION,
    settings=settings,
    inputs=inputs,
    units=units,
    maker=maker,
    finish=finish,
    gate=gate,
)
