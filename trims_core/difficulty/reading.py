"""What the stages aligned and tokens share: how the student reads examples, and what became of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from trims_core.chat_template import template_inputs
from trims_core.config import StudentConfig, TemplateConfig
from trims_core.errors import ConfigError
from trims_core.fingerprint import Digests
from trims_core.rejects import REJECTS_FILE, merged, reject_counts, reject_lines
from trims_core.schema import REJECTS, Table, write_table
from trims_core.sections import OPERATIONAL, Section
from trims_core.shown import card_lines, choose
from trims_core.stage import Outcome, Unit
from trims_core.store import Attempt, Made, UnitRecord

if TYPE_CHECKING:
    from trims_core.difficulty.student_rows import ReadShard
    from trims_core.rendering import Renderer
    from trims_core.students import Family


class ReadSettings(Section):
    """What the student's tokens of an example depend on, beside the example and the tokenizer."""

    supervised_end: Literal["eot", "eos"]
    family: Literal["auto", "dream", "llada"]
    student: StudentConfig
    max_rejected_fraction: Annotated[float, OPERATIONAL]
    """Of the rows, those that the student's template or tokenizer refuses."""

    def result_fields(self) -> dict[str, object]:
        """Of the student its family and template: its tokenizer is an input, its weights are not read."""
        fields = super().result_fields()
        student = fields.pop("student")
        return fields | {name: student[name] for name in TemplateConfig.model_fields if name in student}


def inputs(chosen: ReadSettings, digests: Digests) -> dict[str, str]:
    """The student's tokenizer and config.json, and its template file."""
    student = chosen.student
    tokenizer = digests.tokenizer(student.model, student.revision)
    return {"student_tokenizer": tokenizer, **template_inputs(student, digests)}


def student_renderer(chosen: ReadSettings) -> Renderer:
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


def write_shard(attempt: Attempt, unit: Unit, table_file: str, table: Table, found: ReadShard) -> Made:
    """A shard's rows and rejects, written; its notes are what `finish` counts."""
    about = {**unit.settings, **unit.inputs}
    files = {table_file: write_table(attempt.path / table_file, table, found.table, about)}
    if found.rejects:
        files[REJECTS_FILE] = write_table(attempt.path / REJECTS_FILE, REJECTS, found.rejects.columns, about)
    notes = {
        "n_rows": found.table.num_rows,
        "n_tokens": found.n_tokens,
        "rejects": found.rejects.notes(),
        "shown": found.shown,
    }
    return Made(files, notes)


def finish(_work: Any, _facts: None, done: Mapping[str, UnitRecord]) -> Outcome:
    """Counts and card."""
    notes: Sequence[Mapping[str, Any]] = [record.notes for record in done.values()]
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
