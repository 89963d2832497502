"""The aligned stage: scores of the teacher's tokens become difficulties of the student's tokens.

One unit per shard of scores. Nothing here knows K: another number of buckets aligns nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, Literal

from trims_core._faults import fault_point
from trims_core.config import Section, StudentConfig, TrimsConfig
from trims_core.errors import CorruptShardError, InputError
from trims_core.fingerprint import Digests
from trims_core.graph import Node
from trims_core.schema import ALIGNED, CORPUS_TEXT, write_table
from trims_core.stage import Make, Outcome, StageSpec, Unit, Work
from trims_core.store import Attempt, Made, UnitRecord
from trims_core.store.rows import rows_digest

VERSION: Final = 1
TABLE_FILE: Final = "aligned.parquet"


class AlignedSettings(Section):
    """What an alignment depends on, beside scores, corpus and the student's tokenizer."""

    metric: Literal["nll", "entropy"]
    supervised_end: Literal["eot", "eos"]
    family: Literal["auto", "dream", "llada"]
    student: StudentConfig

    def result_fields(self) -> dict[str, object]:
        """Of the student only its family: its tokenizer is an input, its weights are not read."""
        return {"metric": self.metric, "supervised_end": self.supervised_end, "family": self.family}


def settings(config: TrimsConfig, _node: Node) -> AlignedSettings:
    """From the sections buckets and student."""
    buckets, student = config.buckets, config.student
    return AlignedSettings(
        metric=buckets.metric, supervised_end=buckets.supervised_end, family=student.family, student=student
    )


def inputs(chosen: AlignedSettings, digests: Digests) -> dict[str, str]:
    """The student's tokenizer and config.json."""
    return {"student_tokenizer": digests.tokenizer(chosen.student.model, chosen.student.revision)}


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
        ConfigError: the scores lack the metric.
        AlignmentError, NonFiniteScoreError, CorruptShardError: see `aligned.align_shard`.
    """
    from trims_core.difficulty.aligned import align_shard
    from trims_core.rendering import Renderer
    from trims_core.students import load_student_tokenizer

    chosen: AlignedSettings = work.settings
    n_done, n_all = len(done), len(done) + len(waiting)
    work.progress(n_done, n_all, "loading the student's tokenizer")
    student = chosen.student
    tokenizer, family = load_student_tokenizer(student.model, student.revision, chosen.family)
    # the teacher's score of its own end of turn goes to the token that ends the student's completions
    renderer = Renderer(tokenizer, family.eos_id if chosen.supervised_end == "eos" else None)

    def make(unit: Unit, attempt: Attempt) -> Made:
        nonlocal n_done
        fault_point("aligned.before_shard")
        scores_file, corpus_file = unit.source

        def tick(n_rows: int) -> None:
            work.progress(n_done, n_all, f"aligning {unit.name}: {n_rows} rows")

        table = align_shard(scores_file, corpus_file, chosen.metric, renderer, tick)
        n_rows = write_table(attempt.path / TABLE_FILE, ALIGNED, table, {**unit.settings, **unit.inputs})
        fault_point("aligned.before_record")
        n_done += 1
        work.progress(n_done, n_all, f"aligned {unit.name}")
        n_tokens = len(table["difficulty_nats"].combine_chunks().flatten())
        return Made({TABLE_FILE: n_rows}, {"n_rows": n_rows, "n_tokens": n_tokens})

    yield make


def finish(_work: Work, _facts: None, done: Mapping[str, UnitRecord]) -> Outcome:
    """Counts and card."""
    n_rows = sum(record.notes["n_rows"] for record in done.values())
    n_tokens = sum(record.notes["n_tokens"] for record in done.values())
    counts = {"n_in": n_rows, "n_out": n_rows, "n_rejected": 0, "n_tokens": n_tokens}
    card = f"{n_tokens} student completion tokens, end of turn included, of {n_rows} examples."
    return Outcome(counts, {"n_shards": len(done)}, card)


SPEC: Final = StageSpec(
    "aligned",
    VERSION,
    settings=settings,
    inputs=inputs,
    units=units,
    maker=maker,
    finish=finish,
)
