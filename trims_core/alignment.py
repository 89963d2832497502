"""Difficulty of the student's tokens from the teacher's, through the bytes both cover.

A teacher token's value is spread evenly over its bytes; a student token's difficulty is the sum over its own
bytes. Cutting the text at every boundary of either tokenization gives pieces that belong to one token on each
side, and a piece that is a whole teacher token carries the value unchanged: equal tokenizations give the
identity exactly, without the cancellation of differences of a cumulative sum.

Tokens without bytes (end of turn, a tokenizer's empty prefix) pair up with the other side's at the same
place, from the last one backwards, so that end of turn meets end of turn. A teacher's token that finds no
partner gives its value to the first of the student's there, or, where the student has none, to the token that
covers the next byte (at the end of the text: the last byte). A student's token without a partner gets 0.
So nothing is lost: the sum over an example is conserved.

Shape legend: R examples (rows), T teacher tokens and S student tokens of all examples, one after another;
t, s only those with bytes; P pieces.

Source: own derivation from the step function of the teacher's cumulative NLL over byte positions; checked
against a byte-by-byte version in tests/test_alignment.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from trims_core.errors import AlignmentError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
_SHOWN: Final = 3


@dataclass(frozen=True)
class _Tokens:
    """Where the tokens of all examples lie on one common byte axis; no two examples share a coordinate."""

    start: Ints
    end: Ints

    @property
    def with_bytes(self) -> Ints:
        return np.flatnonzero(self.end > self.start)

    @property
    def without_bytes(self) -> Ints:
        return np.flatnonzero(self.end == self.start)


def align_rows(
    teacher_end_T: npt.NDArray[Any],
    teacher_value_T: npt.NDArray[Any],
    teacher_offset_R1: npt.NDArray[Any],
    student_end_S: npt.NDArray[Any],
    student_offset_R1: npt.NDArray[Any],
    names_R: Sequence[str],
) -> Floats:
    """Difficulty of every student token, in the unit of `teacher_value_T`, float64 [S].

    Example r has the teacher tokens teacher_offset_R1[r] to teacher_offset_R1[r + 1]; likewise the student's.
    The result of one does not depend on its neighbours.

    Args:
        teacher_end_T: end of each token in its completion's UTF-8 bytes, end of turn included; student_end_S
            likewise.

    Raises:
        AlignmentError: offsets that decrease, or sides that cover other numbers of bytes; names the examples.
    """
    teacher_offset_R1 = np.asarray(teacher_offset_R1, dtype=np.int64)
    student_offset_R1 = np.asarray(student_offset_R1, dtype=np.int64)
    value_T = np.asarray(teacher_value_T, dtype=np.float64)
    if len(value_T) != len(teacher_end_T):
        raise AlignmentError(
            f"{len(teacher_end_T)} teacher offsets but {len(value_T)} values; expected one per token"
        )
    total_R = _totals(teacher_end_T, teacher_offset_R1)
    step_T, step_S = _step(teacher_end_T, teacher_offset_R1), _step(student_end_S, student_offset_R1)
    for side, end, offset, step in (
        ("teacher", teacher_end_T, teacher_offset_R1, step_T),
        ("student", student_end_S, student_offset_R1, step_S),
    ):
        _check_step(side, end, offset, step, names_R)
    _check_totals(
        total_R, _totals(student_end_S, student_offset_R1), teacher_offset_R1, student_offset_R1, names_R
    )
    # One coordinate more than bytes per example keeps the end of one apart from the start of the next.
    base_R = np.concatenate([[0], np.cumsum(total_R + 1)])[:-1]
    teacher = _place(teacher_end_T, step_T, teacher_offset_R1, base_R)
    student = _place(student_end_S, step_S, student_offset_R1, base_R)
    difficulty_S = np.zeros(len(student.end), dtype=np.float64)
    _spread_bytes(teacher, value_T, student, difficulty_S)
    _hand_over_empty(teacher, value_T, student, difficulty_S)
    return difficulty_S


def _totals(end_T: npt.NDArray[Any], offset_R1: Ints) -> Ints:
    """Bytes covered by each example's tokens; 0 for an example without tokens."""
    total_R = np.zeros(len(offset_R1) - 1, dtype=np.int64)
    filled = offset_R1[1:] > offset_R1[:-1]
    total_R[filled] = end_T[offset_R1[1:][filled] - 1]
    return total_R


def _check_step(
    side: str, end_T: npt.NDArray[Any], offset_R1: Ints, step_T: Ints, names_R: Sequence[str]
) -> None:
    """Raises AlignmentError unless the offsets of each example grow."""
    if not len(step_T) or step_T.min() >= 0:
        return
    falling = int(np.flatnonzero(step_T < 0)[0])
    row = int(np.searchsorted(offset_R1, falling, side="right")) - 1
    raise AlignmentError(
        f"example {names_R[row]}: {side} token {falling - offset_R1[row]} ends at byte"
        f" {end_T[falling]}, before it starts; expected offsets that do not decrease. Was the text"
        " encoded as one piece?"
    )


