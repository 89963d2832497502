"""What the analysis may read, and of that what one unit reads: keys are made of these alone."""

from __future__ import annotations

from typing import Annotated, Any, Final

from trims_core.config import ScoresConfig, StudentConfig, TrimsConfig
from trims_core.graph import Node
from trims_core.points import CacheName, RuleName, middle_point
from trims_core.profiles import Profile
from trims_core.sections import LATER, OPERATIONAL, Name, Section
from trims_core.students.merging import MERGE_RULE
from trims_core.sweep_sections import SweepConfig, TaskConfig, TaskDecoding

_HIDES_ANSWERS: Final = (
    "teacher student scores each token with the whole answer hidden, so it does not say how likely a text is"
)
_NO_TEACHER: Final = "this run has no teacher (no section scores)"
_NO_SAMPLES: Final = "analysis.samples is 0"


class AnalysisSettings(Section):
    """All that the analysis reads."""

    tasks: dict[Name, TaskConfig]
    profiles: Annotated[dict[Name, Profile] | None, LATER] = None
    """Of the tasks that have one, as it stands."""
    decodings: dict[Name, TaskDecoding]
    """Of every task, with what its sampling does not read at its default."""
    rule: RuleName
    cache: CacheName
    threshold: float
    """With rule and cache the point that is looked at."""
    samples: int
    states: int
    scores: ScoresConfig | None
    student: StudentConfig
    system_prompt: str | None
    batch_size: Annotated[int, OPERATIONAL]
    rows_per_call: Annotated[int, OPERATIONAL]

    def system_of(self, task: str) -> str | None:
        """The system prompt of a task's problems; a profile's stands in its messages."""
        return None if task in (self.profiles or ()) else self.system_prompt

    def without_teacher(self) -> str | None:
        """Why no text is shown to a teacher; None where one reads them.

        Raises:
            ConfigError: a teacher class that cannot be loaded.
        """
        if self.scores is None:
            return _NO_TEACHER
        if not self.samples:
            return _NO_SAMPLES
        if self.scores.teacher == "student":
            return _HIDES_ANSWERS
        from trims_core.teacher.registry import observes_corpus

        if observes_corpus(self.scores):
            return (
                f"teacher {self.scores.teacher} scores by the whole corpus, which it is not shown here; texts"
                " of a student may hold tokens that the corpus has not"
            )
        return None


def settings(config: TrimsConfig, _node: Node | None = None) -> AnalysisSettings:
    """From the sections analysis, sweep, student and scores."""
    sweep, chosen = config.sweep, config.analysis
    assert chosen is not None
    return AnalysisSettings(
        tasks=sweep.tasks,
        profiles={name: found for name, task in sweep.tasks.items() if (found := task.protocol)} or None,
        decodings={name: _read(sweep.decoding(name)) for name in sweep.tasks},
        rule=sweep.rule,
        cache=sweep.cache,
        threshold=point_of(sweep) if chosen.threshold is None else chosen.threshold,
        samples=chosen.samples,
        states=chosen.states,
        scores=_teacher(config.scores, chosen.engine),
        student=config.student,
        system_prompt=config.corpus.system_prompt,
        batch_size=chosen.batch_size,
        rows_per_call=chosen.rows_per_call,
    )


def point_of(sweep: SweepConfig) -> float:
    """The middle one of a sweep's points by parallelism."""
    threshold = middle_point(sweep.rule, (None, *dict.fromkeys(sweep.thresholds)))
    assert threshold is not None  # one token per forward comes first, and there is another point
    return threshold


def proposal_settings(chosen: AnalysisSettings, task: str, *, adapted: bool) -> dict[str, Any]:
    """What of the settings the proposals of one model on one task depend on.

    Args:
        adapted: whether the student has an adapter, which is merged by a rule of its own.
    """
    decoding = chosen.decodings[task]
    found: dict[str, Any] = {
        "states": chosen.states,
        "student": chosen.student.result_fields(),
        "sampling": decoding.sampling.result_fields(),
    }
    if adapted and chosen.student.dtype != "float32":
        found["merge_rule"] = MERGE_RULE
    return found


def _teacher(scores: ScoresConfig | None, engine: str | None) -> ScoresConfig | None:
    """The teacher, run by another engine where one is named; options are the engine's own."""
    if scores is None or engine is None or engine == scores.teacher:
        return scores
    return scores.model_copy(update={"teacher": engine, "options": {}})


def _read(decoding: TaskDecoding) -> TaskDecoding:
    return decoding._replace(sampling=decoding.sampling.as_read())
