"""Rollouts that take a second: a random student, a few prompts, methods trained on its own answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from fakes.chain_world import made_up_to
from fakes.decoding_checkpoint import write_student

from trims_core.benchmarks.graders.numbers import LastAnswerSentence
from trims_core.config import TrimsConfig
from trims_core.rollouts import stage as rollouts_stage
from trims_core.schema import Table, read_table
from trims_core.settings import parse_config
from trims_core.stage import Result, main
from trims_core.store import Artifact

N_PROMPTS = 7
CHUNK = 3
"""Prompts per unit in the tests that set it."""
ROLLOUTS, GRADES = "rollouts/untuned", "grades/rollouts"
OWN = "fakes.rollout_world"
"""Where graders of one's own are: `fakes.rollout_world:even`."""


def parity(text: str) -> int:
    """0 or 1; of a random student's answers some have either."""
    return sum(map(ord, text)) % 2


class Parity(LastAnswerSentence):
    """Finds an answer in every text, so that some answers of a random student are right."""

    def extract(self, text: str) -> str | None:
        return str(parity(text))


def even(messages: Sequence[Mapping[str, str]], completion: str, answer: str) -> bool:
    """Right where the parity is that of the corpus' answer."""
    assert messages[-1]["role"] == "user"
    return parity(completion) == parity(answer)


def size(_messages: Sequence[Mapping[str, str]], completion: str, _answer: str) -> float:
    """A reward."""
    return len(completion) / 4


def shout(_messages: Sequence[Mapping[str, str]], completion: str, answer: str) -> float | None:
    """A reward that says nothing where the answer is odd."""
    return None if parity(answer) else -float(len(completion))


def brittle(_messages: Sequence[Mapping[str, str]], completion: str, answer: str) -> object:
    """Fails in every way."""
    if "1" in answer:
        raise TimeoutError("too long")
    if "2" in answer:
        return "yes"
    return float("nan") if "3" in answer else bool(completion) or True


def always_raises(*_: object) -> bool:
    """Judges nothing."""
    raise ZeroDivisionError("no remainder")


def main_of_rollouts(arguments: Sequence[str]) -> int:
    """The stage command, with CHUNK prompts per unit; for other processes."""
    rollouts_stage.CHUNK = CHUNK
    return main(arguments)


class RolloutWorld:
    """A corpus, a student and a store under `root`."""

    def __init__(self, root: Path, n_prompts: int = N_PROMPTS) -> None:
        self.root = root
        write_student(root / "student")
        rows = [
            {
                "id": f"r{i}",
                "messages": [
                    {"role": "user", "content": "How many?" + " Count." * (i % 4)},
                    {"role": "assistant", "content": f"The answer is {i}."},
                ],
            }
            for i in range(n_prompts)
        ]
        (root / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def raw(self, store: str = "store", **rollouts: Any) -> dict[str, Any]:
        """The settings, some of the section rollouts replaced."""
        sampling = {"temperature": 1.0, **rollouts.pop("sampling", {})}
        return {
            "name": "rollouts",
            "store": str(self.root / store),
            "corpus": {"path": str(self.root / "corpus.jsonl"), "rows_per_shard": 4},
            "student": {"model": str(self.root / "student"), "device": "cpu"},
            "train": {"variants": {"a": {"method": "tabom"}}},
            "rollouts": {
                "samples": 2,
                "gen_length": 12,
                "block_length": 12,
                "grader": "demo",
                "sampling": sampling,
                **rollouts,
            },
            "sweep": {"tasks": {"demo": {"benchmark": "demo"}}},
        }

    def config(self, store: str = "store", **rollouts: Any) -> TrimsConfig:
        """The same, checked."""
        return parse_config(self.raw(store, **rollouts))

    def write(self) -> Path:
        """The settings' file."""
        path = self.root / "rollouts.yaml"
        path.write_text(json.dumps(self.raw()))
        return path

    def run(self, last: str = GRADES, store: str = "store", **rollouts: Any) -> dict[str, Result]:
        """Node → result, up to the last one."""
        return made_up_to(self.config(store, **rollouts), last)


def columns(artifact: Artifact, table: Table, suffix: str) -> dict[str, list[Any]]:
    """All rows of an artifact, by column."""
    found: dict[str, list[Any]] = pa.concat_tables(
        [read_table(path, table) for path in artifact.files(suffix=suffix)]
    ).to_pydict()
    return found
