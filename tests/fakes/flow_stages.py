"""The small fake pipeline with results that Prefect can show, found under the real stages' names.

`install(monkeypatch)` lets `load_spec` find these specs in this process; no real stage is imported.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from fakes import stages

from trims_core.config import ScoresConfig, TrimsConfig
from trims_core.fingerprint import Digests
from trims_core.graph import Node
from trims_core.schema import ALIGNED, BUCKETS, SCORES, read_table, write_table
from trims_core.sections import Section
from trims_core.stage import STAGE_MODULES, Make, Outcome, StageSpec, Unit, Work
from trims_core.store import Attempt, Made, UnitRecord

ONE_PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000d49444154789c6360000002000001e221bc330000000049454e44ae426082"
)
before_scores: list[Callable[[Work], None]] = []
"""Called once each, in order, when scores are made: raise here to make the stage fail."""


def write_config(root: Path, teacher: str = "first") -> Path:
    """A YAML file of the small pipeline; the teacher's identity is the content of `teacher.txt`."""
    raw = stages.raw_config(root)
    (root / "teacher.txt").write_text(teacher)
    raw["scores"] = {"teacher": "fake.module:Teacher", "model": str(root / "teacher.txt")}
    path = root / "tiny.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the real stages by these for the time of a test."""
    stages.calls.clear()
    before_scores.clear()
    for stage, spec in SPECS.items():
        module = ModuleType(f"fakes_stage_{stage}")
        module.SPEC = spec  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(STAGE_MODULES, stage, module.__name__)  # type: ignore[arg-type]


class _ScoresSettings(Section):
    """The teacher is all that counts."""

    model: str
    max_rejected_fraction: float

    def result_fields(self) -> dict[str, object]:
        """None: the teacher is an input."""
        return {}


def _scores_settings(config: TrimsConfig, _node: Node) -> _ScoresSettings:
    scores = config.scores
    return _ScoresSettings(model=scores.model, max_rejected_fraction=scores.max_rejected_fraction)


def _scores_inputs(settings: ScoresConfig, digests: Digests) -> dict[str, str]:
    return {"checkpoint": digests.file(settings.model)}


@contextmanager
def _scores_maker(
    work: Work, facts: None, waiting: Sequence[Unit], done: Sequence[UnitRecord]
) -> Iterator[Make]:
    """The fake scores, and a note of who scored: another teacher never gives the same content."""
    if before_scores:
        before_scores.pop(0)(work)
    with stages.SPECS["scores"].maker(work, facts, waiting, done) as plain:

        def make(unit: Unit, attempt: Attempt) -> Made:
            made = plain(unit, attempt)
            (attempt.path / "teacher.txt").write_text(unit.inputs["checkpoint"])
            return Made({**made.files, "teacher.txt": None}, made.notes)

        yield make


def _shards_of(parent: str, name: str) -> Callable[[Work, None], list[Unit]]:
    """The units of a stage with one per shard of its parent."""

    def units(work: Work, _facts: None) -> list[Unit]:
        artifact = work.parents[parent]
        files = artifact.files(suffix=f"/{parent}.parquet")
        return [
            Unit(
                unit.name.replace(parent, name),
                work.settings.result_fields(),
                {parent: unit.content_digest},
                file,
            )
            for unit, file in zip(artifact.units, files, strict=True)
        ]

    return units


def _aligned_maker(
    work: Work, _facts: None, _waiting: Sequence[Unit], _done: Sequence[UnitRecord]
) -> AbstractContextManager[Make]:
    """Difficulties depend on the teacher's identity, so that another teacher drifts."""
    shift = int(work.parents["scores"].manifest.inputs["checkpoint"][:4], 16) % 5 + 1

    def make(unit: Unit, attempt: Attempt) -> Made:
        ids = read_table(unit.source, SCORES)["id"].to_pylist()
        n = len(ids)
        rows = {
            "id": ids,
            "input_ids": [[1, 2, 3]] * n,
            "prompt_length": [1] * n,
            "difficulty_nats": [[float(i * shift % 7), float(i)] for i in range(n)],
        }
        n_rows = write_table(attempt.path / "aligned.parquet", ALIGNED, rows)
        return Made({"aligned.parquet": n_rows})

    return stages.making(make, work)


def _buckets_maker(
    work: Work, _facts: None, _waiting: Sequence[Unit], _done: Sequence[UnitRecord]
) -> AbstractContextManager[Make]:
    def make(unit: Unit, attempt: Attempt) -> Made:
        rows = read_table(unit.source, ALIGNED).to_pydict()
        rows["bucket"] = [[1 + i % 2, 1] for i in range(len(rows["id"]))]
        n_rows = write_table(attempt.path / "buckets.parquet", BUCKETS, rows)
        work.progress(1, 3, "shards")
        return Made({"buckets.parquet": n_rows})

    return stages.making(make, work)


def _train_units(work: Work, _facts: None) -> list[Unit]:
    (unit,) = stages.one_unit(work, None)
    return [replace(unit, name="adapter")]


def _train_maker(
    work: Work, _facts: None, _waiting: Sequence[Unit], _done: Sequence[UnitRecord]
) -> AbstractContextManager[Make]:
    def make(_unit: Unit, attempt: Attempt) -> Made:
        names = ("adapter_config.json", "adapter_model.safetensors", "README.md")
        for name in names:
            (attempt.path / name).write_text(f"{work.node_id} {name}")
        return Made(dict.fromkeys(names))

    return stages.making(make, work)


def _with_files(files: Mapping[str, bytes]) -> Callable[..., Outcome]:
    """A finish that writes these files beside the units."""

    def finish(work: Work, _facts: None, _done: Mapping[str, UnitRecord]) -> Outcome:
        for name, data in files.items():
            path = work.folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
        return Outcome({"n_in": 1, "n_out": 1}, files=dict.fromkeys(files))

    return finish


_EDGES = {
    "k": 2,
    "metric": "nll",
    "edges_nats": [1.0],
    "bucket_sizes": [4, 4],
    "min_nats": 0.0,
    "max_nats": 6.0,
}
_CELL = {"task": "demo", "threshold": 0.9, "n": 4, "n_correct": 3, "accuracy": 0.75, "tpf": 3.25}
_CELLS = {"cells.json": json.dumps([_CELL]).encode()}
_FIGURES = {
    "figures/caches-demo.png": b"not the curve",
    "figures/curve-demo.png": ONE_PIXEL,
    "figures/order-demo.png": ONE_PIXEL,
}
_PAGE = {**_FIGURES, "index.html": b"<html>report</html>"}

SPECS: Mapping[str, StageSpec] = {
    **stages.SPECS,
    "scores": replace(
        stages.SPECS["scores"], settings=_scores_settings, inputs=_scores_inputs, maker=_scores_maker
    ),
    "aligned": replace(stages.SPECS["aligned"], units=_shards_of("scores", "aligned"), maker=_aligned_maker),
    "buckets": replace(
        stages.SPECS["buckets"],
        units=_shards_of("aligned", "buckets"),
        maker=_buckets_maker,
        finish=_with_files({"edges.json": json.dumps(_EDGES).encode()}),
    ),
    "train": replace(stages.SPECS["train"], units=_train_units, maker=_train_maker),
    "sweep": replace(stages.SPECS["sweep"], finish=_with_files(_CELLS)),
    "grades": replace(stages.SPECS["grades"], finish=_with_files(_CELLS)),
    "report": replace(stages.SPECS["report"], finish=_with_files(_PAGE)),
}
