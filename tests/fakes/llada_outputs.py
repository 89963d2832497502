"""What LLaDA-8B-Instruct answered, and the right answers beside, from the reference data."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trims_core.benchmarks.numbers import normalised

_END = re.compile(r"(?:<\|eot_id\|>|<\|endoftext\|>).*", re.DOTALL)
N_ANSWERS = {"gsm8k": 1130, "math500": 500, "countdown": 256, "sudoku": 256}


@dataclass(frozen=True)
class Answer:
    """One answer."""

    question: str
    text: str
    """With its end tokens, as d1 stored it."""
    gold: str

    @property
    def shown(self) -> str:
        """As a sweep stores it."""
        return _END.sub("", self.text)


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of gzipped JSON lines."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


def answers(shared_data: Path, task: str) -> list[Answer]:
    """The answers to a task, in the order of the file."""
    path = shared_data / f"data/llada_outputs/{task}_gen256.jsonl.gz"
    return [Answer(row["question"], row["output"], _gold(task, row)) for row in rows_of(path)]


def _gold(task: str, row: dict[str, Any]) -> str:
    given = row["ground_truth"]
    if task == "gsm8k":  # two golds with a minus sign are missing: d1's reader of right answers lost them
        return "" if given is None else normalised(str(given)) or ""
    if task == "countdown":
        return json.dumps({"numbers": given[0], "target": given[1]})
    if task == "sudoku":
        (puzzle,) = re.findall(r"\d{16}", row["question"])
        return json.dumps({"puzzle": puzzle, "solution": given})
    return str(given)
