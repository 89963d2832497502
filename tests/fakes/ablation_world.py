"""An ablation over a made-up run: its config with a section `ablate`, fake stages under the real names."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from fakes.report_world import ReportWorld

from trims_core.ablations import Ablation
from trims_core.config import TrimsConfig
from trims_core.stage import STAGE_MODULES, Make, StageSpec, Unit, Work, run_node
from trims_core.store import Artifact, Attempt, Made, Store, UnitRecord

ORDER = "train.variants.trims.order"
FACTORS: Mapping[str, list[object]] = {ORDER: ["descending", "ascending"], "buckets.k": [2, 4]}
made: Counter[str] = Counter()
"""Stage → units that were really made in this process."""


def effect(config: TrimsConfig) -> float:
    """Other orders are much worse, other numbers of buckets a little."""
    order = {"descending": 0.0, "ascending": -0.25, "random": -0.1}[config.train.variants["trims"].order]
    return order - 0.02 * (config.buckets.k != 4)


def ablation_world(root: Path, **settings: Any) -> ReportWorld:
    """One variant, two seeds, three points per curve."""
    chosen = {"seeds": (0, 1), "thresholds": (0.9, 0.3), "variants": {"trims": {}}, "effect": effect}
    return ReportWorld(root, **{**chosen, **settings})


def install(root: Path, monkeypatch: pytest.MonkeyPatch, **ablate: Any) -> Path:
    """The world's stages in place of the real ones; gives back its config with a section `ablate`."""
    world = ablation_world(root)
    stand_in(world, monkeypatch)
    return write_config(world, ablate={"factors": dict(FACTORS), **ablate})


def stand_in(world: ReportWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """The world's stages are found under the real ones' names, all but the report."""
    made.clear()
    for stage, spec in world.specs().items():
        module = ModuleType(f"fakes_ablation_{stage}")
        module.SPEC = _counted(spec)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(STAGE_MODULES, stage, module.__name__)  # type: ignore[arg-type]


def write_config(world: ReportWorld, **sections: Any) -> Path:
    """The world's settings as a YAML file beside its store, with these sections in place."""
    path = world.root / "world.yaml"
    path.write_text(yaml.safe_dump({**world.config().model_dump(mode="json"), **sections}, sort_keys=False))
    return path


def make_all(ablation: Ablation) -> dict[str, Artifact]:
    """Every step, without Prefect."""
    store = Store(ablation.base.store)
    done: dict[str, Artifact] = {}
    for step in ablation.steps:
        parents = {role: done[parent] for role, parent in step.parents.items()}
        done[step.id] = run_node(store, step.config, step.node, parents).artifact
    return done


def _counted(spec: StageSpec) -> StageSpec:
    maker: Callable[..., Any] = spec.maker

    @contextmanager
    def counting(
        work: Work, facts: object, waiting: Sequence[Unit], done: Sequence[UnitRecord]
    ) -> Iterator[Make]:
        with maker(work, facts, waiting, done) as make:

            def counted(unit: Unit, attempt: Attempt) -> Made:
                made[spec.name] += 1
                written: Made = make(unit, attempt)
                return written

            yield counted

    return replace(spec, maker=counting)
