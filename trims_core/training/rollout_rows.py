"""Rollouts as training takes them: joined with the prompts that training renders and with their verdicts.

Prompts are those of the tokens artifact, as training renders them. A rollout carries the digest of the prompt
it answers, a grade that of the answer it judges: what does not belong together is never trained on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trims_core.errors import CorruptShardError, InputError
from trims_core.schema import ROLLOUT_GRADES, ROLLOUTS, TOKENS, read_table
from trims_core.token_digests import ids_digest
from trims_core.variants import Answers


@dataclass(frozen=True)
class RolloutRow:
    """One answer of the student behind its prompt."""

    id: str
    """`<example>#<rollout>`."""
    input_ids: npt.NDArray[np.int32]
    """Prompt and answer up to and including the student's first end token, without an end where none came; or
    the whole canvas, [MASK] where nothing was revealed."""
    prompt_length: int
    reveal_step: npt.NDArray[np.int16]
    """Per token of the answer: the forward that revealed it."""
    finished: bool
    """Whether the last token is an end."""
    reference: npt.NDArray[np.int32] | None = None
    """The prompt that a frozen reference reads, where that is another."""


@dataclass
class RowCounts:
    """What became of the rollouts; complete once all rows are read."""

    n_rollouts: int = 0
    n_kept: int = 0
    n_unfinished: int = 0
    """Of the kept ones: no end token came."""
    n_wrong: int = 0
    """Left out."""
    n_ungraded: int = 0
    """Left out: the grader failed on them."""
    n_without_reference: int = 0
    """Left out: the student's template does not render the prompt with the right answer in it."""


@dataclass(frozen=True)
class RolloutRows:
    """The rows of some rollouts; iterate once, then look at the counts.

    Args:
        tokens, rollouts, grades: files of the three artifacts, the last two in the same order, unit by unit.
        references: of the prompts that a frozen reference reads; empty: it reads the student's.
        shown: of the prompts that the student reads; empty: those that were answered.
    """

    tokens: Sequence[Path]
    rollouts: Sequence[Path]
    grades: Sequence[Path]
    only: Answers = "right"
    whole: bool = False
    """Whether rows are whole canvases."""
    references: Sequence[Path] = ()
    shown: Sequence[Path] = ()
    counts: RowCounts = field(default_factory=RowCounts)

    def __iter__(self) -> Iterator[RolloutRow]:
        """Raises:
        CorruptShardError: a rollout of a prompt that training does not render, or renders otherwise, or a
            grade of another answer; names id and both digests.
        InputError: no rollout is left to train on.
        """
        prompts = _Prompts.read(self.tokens)
        others = [_Prompts.read(files) if files else None for files in (self.shown, self.references)]
        if len(self.rollouts) != len(self.grades):
            raise CorruptShardError(
                f"{len(self.rollouts)} tables of rollouts and {len(self.grades)} of their grades; expected"
                " one for each. Grade them again with --refresh grades"
            )
        for rollouts, grades in zip(self.rollouts, self.grades, strict=True):
            yield from self._rows(rollouts, grades, prompts, *others)
        if not self.counts.n_kept:
            raise InputError(
                f"none of {self.counts.n_rollouts} rollouts is left to train on: {self.counts.n_wrong} are"
                f" wrong, {self.counts.n_ungraded} could not be graded, and the template does not render the"
                f" prompts of {self.counts.n_without_reference} with the right answer in them; expected some"
                " that are right. Look at them with `trims inspect rollouts`, correct rollouts.grader, or"
                " train on all of them"
            )

    def _rows(
        self,
        rollouts: Path,
        grades: Path,
        prompts: _Prompts,
        shown: _Prompts | None,
        references: _Prompts | None,
    ) -> Iterator[RolloutRow]:
        graded = {(row["id"], row["rollout"]): row for row in read_table(grades, ROLLOUT_GRADES).to_pylist()}
        for row in read_table(rollouts, ROLLOUTS).to_pylist():
            self.counts.n_rollouts += 1
            name = f"{row['id']}#{row['rollout']}"
            prompt = prompts.of(row["id"], name, row["prompt_digest"], rollouts)
            if not self._is_kept(name, row, graded.get((row["id"], row["rollout"])), grades):
                continue
            read = [prompt if other is None else other.find(row["id"]) for other in (shown, references)]
            if read[0] is None or read[1] is None:
                self.counts.n_without_reference += 1
                continue
            self.counts.n_kept += 1
            self.counts.n_unfinished += not row["finished"]
            n = len(row["token_ids"]) if self.whole else row["n_tokens"]
            yield _joined(name, read[0], row, n, None if references is None else read[1])

    def _is_kept(self, name: str, row: dict[str, Any], grade: dict[str, Any] | None, file: Path) -> bool:
        digest = ids_digest(row["token_ids"])
        stated = None if grade is None else grade["response_digest"]
        if grade is None or stated != digest:
            raise CorruptShardError(
                f"{file}: the grade of rollout {name} is of the answer {stated}, the rollout is {digest};"
                " expected the same. Grade them again with --refresh grades"
            )
        if self.only == "all" or grade["verdict"] == "right":
            return True
        if grade["verdict"] == "wrong":
            self.counts.n_wrong += 1
        else:
            self.counts.n_ungraded += 1
        return False


