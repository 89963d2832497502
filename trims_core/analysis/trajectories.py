"""A model's trajectories under the teacher, state by state, and the difficulty of its answers' tokens.

revealed: the tokens of the answer that are revealed so far, in the order of their positions, masked ones left
out. filled: the canvas with the student's proposal at every masked position, up to its first end token. Both
as text, under the teacher, in nats per token of the teacher's; docs/analysis.md says what they mean.

Importing this module imports torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trims_core.analysis.difficulty import difficulty_of, order_by
from trims_core.analysis.questions import Said, Text
from trims_core.analysis.texts import Shown, StudentTexts
from trims_core.rejects import Rejects
from trims_core.schema import ANSWER_DIFFICULTY, TRAJECTORIES
from trims_core.teacher.protocol import Refused

Columns = dict[str, list[Any]]


@dataclass(frozen=True)
class State:
    """Some forwards of one answer: what is revealed, and what the student makes of the rest."""

    sample_id: str
    step: int
    n_revealed: int
    revealed: Text
    filled: Text


@dataclass(frozen=True)
class Trajectory:
    """An answer and its states."""

    sample: Mapping[str, Any]
    """Of schema.SAMPLES."""
    shown: Shown
    ended: bool
    """Whether its last token is an end."""
    states: tuple[State, ...]

    @property
    def answer(self) -> Text:
        """The whole text."""
        return self.sample["sample_id"], self.shown.text

    def texts(self) -> Iterator[Text]:
        """All that the teacher is asked about."""
        yield self.answer
        for state in self.states:
            yield from (state.revealed, state.filled)


def trajectory_of(
    sample: Mapping[str, Any], proposals: Mapping[int, Sequence[int]], texts: StudentTexts
) -> Trajectory:
    """An answer with its states.

    Args:
        proposals: filled canvases by the number of forwards before them.
    """
    n = sample["n_tokens"]
    ids, steps, name = sample["token_ids"][:n], sample["reveal_step"][:n], sample["sample_id"]
    shown = texts.shown(ids)
    states = []
    for step, canvas in sorted(proposals.items()):
        so_far = [ids[place] for place in shown.places if steps[place] < step]
        n_revealed = sum(one < step for one in steps)
        revealed, filled = texts.text(so_far), texts.up_to_end(canvas)
        states.append(State(name, step, n_revealed, (name, revealed), (name, filled)))
    return Trajectory(sample, shown, ids[-1] in texts.end_ids, tuple(states))


def tables_of(
    trajectories: Sequence[Trajectory], said: Mapping[Text, Said | Refused]
) -> tuple[Columns, Columns, Rejects]:
    """The columns of schema.TRAJECTORIES and schema.ANSWER_DIFFICULTY, and what could not be scored: answers
    by their problem's id, states with the number of forwards and the kind behind it."""
    rejects = Rejects()
    states = [_state_row(state, said, rejects) for one in trajectories for state in one.states]
    answers = [_answer_row(one, said, rejects) for one in trajectories]
    return (
        {name: [row[name] for row in states] for name in TRAJECTORIES.schema.names},
        {name: [row[name] for row in answers] for name in ANSWER_DIFFICULTY.schema.names},
        rejects,
    )


def _state_row(state: State, said: Mapping[Text, Said | Refused], rejects: Rejects) -> dict[str, Any]:
    row: dict[str, Any] = {
        "sample_id": state.sample_id,
        "step": state.step,
        "n_revealed": state.n_revealed,
    }
    for kind, text in (("revealed", state.revealed), ("filled", state.filled)):
        found, nats, n_tokens, reject = said[text], None, None, None
        if isinstance(found, Refused):
            reject = found.reason
            rejects.add(f"{state.sample_id}#{state.step}-{kind}", found.reason, found.detail)
        elif found.n_tokens:
            nats, n_tokens = found.mean_nats(), found.n_tokens
        row |= {f"{kind}_nats": nats, f"{kind}_tokens": n_tokens, f"{kind}_reject": reject}
    return row


def _answer_row(
    trajectory: Trajectory, said: Mapping[Text, Said | Refused], rejects: Rejects
) -> dict[str, Any]:
    sample, found = trajectory.sample, said[trajectory.answer]
    row: dict[str, Any] = {"sample_id": sample["sample_id"], "difficulty_nats": None}
    if isinstance(found, Refused):
        rejects.add(sample["sample_id"], found.reason, found.detail)
        return {**row, "order_difficulty": None, "reject": found.reason}
    difficulty = difficulty_of(sample, trajectory.shown, found, ended=trajectory.ended)
    order = order_by(sample["reveal_step"], difficulty)
    return {**row, "difficulty_nats": difficulty, "order_difficulty": order, "reject": None}
