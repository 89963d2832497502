"""The engines of the analysis at work: students that fill canvases one model after the other, then a teacher.

Importing this module imports torch.
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any

import torch

from trims_core.analysis.cells import PROPOSALS_FILE, Asked, rows_of, train_of
from trims_core.analysis.proposals import proposals_of
from trims_core.analysis.questions import Asker, Questions, questions_of
from trims_core.analysis.settings import AnalysisSettings
from trims_core.analysis.texts import StudentTexts
from trims_core.analysis.trajectories import Trajectory, tables_of, trajectory_of
from trims_core.config import ScoresConfig
from trims_core.decoding.from_settings import sampling_for
from trims_core.decoding.runner import Runner, load_runner, prompts_of
from trims_core.errors import SweepError
from trims_core.rendering import Renderer
from trims_core.schema import PROPOSALS, read_table
from trims_core.stage import Work
from trims_core.students import load_student_tokenizer
from trims_core.teacher.limits import context_limit, engine_overrides, read_limits
from trims_core.teacher.protocol import Beat
from trims_core.teacher.registry import make_teacher, make_tokenizer
from trims_core.trained import tuned_student

logger = logging.getLogger(__name__)

Columns = dict[str, list[Any]]


class Students:
    """The students of a run, one in memory at a time."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._model = ""
        self._runner: Runner | None = None

    def proposals(self, asked: Asked, tell: Beat) -> tuple[Columns, dict[str, Any]]:
        """The columns of schema.PROPOSALS, and what a unit notes of them.

        Raises:
            SweepError: a forward failed; names the unit.
        """
        chosen: AnalysisSettings = self._work.settings
        task, runner = asked.cell.task, self._loaded(asked.cell.model, tell)
        decoding = chosen.decodings[task]
        sampling = sampling_for(decoding.sampling, runner.student, f"sweep, task {task}")
        prompts = runner.render(
            prompts_of(asked.problems, chosen.system_of(task)), decoding.gen_length, f"task {task}"
        )
        samples = rows_of(asked.cell.samples)
        started = time.perf_counter()
        try:
            columns = proposals_of(
                runner.student,
                prompts,
                [samples[problem.id] for problem in asked.problems],
                sampling,
                chosen.states,
                chosen.batch_size,
                lambda done, total: tell(f"{done} of {total} canvases filled"),
            )
        except RuntimeError as error:  # torch's own, out of memory among them
            raise SweepError(
                f"{self._work.node_id}, {asked.proposals}: {error}. If memory is short, lower"
                f" analysis.batch_size (now {chosen.batch_size})"
            ) from error
        return columns, {"n_states": len(columns["step"]), "seconds": time.perf_counter() - started}

    def let_go(self) -> None:
        """Free the one in memory."""
        self._runner = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _loaded(self, model: str, tell: Beat) -> Runner:
        if self._runner is None or self._model != model:
            self.let_go()
            tell(f"loading the student of {model}")
            student, adapter = tuned_student(self._work.settings.student, train_of(self._work, model))
            self._model, self._runner = model, load_runner(student, adapter, None)
        return self._runner


class Reader:
    """A started teacher, and what it is asked of each unit."""

    def __init__(self, asker: Asker, waiting: Mapping[str, tuple[list[Trajectory], Questions]]) -> None:
        self._asker = asker
        self._waiting = dict(waiting)

    def read(self, name: str, tell: Beat) -> tuple[Columns, Columns, dict[str, Any]]:
        """The columns of schema.TRAJECTORIES and schema.ANSWER_DIFFICULTY, and what a unit notes of them.

        Raises:
            TeacherUnavailableError: the teacher died; finished units are kept.
        """
        trajectories, questions = self._waiting.pop(name)
        started, n_done, n_all = time.perf_counter(), 0, len(questions.texts)

        def on_reply() -> None:
            nonlocal n_done
            n_done += 1
            tell(f"{n_done} of {n_all} texts read")

        said = questions.said(self._asker.replies(questions, tell, on_reply))
        states, answers, rejects = tables_of(trajectories, said)
        notes = {
            "n_texts": n_all,
            "n_in": 2 * len(states["step"]) + len(answers["sample_id"]),
            "n_tokens_read": questions.n_tokens(),
            "engine": self._asker.engine,
            "rejects": rejects.notes(),
            "seconds": time.perf_counter() - started,
        }
        return states, answers, notes


@contextmanager
def reader(work: Work, asked: Mapping[str, Asked], tell: Beat) -> Iterator[Reader]:
    """A teacher that is started for the longest text of some units, and closed at the end.

    Args:
        asked: by the unit's name; their proposals are all there.
        tell: told what is going on while the teacher starts.
    """
    chosen: AnalysisSettings = work.settings
    config = chosen.scores
    assert config is not None
    renderer = Renderer(make_tokenizer(config), config, "scores")
    waiting = {}
    for name, one in asked.items():
        tell(f"rendering the texts of {name}")
        trajectories = _trajectories(work, one)
        texts = (text for trajectory in trajectories for text in trajectory.texts())
        problems = {problem.id: problem for problem in one.problems}
        system = chosen.system_of(one.cell.task)
        waiting[name] = trajectories, questions_of(renderer, texts, problems, system)
    with _started(work, config, [questions for _, questions in waiting.values()], tell) as asker:
        yield Reader(asker, waiting)


def _trajectories(work: Work, asked: Asked) -> list[Trajectory]:
    """The answers to some problems with their states, from samples and kept proposals."""
    chosen: AnalysisSettings = work.settings
    student, cell = chosen.student, asked.cell
    tokenizer, family = load_student_tokenizer(student.model, student.revision, student.family)
    texts = StudentTexts(tokenizer, family, chosen.decodings[cell.task].stop_strings)
    samples, proposals = rows_of(cell.samples), dict[str, dict[int, list[int]]]()
    table = read_table(work.made[asked.proposals].file(PROPOSALS_FILE), PROPOSALS)
    for row in table.to_pylist():
        proposals.setdefault(row["sample_id"], {})[row["step"]] = row["token_ids"]
    return [trajectory_of(samples[one.id], proposals[one.id], texts) for one in asked.problems]


@contextmanager
def _started(work: Work, config: ScoresConfig, asked: Sequence[Questions], tell: Beat) -> Iterator[Asker]:
    limits = read_limits(config.model, config.revision, engine_overrides(config.options))
    context = context_limit(limits, config.max_model_len)
    longest = max((one.longest(context) for one in asked), default=2)
    with closing(make_teacher(config, limits, work.logs)) as teacher:
        info = teacher.start(longest, tell)
        logger.info("%s: teacher %s, texts of at most %d tokens", work.node_id, info.engine, longest)
        rows_per_call = work.settings.rows_per_call
        yield Asker(teacher, info.engine, context, limits.vocab_size, rows_per_call)
