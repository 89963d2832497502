"""The analysis stage: facts about every model's answers at one point of its sweep, for the report's figures.

Three units per task and model. `answers`: what follows from the samples alone, of all problems.
`proposals`: how the student would fill the canvases of some trajectories. `teacher`: what the teacher says of
these, and of the answers' tokens. So another teacher fills no canvas, and one more model makes its own units
only. The students come first, one after the other, then one teacher for all: it is started once, for the
longest text, when no student holds memory any more. A crash loses the unit in flight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from trims_core._faults import fault_point
from trims_core.analysis.answers import table_of
from trims_core.analysis.card import card, notes_of_answers, notes_of_trajectories
from trims_core.analysis.cells import PROPOSALS_FILE, Asked, Cell, cells_of, rows_of, train_of, verdicts_of
from trims_core.analysis.settings import AnalysisSettings, proposal_settings, settings
from trims_core.benchmarks import load_tasks, problems_digest, task_digests
from trims_core.chat_template import template_inputs
from trims_core.fingerprint import Digests
from trims_core.keyed import chosen as chosen_ids
from trims_core.rejects import merged, reject_counts
from trims_core.schema import ANALYSED, ANSWER_DIFFICULTY, PROPOSALS, TRAJECTORIES, write_table
from trims_core.stage import Make, Outcome, StageSpec, Unit, Work
from trims_core.store import Attempt, Made, UnitRecord
from trims_core.teacher.identity import teacher_identity
from trims_core.teacher.protocol import Beat
from trims_core.teacher.replies import TRANSIENT
from trims_core.trained import trained_model, tuned_inputs

if TYPE_CHECKING:
    from trims_core.analysis.making import Reader, Students

VERSION: Final = 1
ANSWERS: Final = "answers"
FILLED: Final = "proposals"
TEACHER: Final = "teacher"
"""Kinds of units: how their names begin."""


def inputs(chosen: AnalysisSettings, digests: Digests) -> dict[str, str]:
    """The student's files, each task's rows, and who the teacher is."""
    student, scores = chosen.student, chosen.scores
    teacher = {} if scores is None or not chosen.samples else teacher_identity(scores, digests)
    return {
        "student": digests.checkpoint(student.model, student.revision),
        **template_inputs(student, digests),
        **task_digests(chosen.tasks, digests),
        **{f"teacher.{name}": digest for name, digest in teacher.items()},
    }


def units(work: Work, _facts: None) -> list[Unit]:
    """`answers/demo/trims-s0` of all models and tasks, then `proposals/…`, then `teacher/…`.

    Raises:
        SweepError: a sweep lacks the analysed point.
        InputError, ConfigError: problems that cannot be read, or a teacher class that cannot be loaded.
    """
    chosen: AnalysisSettings = work.settings
    cells = cells_of(work)
    answers = [_answers_unit(cell) for cell in cells]
    if chosen.without_teacher() is not None:
        return answers
    tasks = {
        name: {problem.id: problem for problem in problems}
        for name, problems in load_tasks(chosen.tasks).items()
    }
    filled = []
    for cell in cells:
        picked = chosen_ids(cell.ids(), chosen.samples)
        problems = tuple(tasks[cell.task][name] for name in picked)
        filled.append(_proposals_unit(work, Asked(cell, problems, f"{FILLED}/{cell.name}")))
    names = [unit.name for unit in filled]
    return [*answers, *filled, *(_teacher_unit(work, unit, names) for unit in filled)]


@contextmanager
def maker(work: Work, _facts: None, waiting: Sequence[Unit], done: Sequence[UnitRecord]) -> Iterator[Make]:
    """Loads students and the teacher when a unit needs them.

    Raises:
        ConfigError: a prompt that does not fit, or tokens or a teacher that are not there.
        SweepError: a forward of a student failed.
        TeacherUnavailableError: the teacher died; finished units are kept.
    """
    n_done, n_all = len(done), len(done) + len(waiting)

    def tell(note: str) -> None:
        work.progress(n_done, n_all, note)

    with ExitStack() as engines:
        students, teacher = _engines(work, waiting, engines, tell)

        def make(unit: Unit, attempt: Attempt) -> Made:
            nonlocal n_done
            fault_point("analysis.before_unit")
            kind = unit.settings["kind"]
            if kind == ANSWERS:
                made = _make_answers(unit, attempt)
            elif kind == FILLED:
                made = _make_proposals(unit, attempt, students(), tell)
            else:
                made = _make_trajectories(unit, attempt, teacher(), tell)
            fault_point("analysis.before_record")
            n_done += 1
            tell(unit.name)
            return made

        yield make


def finish(work: Work, _facts: None, done: Mapping[str, UnitRecord]) -> Outcome:
    """Counts, and the point, the teacher (or why there is none) and the means of every cell."""
    chosen: AnalysisSettings = work.settings
    without = chosen.without_teacher()
    cells: list[dict[str, Any]] = []
    for cell in cells_of(work):
        row: dict[str, Any] = {"task": cell.task, "model": cell.model}
        for kind in (ANSWERS, FILLED, TEACHER):
            record = done.get(f"{kind}/{cell.name}")
            row |= {} if record is None else dict(record.notes)
        cells.append(row)
    rejected = merged(row["rejects"] for row in cells if "rejects" in row)
    info = {
        "rule": chosen.rule,
        "threshold": chosen.threshold,
        "cache": chosen.cache,
        "samples": chosen.samples,
        "states": chosen.states,
        "teacher": None if without is not None or chosen.scores is None else chosen.scores.model,
        "without_teacher": without,
        "engine": ", ".join(sorted({row["engine"] for row in cells if "engine" in row})),
        "rejected": rejected,
    }
    fault_point("analysis.before_summary")
    counted = ("n", "n_states", "n_texts", "n_tokens_read", "n_in")
    total = {name: sum(row.get(name, 0) for row in cells) for name in counted}
    rejects = reject_counts(rejected)
    counts = {"n_answers": total.pop("n"), **total, "n_out": total["n_in"] - rejects["n_rejected"], **rejects}
    return Outcome(counts, info, card(info, cells, rejected))


def _answers_unit(cell: Cell) -> Unit:
    made_from = {
        "samples": cell.samples.digest,
        "one_token": cell.one_token.digest,
        "grades": cell.grades.digest,
    }
    return Unit(f"{ANSWERS}/{cell.name}", {"kind": ANSWERS}, made_from, cell)


def _proposals_unit(work: Work, asked: Asked) -> Unit:
    chosen: AnalysisSettings = work.settings
    cell, train = asked.cell, train_of(work, asked.cell.model)
    adapted = train is not None and not trained_model(train).is_whole
    fields = {
        "kind": FILLED,
        "system_prompt": chosen.system_of(cell.task),
        **proposal_settings(chosen, cell.task, adapted=adapted),
    }
    made_from = {
        **tuned_inputs(work.inputs, train),
        "samples": cell.samples.digest,
        "problems": problems_digest(asked.problems),
    }
    return Unit(asked.proposals, fields, made_from, asked)


def _teacher_unit(work: Work, proposals: Unit, after: Sequence[str]) -> Unit:
    """What the teacher says of a unit of proposals; it comes after those of all students."""
    chosen: AnalysisSettings = work.settings
    cell: Cell = proposals.source.cell
    assert chosen.scores is not None
    fields = {
        **proposals.settings,
        "kind": TEACHER,
        "stop_strings": list(chosen.decodings[cell.task].stop_strings),
        "scores": chosen.scores.result_fields(),
    }
    who = {name: digest for name, digest in work.inputs.items() if name.startswith("teacher.")}
    return Unit(f"{TEACHER}/{cell.name}", fields, {**proposals.inputs, **who}, proposals.source, after=after)


def _engines(
    work: Work, waiting: Sequence[Unit], open_until: ExitStack, tell: Beat
) -> tuple[Callable[[], Students], Callable[[], Reader]]:
    """What gives the students, and what gives the teacher: each is loaded when it is first asked for."""

    @cache
    def students() -> Students:
        from trims_core.analysis.making import Students

        return Students(work)

    @cache
    def teacher() -> Reader:
        from trims_core.analysis.making import reader

        students().let_go()
        asked = {unit.name: unit.source for unit in waiting if unit.settings["kind"] == TEACHER}
        return open_until.enter_context(reader(work, asked, tell))

    return students, teacher


def _make_answers(unit: Unit, attempt: Attempt) -> Made:
    cell: Cell = unit.source
    columns = table_of(rows_of(cell.samples), rows_of(cell.one_token), verdicts_of(cell.grades))
    n_rows = write_table(attempt.path / "analysed.parquet", ANALYSED, columns, _about(unit))
    return Made({"analysed.parquet": n_rows}, notes_of_answers(columns))


def _make_proposals(unit: Unit, attempt: Attempt, students: Students, tell: Beat) -> Made:
    columns, notes = students.proposals(unit.source, lambda note: tell(f"{unit.name}: {note}"))
    n_rows = write_table(attempt.path / PROPOSALS_FILE, PROPOSALS, columns, _about(unit))
    return Made({PROPOSALS_FILE: n_rows}, notes)


def _make_trajectories(unit: Unit, attempt: Attempt, teacher: Reader, tell: Beat) -> Made:
    states, answers, notes = teacher.read(unit.name, lambda note: tell(f"{unit.name}: {note}"))
    about = _about(unit)
    files = {
        "trajectories.parquet": write_table(
            attempt.path / "trajectories.parquet", TRAJECTORIES, states, about
        ),
        "difficulty.parquet": write_table(
            attempt.path / "difficulty.parquet", ANSWER_DIFFICULTY, answers, about
        ),
    }
    return Made(files, {**notes, **notes_of_trajectories(states, answers)})


def _about(unit: Unit) -> dict[str, Any]:
    return {**unit.settings, "inputs": dict(unit.inputs)}


def settled(record: UnitRecord) -> bool:
    """Whether every text got its final answer."""
    rejects: Mapping[str, Any] = dict(record.notes).get("rejects", {})
    return not any(reason in rejects for reason in TRANSIENT)


SPEC: Final = StageSpec(
    "analysis",
    VERSION,
    settings=settings,
    inputs=inputs,
    units=units,
    maker=maker,
    finish=finish,
    settled=settled,
    apart=True,
)
