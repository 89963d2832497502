"""What the page's player shows: the same problems decoded by every method, position by position.

Each method's first seed, at up to three points of parallelism: the least, the one at which answers are shown
side by side, the most. Numbers per position are thousandths, so that they are short; −1 where there is none.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from trims_core.config import TrimsConfig
from trims_core.keyed import chosen
from trims_core.points import middle_point, point_text
from trims_core.report.cells import Cell, method_of
from trims_core.report.examples import (
    Decodes,
    graded_rows,
    of_first_seeds,
    pieces,
    shared_thresholds,
    verdicts_of,
)

Difficulties = Callable[[Cell, str], Sequence[float | None] | None]
"""Of a cell's answer to a problem the teacher's nats per canvas position; None where it was not asked."""

_NONE: Final = -1
_PER_UNIT: Final = 1000
_MEGABYTE: Final = 1_000_000


def unscored(_cell: Cell, _sample_id: str) -> None:
    """No difficulties: what a run without an analysis has."""


@dataclass(frozen=True)
class Decoded:
    """A task's cells that are played: of one seed of each method, at a few points that all of them have."""

    config: TrimsConfig
    task: str
    cells: tuple[Cell, ...]
    thresholds: tuple[float | None, ...]
    tokenizers: Mapping[str, Decodes]
    """By model."""
    difficulties: Difficulties = unscored

    @property
    def ids(self) -> tuple[str, ...]:
        """All problems."""
        return self.cells[0].sample_ids

    def about(self) -> dict[str, Any]:
        """What holds for all problems: rule, points, models, canvas."""
        decoding = self.config.sweep.decoding(self.task)
        rule = self.cells[0].rule
        return {
            "points": [{"threshold": one, "text": point_text(rule, one)} for one in self.thresholds],
            "models": [{"model": model, "method": method} for model, method in self._models().items()],
            "gen_length": decoding.gen_length,
            "block_length": decoding.block_length,
            "n_problems": len(self.ids),
        }

    def problems(self, wanted: Sequence[str]) -> list[dict[str, Any]]:
        """These problems with all their answers, in this order."""
        models = list(self._models())
        rows = [(cell, graded_rows(cell, wanted)) for cell in self.cells]
        return [
            {
                "id": name,
                "prompt": rows[0][1][name]["prompt"],
                "gold": rows[0][1][name]["gold"],
                "answers": [
                    {
                        "model": models.index(cell.model),
                        "point": self.thresholds.index(cell.threshold),
                        **self._answer(cell, found[name]),
                    }
                    for cell, found in rows
                ],
            }
            for name in wanted
        ]

    def verdicts(self) -> list[dict[str, Any]]:
        """Every problem's id, and the verdict on each of its answers."""
        models = list(self._models())
        found = [(cell, verdicts_of(cell)) for cell in self.cells]
        return [
            {
                "id": name,
                "verdicts": [
                    {
                        "model": models.index(cell.model),
                        "point": self.thresholds.index(cell.threshold),
                        "verdict": verdicts[name],
                    }
                    for cell, verdicts in found
                ],
            }
            for name in self.ids
        ]

    def _models(self) -> dict[str, str]:
        return {cell.model: method_of(cell) for cell in self.cells}

    def _answer(self, cell: Cell, row: Mapping[str, Any]) -> dict[str, Any]:
        """An answer, cut behind the last position that was revealed."""
        steps = row["reveal_step"]
        end = 1 + max((place for place, step in enumerate(steps) if step >= 0), default=-1)
        out = {
            **{name: row[name] for name in ("verdict", "answer", "finished", "n_tokens", "n_forwards")},
            "pieces": _texts(row["token_ids"][:end], self.tokenizers[cell.model]),
            "steps": steps[:end],
            "confidence": _thousandths(row["confidence"][:end]),
            "entropy": _thousandths(row["entropy"][:end]),
        }
        difficulty = self.difficulties(cell, row["sample_id"])
        return out if difficulty is None else {**out, "difficulty": _thousandths(difficulty[:end])}


def _texts(token_ids: Sequence[int], tokenizer: Decodes) -> list[str | None]:
    """A text per position; None where its character ends at a later position, which has the whole text."""
    out: list[str | None] = []
    for start, end, text in pieces(token_ids, tokenizer):
        out += [*[None] * (end - start - 1), text]
    return out


def _thousandths(values: Sequence[float | None]) -> list[int]:
    return [_NONE if value is None else round(_PER_UNIT * value) for value in values]


def decoded_tasks(
    config: TrimsConfig,
    cells: Sequence[Cell],
    tokenizers: Mapping[str, Decodes],
    difficulties: Difficulties = unscored,
) -> dict[str, Decoded]:
    """What can be played, by task; without tasks whose methods share no point.

    Args:
        cells: of all tasks and caches; those with the cache of the curves are taken.
        tokenizers: by model.
    """
    out = {}
    for task in config.sweep.tasks:
        mine = [cell for cell in cells if cell.task == task and cell.cache == config.sweep.cache]
        shared = shared_thresholds(of_first_seeds(mine)) if mine else []
        if shared:
            points = tuple(dict.fromkeys((shared[0], middle_point(cells[0].rule, shared), shared[-1])))
            played = tuple(cell for cell in of_first_seeds(mine) if cell.threshold in points)
            out[task] = Decoded(config, task, played, points, tokenizers, difficulties)
    return out


def samples_of(tasks: Mapping[str, Decoded], *, count: int, size_mb: float) -> dict[str, Any]:
    """What samples.json holds: per task `count` problems, chosen by a hash of their ids, or fewer.

    Args:
        size_mb: where the problems are larger than this together, all tasks have as many fewer as it takes.
    """
    problems = {task: one.problems(chosen(one.ids, count)) for task, one in tasks.items()}
    sizes = [sum(map(_size, of_rank)) for of_rank in itertools.zip_longest(*problems.values())]
    shown = sum(total <= size_mb * _MEGABYTE for total in itertools.accumulate(sizes))
    return {
        "problems_wanted": max(map(len, problems.values()), default=0),
        "problems_shown": shown,
        "tasks": {task: {**one.about(), "problems": problems[task][:shown]} for task, one in tasks.items()},
    }


def samples_to_json(samples: Mapping[str, Any] | Sequence[Any]) -> bytes:
    """The bytes of samples.json, or of a part of it."""
    return json.dumps(samples, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def _size(problem: Mapping[str, Any] | None) -> int:
    return 0 if problem is None else len(samples_to_json(problem))
