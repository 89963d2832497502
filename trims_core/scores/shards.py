"""One shard of examples → one table of scores and one of rejects, joined by id.

Every id of the shard ends up once in scores, in the shard's order, or once in rejects with a reason. What is
wrong with a row before the teacher sees it (template or tokenizer refuse it, too long, unknown tokens) never
reaches the teacher.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from trims_core.rejects import Rejects
from trims_core.rendering import Renderer
from trims_core.schema import SCORES
from trims_core.shown import Shown, choose, shown_rows
from trims_core.teacher.cleaning import UnusableScoresError
from trims_core.teacher.protocol import Refused, Reply, Request
from trims_core.teacher.replies import values_of
from trims_core.token_bytes import EncodedRows

_ROWS_AT_ONCE: Final = 256
"""Rows tokenized together: what a tokenizer says of a token takes a hundred bytes."""


@dataclass(frozen=True, slots=True)
class ShardRows:
    """R examples in the teacher's tokens, flat: P prompt tokens, T targets, of row r from offset_R1[r] on."""

    ids: list[str]
    prompt_P: npt.NDArray[np.int32]
    prompt_offset_R1: npt.NDArray[np.int64]
    targets: EncodedRows
    """Ends in the completion's UTF-8 bytes; the end of turn repeats the last one."""
    refused: dict[str, Refused] = field(default_factory=dict)
    """Rows that template or tokenizer refuse, by id; they have no prompt."""
    shown: list[Shown] = field(default_factory=list)
    """Some rows as text, for the card."""

    @property
    def row_lengths(self) -> npt.NDArray[np.int64]:
        """Tokens the teacher reads of each row, int64 [R]."""
        return np.diff(self.prompt_offset_R1) + np.diff(self.targets.offset_R1)

    def requests(self, rows: slice = slice(None)) -> list[Request]:
        """Some rows as the teacher is asked about them."""
        chosen = range(len(self.ids))[rows]
        prompt, target = self.prompt_offset_R1.tolist(), self.targets.offset_R1.tolist()
        return [
            Request(
                self.ids[row],
                self.prompt_P[prompt[row] : prompt[row + 1]].tolist(),
                self.targets.ids_T[target[row] : target[row + 1]].tolist(),
            )
            for row in chosen
        ]


@dataclass
class ShardScores:
    """What came of one shard."""

    scores: pa.Table
    """Of schema.SCORES."""
    rejects: Rejects
    n_tokens: int = 0
    """Scored tokens."""


def render_rows(
    renderer: Renderer, shard: Mapping[str, Sequence[Any]], tick: Callable[[int], None] = lambda _: None
) -> ShardRows:
    """The rows of a corpus shard (columns as lists) in the teacher's tokens.

    Args:
        tick: told the number of finished rows every few hundred.
    """
    ids, messages, texts = list(shard["id"]), shard["messages"], shard["completion"]
    prompts: list[list[int]] = []
    parts = [renderer.completion_rows([]).with_end(renderer.end_ids)]
    refused: dict[str, Refused] = {}
    shown: list[Shown] = []
    for start in range(0, len(ids), _ROWS_AT_ONCE):
        some = slice(start, start + _ROWS_AT_ONCE)
        rows = renderer.rows(messages[some], texts[some])
        prompts += rows.prompts
        parts.append(rows.targets)
        for row, why in rows.refused.items():
            refused[ids[start + row]] = Refused(ids[start + row], why.reason, why.detail)
        shown = choose([*shown, *shown_rows(rows, ids[some], texts[some], renderer.end_text)])
        tick(len(prompts))
    prompt_offset_R1 = np.cumsum([0, *map(len, prompts)], dtype=np.int64)
    prompt_P = np.fromiter(chain.from_iterable(prompts), np.int32, int(prompt_offset_R1[-1]))
    return ShardRows(ids, prompt_P, prompt_offset_R1, EncodedRows.joined(parts), refused, shown)


def tabulate(rows: ShardRows, replies: Mapping[str, Reply]) -> ShardScores:
    """Scores and rejects of a shard, in the order of its rows. `replies` has one per id."""
    rejects = Rejects()
    kept, nll, entropy = [], [], []
    n_targets_R = np.diff(rows.targets.offset_R1).tolist()
    for row, name in enumerate(rows.ids):
        try:
            nll_T, entropy_T = values_of(replies[name], n_targets_R[row])
        except UnusableScoresError as problem:
            rejects.add(name, problem.reason, problem.detail)
            continue
        kept.append(row)
        nll.append(nll_T)
        entropy.append(entropy_T)
    offset_R1 = pa.array(rows.targets.offset_R1, pa.int32())
    token_ids, byte_end = (
        pa.ListArray.from_arrays(offset_R1, pa.array(values)).take(pa.array(kept, pa.int64()))
        for values in (rows.targets.ids_T, rows.targets.byte_end_T)
    )
    columns = [
        pa.array([rows.ids[row] for row in kept], pa.string()),
        token_ids,
        byte_end,
        pa.array(nll, pa.list_(pa.float32())),
        pa.array(entropy, pa.list_(pa.float32())),
    ]
    scores = pa.Table.from_arrays(columns, schema=SCORES.schema)
    return ShardScores(scores, rejects, sum(n_targets_R[row] for row in kept))
