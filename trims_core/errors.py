"""The exceptions this project raises on purpose.

    TrimsError
    ├── ConfigError               a setting is wrong; nothing has been started
    ├── InputError                the user's data are wrong
    │   ├── CorpusError           broken lines, empty completions (lists file, line, remedy)
    │   ├── DuplicateIdError      one id, two places
    │   └── AlignmentError        a tokenizer changes the text beyond normalisation
    ├── StoreError                the artifact store
    │   ├── MissingArtifactError  a stage was asked for whose parent does not exist
    │   ├── IncompleteArtifactError   a file of the manifest is missing or the manifest is broken
    │   ├── CorruptShardError     a file's size, rows or sha256 differ from the manifest
    │   ├── SchemaError           a table has other columns or units than expected
    │   └── DiskFullError         no space; what was finished is kept          (retryable)
    ├── TeacherError              the teacher cannot score
    │   ├── TeacherUnavailableError   it died or does not answer              (retryable)
    │   ├── NonFiniteScoreError   NaN, infinite or positive log-probabilities
    │   └── RejectBudgetError     more rows rejected than max_rejected_fraction allows
    ├── TrainingError             the training run
    │   ├── TrainingDivergedError non-finite loss; the last good checkpoint is kept
    │   ├── CheckpointError       no complete checkpoint, or one of another topology
    │   └── LaunchError           a training process ended with an error
    │       └── ProcessDiedError  it, or a node's process, was killed                 (retryable)
    ├── TimeLimitError            a node took longer than its limit; finished units are kept
    ├── SandboxError              generated code cannot be contained here; none of it was run
    ├── SweepError                decoding or grading
    │   ├── EqualRolloutsError    the answers to most prompts are copies drawn with the same noise
    │   └── RewardError           a reward failed on an answer, which it names
    ├── ReportError               a report refuses to render
    └── InterruptedRunError       SIGTERM or Ctrl-C; the same command continues   (retryable)

A message says what was wrong (value, place), what was expected and what to do. Half a surrogate pair, which
an input may hold, is written out in it, so that a message can always be encoded. `retryable` tells an
orchestrator whether running the same command again can help; `exit_code` is what a process ends with.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar


def nearest_name(name: str, known: Iterable[str]) -> str:
    """The remedy for a name that does not exist: `did you mean 'x'?`, or all that there are."""
    names = list(known)
    found = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {found[0]!r}?" if found else f"known: {', '.join(names)}"


class TrimsError(Exception):
    """Base of every error raised on purpose."""

    retryable: ClassVar[bool] = False
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(message.encode(errors="backslashreplace").decode())


class ConfigError(TrimsError):
    """A setting is wrong; raised before any work starts."""

    exit_code = 2


class InputError(TrimsError):
    """The user's data are wrong."""

    exit_code = 65


class CorpusError(InputError):
    """Lines of the corpus cannot be used; the message lists file, line and remedy of each."""


class DuplicateIdError(InputError):
    """The same id occurs twice; the message names both places."""


class AlignmentError(InputError):
    """Teacher and student tokens do not cover the same bytes."""


class StoreError(TrimsError):
    """The artifact store cannot serve a request."""

    exit_code = 66


class MissingArtifactError(StoreError):
    """A stage's parent has not been made yet."""


class IncompleteArtifactError(StoreError):
    """A committed artifact lacks a file of its manifest, or its manifest is unreadable."""


class CorruptShardError(StoreError):
    """A file's size, row count or sha256 differs from its manifest."""


class SchemaError(StoreError):
    """A table's columns, types or units are not the expected ones."""


class DiskFullError(StoreError):
    """No space (or file size limit) while writing; finished units are kept."""

    retryable = True
    exit_code = 75


class TeacherError(TrimsError):
    """The teacher cannot score."""


class TeacherUnavailableError(TeacherError):
    """The teacher process or server died or does not answer; finished shards are kept."""

    retryable = True
    exit_code = 75


class NonFiniteScoreError(TeacherError):
    """Scores are NaN, infinite, or log-probabilities above zero."""


class RejectBudgetError(TeacherError):
    """More rows were rejected than `scores.max_rejected_fraction` allows."""


class TrainingError(TrimsError):
    """The training run failed."""


class TrainingDivergedError(TrainingError):
    """The loss or a weight became non-finite; the last good checkpoint is kept."""


class CheckpointError(TrainingError):
    """A checkpoint is incomplete or belongs to another topology."""


class LaunchError(TrainingError):
    """A launched training process ended with an error."""


class ProcessDiedError(LaunchError):
    """A process of ours died; finished work is kept and the same command continues."""

    retryable = True
    exit_code = 75


class TimeLimitError(TrimsError):
    """A node took longer than `resources.<stage>.timeout_s`; finished units are kept."""

    exit_code = 124


class SandboxError(TrimsError):
    """Generated code cannot be contained on this machine, so none of it was run."""

    exit_code = 69


class SweepError(TrimsError):
    """Decoding or grading failed."""


class EqualRolloutsError(SweepError):
    """The rollouts of most prompts are equal, and so are the seeds of their noise: a fault of the program."""


class RewardError(SweepError):
    """A reward raised, or gave no finite number; the message names the answer."""


class ReportError(TrimsError):
    """A report refuses to render (missing cells, mismatching counts)."""


class InterruptedRunError(TrimsError):
    """SIGTERM or Ctrl-C; finished work is kept and the same command continues."""

    retryable = True
    exit_code = 143