def _joined(
    name: str,
    prompt: npt.NDArray[np.int32],
    row: dict[str, Any],
    n: int,
    reference: npt.NDArray[np.int32] | None,
) -> RolloutRow:
    """The first n tokens of the answer behind its prompt."""
    answer = np.asarray(row["token_ids"][:n], np.int32)
    order = np.asarray(row["reveal_step"][:n], np.int16)
    ids = np.concatenate([prompt, answer])
    return RolloutRow(name, ids, len(prompt), order, row["finished"], reference)


@dataclass(frozen=True)
class _Prompts:
    """All prompts, flat: 4 bytes per token and some hundred per example."""

    row_of: dict[str, int]
    tokens: npt.NDArray[np.int32]
    start_R1: npt.NDArray[np.int64]

    @classmethod
    def read(cls, files: Sequence[Path]) -> _Prompts:
        ids: list[str] = []
        parts, lengths = [np.empty(0, np.int32)], [np.empty(0, np.int64)]
        for file in files:
            table = read_table(file, TOKENS)
            ids += table["id"].to_pylist()
            lists = table["input_ids"].combine_chunks()
            prompt_R = table["prompt_length"].to_numpy().astype(np.int64)
            length_R = lists.value_lengths().to_numpy(zero_copy_only=False)
            place_T = np.arange(int(length_R.sum())) - np.repeat(np.cumsum(length_R) - length_R, length_R)
            flat = lists.flatten().to_numpy(zero_copy_only=False)
            parts.append(flat[place_T < np.repeat(prompt_R, length_R)])
            lengths.append(prompt_R)
        start_R1 = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
        return cls({name: row for row, name in enumerate(ids)}, np.concatenate(parts), start_R1)

    def find(self, example: str) -> npt.NDArray[np.int32] | None:
        """The prompt of an example, if it has one."""
        row = self.row_of.get(example)
        return None if row is None else self.tokens[self.start_R1[row] : self.start_R1[row + 1]]

    def of(self, example: str, name: str, digest: str, file: Path) -> npt.NDArray[np.int32]:
        """The prompt of an example, if it has this digest. Raises: CorruptShardError."""
        prompt = self.find(example)
        rendered = None if prompt is None else ids_digest(prompt)
        if prompt is None or rendered != digest:
            raise CorruptShardError(
                f"{file}: rollout {name} answers the prompt {digest}, and training renders"
                f" {rendered or 'no such example'}; expected the same tokens. Decode again"
                " with --refresh rollouts"
            )
        return prompt