def _check_totals(
    total_R: Ints, student_R: Ints, teacher_offset_R1: Ints, student_offset_R1: Ints, names_R: Sequence[str]
) -> None:
    """Raises AlignmentError unless both sides end at the same byte, and values find a student's token."""
    # A row of student tokens is needed wherever the teacher has values to hand over.
    homeless_R = (np.diff(teacher_offset_R1) > 0) & (np.diff(student_offset_R1) == 0)
    wrong = np.flatnonzero((student_R != total_R) | homeless_R)
    if len(wrong):
        shown = ", ".join(
            f"{names_R[row]} (teacher {total_R[row]} bytes, student {student_R[row]})"
            for row in wrong[:_SHOWN]
        )
        raise AlignmentError(
            f"{len(wrong)} of {len(total_R)} examples: teacher and student tokens do not cover the same"
            f" bytes: {shown}; expected equal lengths. Score and bucket the same corpus, and check that"
            " neither tokenizer changes the text"
        )


def _step(end_T: npt.NDArray[Any], offset_R1: Ints) -> Ints:
    """Bytes of each token."""
    step_T = np.diff(np.asarray(end_T, dtype=np.int64), prepend=0)
    first = offset_R1[:-1][offset_R1[1:] > offset_R1[:-1]]
    step_T[first] = np.asarray(end_T)[first]
    return step_T


def _place(end_T: npt.NDArray[Any], step_T: Ints, offset_R1: Ints, base_R: Ints) -> _Tokens:
    end = np.asarray(end_T, dtype=np.int64) + np.repeat(base_R, np.diff(offset_R1))
    return _Tokens(end - step_T, end)


def _spread_bytes(teacher: _Tokens, value_T: Floats, student: _Tokens, difficulty_S: Floats) -> None:
    """Adds every teacher token's value to the student tokens that share bytes with it, by shared bytes."""
    t_of, s_of = teacher.with_bytes, student.with_bytes
    start_t, end_t = teacher.start[t_of], teacher.end[t_of]
    start_s, end_s = student.start[s_of], student.end[s_of]
    # 1. Pieces between neighbouring boundaries of either side, which are marked on the byte axis.
    n_bytes = max(int(end_t[-1]) if len(end_t) else 0, int(end_s[-1]) if len(end_s) else 0)
    ends_t, ends_s = (np.zeros(n_bytes + 1, np.bool_) for _ in range(2))
    ends_t[end_t] = ends_s[end_s] = True
    end_P = np.flatnonzero(ends_t | ends_s)
    # 2. The one token on each side that a piece lies in: as many end before it.
    t_P: Ints = np.cumsum(ends_t[end_P]) - ends_t[end_P]
    s_P: Ints = np.cumsum(ends_s[end_P]) - ends_s[end_P]
    bytes_P = end_P - np.maximum(start_t[t_P], start_s[s_P])
    # 3. Its share of the teacher token; exactly the value where the piece is the whole token.
    share_P = value_T[t_of][t_P] * (bytes_P / (end_t - start_t)[t_P])
    difficulty_S[s_of] = np.bincount(s_P, weights=share_P, minlength=len(s_of))


def _hand_over_empty(teacher: _Tokens, value_T: Floats, student: _Tokens, difficulty_S: Floats) -> None:
    """Adds the values of teacher tokens without bytes to the student tokens the module text names."""
    t_of, s_of = teacher.without_bytes, student.without_bytes
    if not len(t_of):
        return
    at_t, at_s = teacher.end[t_of], student.end[s_of]
    # 1. Rank from the end among the teacher's empty tokens of one place, and the student's group there.
    rank_t = np.searchsorted(at_t, at_t, side="right") - 1 - np.arange(len(at_t))
    first_t = np.searchsorted(at_s, at_t, side="left")
    after_t = np.searchsorted(at_s, at_t, side="right")
    # 2. Partners counted backwards, the first of the group taking what is left over.
    paired = after_t > first_t
    partner_t = np.maximum(after_t - 1 - rank_t, first_t)
    np.add.at(difficulty_S, s_of[partner_t[paired]], value_T[t_of[paired]])
    # 3. No partner: the student token over the next byte, or over the last one at the end of a text.
    if paired.all():
        return
    filled = student.with_bytes
    alone = ~paired
    holder = np.searchsorted(student.end[filled], at_t[alone], side="right")
    beyond = (holder == len(filled)) | (
        student.start[filled[np.minimum(holder, len(filled) - 1)]] > at_t[alone]
    )
    np.add.at(difficulty_S, filled[holder - beyond], value_T[t_of[alone]])
