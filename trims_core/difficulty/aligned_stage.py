"""The aligned stage: scores of the teacher's tokens become difficulties of the student's tokens.

One unit per shard of scores. Nothing here knows K: another number of buckets aligns nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Final, Literal

from trims_core._faults import fault_point
from trims_core.chat_template import template_inputs
from trims_core.config import StudentConfig, TemplateConfig, TrimsConfig
from trims_core.errors import ConfigError, CorruptShardError, InputError, RejectBudgetError
from trims_core.fingerprint import Digests, Json
from trims_core.graph import Node
from trims_core.rejects import REJECTS_FILE, check_budget, merged, reject_counts, reject_lines
from trims_core.schema import ALIGNED, CORPUS_TEXT, REJECTS, write_table
from trims_core.sections import OPERATIONAL, Section
from trims_core.shown import card_lines, choose
from trims_core.stage import Make, Outcome, StageSpec, Unit, Work
from trims_core.store import Attempt, Made, UnitRecord
from trims_core.store.rows import rows_digest

if TYPE_CHECKING:
    from trims_core.rendering import Renderer
    from trims_core.students import Family

VERSION: Final = 2
TABLE_FILE: Final = "aligned.parquet"


class AlignedSettings(Section):
    """What an alignment depends on, beside scores, corpus and the student's tokenizer."""

    metric: Literal["nll", "entropy"]
    supervised_end: Literal["eot", "eos"]
    family: Literal["auto", "dream", "llada"]
    student: StudentConfig
    max_rejected_fraction: Annotated[float, OPERATIONAL]
    """Of the scored rows, those that the student's template or tokenizer refuses."""

    def result_fields(self) -> dict[str, object]:
        """Of the student its family and template: its tokenizer is an input, its weights are not read."""
        student = self.student.result_fields()
        template = {name: student[name] for name in TemplateConfig.model_fields if name in student}
        return {
            "metric": self.metric,
            "supervised_end": self.supervised_end,
            "family": self.family,
            **template,
        }


def settings(config: TrimsConfig, _node: Node | None = None) -> AlignedSettings:
    """From the sections buckets and student."""
    buckets, student = config.buckets, config.student
    return AlignedSettings(
        metric=buckets.metric,
        supervised_end=buckets.supervised_end,
        family=student.family,
        student=student,
        max_rejected_fraction=config.scores.max_rejected_fraction,
    )


def inputs(chosen: AlignedSettings, digests: Digests) -> dict[str, str]:
    """The student's tokenizer and config.json, and its template file."""
    student = chosen.student
    tokenizer = digests.tokenizer(student.model, student.revision)
    return {"student_tokenizer": tokenizer, **template_inputs(student, digests)}


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
        about = {**unit.settings, **unit.inputs}
        files = {TABLE_FILE: write_table(attempt.path / TABLE_FILE, ALIGNED, found.table, about)}
        if found.rejects:
            n_rejects = write_table(attempt.path / REJECTS_FILE, REJECTS, found.rejects.columns, about)
            files[REJECTS_FILE] = n_rejects
        fault_point("aligned.before_record")
        n_done += 1
        work.progress(n_done, n_all, f"aligned {unit.name}")
        notes = {
            "n_rows": found.table.num_rows,
            "n_tokens": len(found.table["difficulty_nats"].combine_chunks().flatten()),
            "rejects": found.rejects.notes(),
            "shown": found.shown,
        }
        return Made(files, notes)

    yield make


def student_renderer(chosen: AlignedSettings) -> Renderer:
    """Examples as the student is taught them.

    Raises:
        ConfigError: no such checkpoint or tokenizer, or a student that cannot stop at the end it is taught.
    """
    from trims_core.rendering import Renderer
    from trims_core.students import load_student_tokenizer

    student = chosen.student
    tokenizer, family = load_student_tokenizer(student.model, student.revision, chosen.family)
    # the teacher's score of its own end of turn goes to the token that ends the student's completions
    end_id = family.eos_id if chosen.supervised_end == "eos" else None
    renderer = Renderer(tokenizer, student, "student", end_id=end_id, decoded=True)
    _check_end(renderer, family)
    return renderer


def _check_end(renderer: Renderer, family: Family) -> None:
    """Raises ConfigError unless a student stops at the end of turn that it is taught."""
    ends = renderer.end_ids
    if len(ends) == 1 and ends[0] in family.end_ids:
        return
    raise ConfigError(
        f"student: its chat template ends a turn with {renderer.end_text!r} (ids {list(ends)}), where"
        f" decoding does not stop; expected one token of {sorted(family.end_ids)}, from eos_token_id,"
        " eot_token_id or the family's end of turn. Name it in config.json, end turns with one of them in"
        " student.template_file, or set buckets.supervised_end: eos"
    )


def finish(_work: Work, _facts: None, done: Mapping[str, UnitRecord]) -> Outcome:
    """Counts and card."""
    notes = [record.notes for record in done.values()]
    n_rows, n_tokens = (sum(note[name] for note in notes) for name in ("n_rows", "n_tokens"))
    rejected = merged(note["rejects"] for note in notes)
    rejects = reject_counts(rejected)
    counts = {"n_in": n_rows + rejects["n_rejected"], "n_out": n_rows, **rejects, "n_tokens": n_tokens}
    lines = [
        f"{n_tokens} student completion tokens, end of turn included, of {n_rows} examples.",
        *reject_lines(rejected),
        "",
        *card_lines(choose(one for note in notes for one in note["shown"]), "student"),
    ]
    return Outcome(counts, {"n_shards": len(done), "rejected": rejected}, "\n".join(lines).rstrip())


def gate(chosen: AlignedSettings, counts: Mapping[str, int], info: Mapping[str, Json]) -> None:
    """Raises RejectBudgetError if the student cannot read more of the scored rows than the settings allow."""
    check_budget(
        "aligned",
        chosen.max_rejected_fraction,
        counts["n_in"],
        info["rejected"],
        RejectBudgetError,
        "rows the student can read",
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
