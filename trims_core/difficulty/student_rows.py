"""Rows of a corpus as the student's tokens; those that it cannot read are rejects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from trims_core.privileged import Privilege, privileged, shows
from trims_core.rejects import Rejects
from trims_core.rendering import TEMPLATE_REFUSES, Refusal, RenderedRows, Renderer
from trims_core.schema import CORPUS, TOKENS, read_table
from trims_core.shown import Shown, choose, shown_rows

ROWS_AT_ONCE: Final = 256


@dataclass(frozen=True)
class ReadShard:
    """What came of a shard."""

    table: pa.Table
    """Of schema.TOKENS, or with more columns."""
    rejects: Rejects
    """Rows that the student's template or tokenizer refuses."""
    shown: list[Shown]
    """Some rows as text, for the card."""

    @property
    def n_tokens(self) -> int:
        """Of completions, ends of turn included."""
        lengths = self.table["input_ids"].combine_chunks().value_lengths().to_numpy(zero_copy_only=False)
        return int(lengths.sum()) - int(self.table["prompt_length"].to_numpy().sum())


class Reader:
    """Renders rows part by part, and keeps what it says of them.

    Args:
        privilege: what the conversations are told of their answers; default: nothing.

    Raises:
        ConfigError: the chat template shows no system message, and a privilege stands in one.
    """

    def __init__(self, renderer: Renderer, privilege: Privilege | None = None) -> None:
        self._renderer, self._privilege = renderer, privilege
        self._own_system = "" if privilege in (None, "solution") else renderer.own_system()
        self.rejects = Rejects()
        self.shown: list[Shown] = []

    def read(self, examples: pa.Table) -> tuple[Any, RenderedRows]:
        """Places of the rows the student can read, int64, and these rendered.

        Args:
            examples: of schema.CORPUS.
        """
        rendered = self._render(examples)
        ids, texts = examples["id"].to_pylist(), examples["completion"].to_pylist()
        self.shown = choose([*self.shown, *shown_rows(rendered, ids, texts, self._renderer.end_text)])
        for row, why in rendered.refused.items():
            self.rejects.add(ids[row], why.reason, why.detail)
        kept = pa.array([row for row in range(len(ids)) if row not in rendered.refused], pa.int64())
        return kept, self._render(examples.take(kept)) if rendered.refused else rendered

    def _render(self, examples: pa.Table) -> RenderedRows:
        conversations, answers = examples["messages"].to_pylist(), examples["completion"].to_pylist()
        privilege = self._privilege
        if privilege is None:
            return self._renderer.rows(conversations, answers)
        told = [
            privileged(privilege, messages, answer, self._own_system)
            for messages, answer in zip(conversations, answers, strict=True)
        ]
        rendered = self._renderer.rows(told, answers)
        for row, (text, answer) in enumerate(zip(rendered.prompt_texts, answers, strict=True)):
            if row not in rendered.refused and not shows(privilege, text, answer):
                hidden = "the prompt that is to show the right answer does not; expected it word for word"
                rendered.refused[row] = Refusal(TEMPLATE_REFUSES, hidden)
        return rendered


def read_shard(corpus_file: Path, reader: Reader, tick: Callable[[int], None]) -> ReadShard:
    """The tokens of one corpus shard, in its order.

    Args:
        reader: of this shard alone.
        tick: told the number of finished rows every few hundred.
    """
    corpus = read_table(corpus_file, CORPUS)
    parts = []
    for start in range(0, corpus.num_rows, ROWS_AT_ONCE):
        part = corpus.slice(start, ROWS_AT_ONCE)
        kept, rendered = reader.read(part)
        ids = part["id"].take(kept).to_pylist()
        parts.append(pa.Table.from_arrays(token_columns(ids, rendered), schema=TOKENS.schema))
        tick(start + part.num_rows)
    return ReadShard(pa.concat_tables([TOKENS.schema.empty_table(), *parts]), reader.rejects, reader.shown)


def token_columns(ids: Sequence[str], rendered: RenderedRows) -> list[Any]:
    """The columns of schema.TOKENS: every completion behind its prompt."""
    prompts, completions = rendered.prompts, rendered.targets
    prompt_R = np.array([len(prompt) for prompt in prompts], np.int32)
    length_R2 = np.stack([prompt_R, np.diff(completions.offset_R1)], axis=1)
    is_prompt = np.repeat(np.tile([True, False], len(prompts)), length_R2.ravel())
    token_N: npt.NDArray[np.int32] = np.empty(len(is_prompt), np.int32)
    token_N[is_prompt] = np.fromiter(chain.from_iterable(prompts), np.int32, int(prompt_R.sum()))
    token_N[~is_prompt] = completions.ids_T
    start_R1 = np.cumsum([0, *length_R2.sum(1)], dtype=np.int64)
    tokens = pa.ListArray.from_arrays(pa.array(start_R1, type=pa.int32()), pa.array(token_N))
    return [pa.array(ids, type=pa.string()), tokens, pa.array(prompt_R)]
