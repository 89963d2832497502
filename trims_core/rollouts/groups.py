"""Whether the answers to one prompt are copies of each other, and whether that can be the student's doing.

A sure student gives equal answers to different noise: that is counted. Answers that are equal because they
were drawn with the same noise are a fault of the program, seen elsewhere where sampling state was shared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow.parquet as pq

from trims_core.errors import EqualRolloutsError
from trims_core.token_digests import ids_digest

_SHOWN: Final = 5
_COLUMNS: Final = ("id", "draw_seed", "token_ids")


@dataclass
class Groups:
    """How many prompts have several answers, and how alike these are."""

    n_groups: int = 0
    n_equal_groups: int = 0
    n_distinct: int = 0
    """Different answers, group by group."""
    n_copied_groups: int = 0
    """Equal ones whose answers were all drawn with one seed."""
    copied: tuple[str, ...] = ()
    """The first of their prompts."""

    def check(self, node: str) -> None:
        """Raises EqualRolloutsError if the answers to most prompts are copies drawn with the same noise."""
        if 2 * self.n_copied_groups > self.n_groups:
            raise EqualRolloutsError(
                f"{node}: the answers to {self.n_copied_groups} of {self.n_groups} prompts are copies of each"
                f" other, drawn with equal seeds (prompts {', '.join(self.copied)}); expected a seed of its"
                " own for each prompt and answer. This is a fault of the program, not of your settings; after"
                " its correction run again with --refresh rollouts"
            )


def compare(chunks: Iterable[Sequence[Path]]) -> Groups:
    """The groups of some chunks of prompts.

    Args:
        chunks: per chunk its tables (schema.ROLLOUTS), one for each answer at the same temperature, with the
            same prompts in each.
    """
    found = Groups()
    for files in chunks:
        if len(files) < 2:
            continue
        for prompt_id, seeds, digests in _groups(files):
            found.n_groups += 1
            found.n_distinct += len(set(digests))
            if len(set(digests)) > 1:
                continue
            found.n_equal_groups += 1
            if seeds[0] is not None and len(set(seeds)) == 1:
                found.n_copied_groups += 1
                found.copied = (*found.copied, prompt_id)[:_SHOWN]
    return found


def _groups(files: Sequence[Path]) -> Iterator[tuple[str, list[int | None], list[str]]]:
    """Of each prompt its id, and of each of its answers the seed and a digest of the tokens."""
    tables = [pq.read_table(file, columns=list(_COLUMNS)).to_pydict() for file in files]
    for place, prompt_id in enumerate(tables[0]["id"]):
        seeds = [table["draw_seed"][place] for table in tables]
        yield prompt_id, seeds, [ids_digest(table["token_ids"][place]) for table in tables]
