"""What version 0.1 left of a run is found by node, name and the settings that both versions know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fakes.old_store import as_01, old_run, write_old
from fakes.stages import tiny_config

from trims_core.config import TrimsConfig
from trims_core.graph import build_graph, node_named
from trims_core.old_runs import OldResult, old_results
from trims_core.store import Store


def found(config: TrimsConfig, node: str = "train/trims-s0") -> list[OldResult]:
    return old_results(Store(config.store), config, node_named(build_graph(config), node))


def test_it_is_found_with_the_settings_that_made_it(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    folders = old_run(config)
    for node in ("train/trims-s0", "sweep/trims-s0", "sweep/untuned"):
        (one,) = found(config, node)
        assert (one.artifact.path, one.differs) == (folders[node], ())
        assert str(one) == f"{node.partition('/')[0]}/{folders[node].name[:12]}, made by version 0.1"
    assert found(config.model_copy(update={"name": "other"})) == []


def test_the_newest_comes_first(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    oldest = old_run(config)["train/trims-s0"]
    full = as_01(config)
    newest = write_old(
        Path(config.store), "train/trims-s0", {}, full_config=full, created_at="2026-02-01T00:00:00"
    )
    first, second = found(config)
    assert (first.artifact.path, second.artifact.path) == (newest, oldest)


@pytest.mark.parametrize(
    ("node", "sections", "named"),
    [
        ("train/trims-s0", {"train": {"lr": 0.5}}, ["train.lr"]),
        ("train/trims-s0", {"train": {"variants": {"trims": {"rho": 0.25}}}}, ["train.variants.trims.rho"]),
        ("train/trims-s0", {"student": {"model": "elsewhere"}}, ["student.model"]),
        ("train/trims-s0", {"corpus": {"limit": 1}, "buckets": {"k": 4}}, ["corpus.limit", "buckets.k"]),
        ("train/trims-s0", {"train": {"seeds": [0, 1]}, "sweep": {"thresholds": [0.5]}}, []),
        ("train/trims-s0", {"train": {"pads": "last"}, "report": {"examples": 1}}, []),
        ("sweep/trims-s0", {"sweep": {"thresholds": [0.5]}}, ["sweep.thresholds"]),
        ("sweep/trims-s0", {"sweep": {"batch_size": 3}}, []),
        ("sweep/untuned", {"train": {"variants": {"trims": {"rho": 0.25}}}}, []),
    ],
)
def test_settings_that_are_others_now_are_named(
    tmp_path: Path, node: str, sections: dict[str, Any], named: list[str]
) -> None:
    old_run(tiny_config(tmp_path))
    (one,) = found(tiny_config(tmp_path, **sections), node)
    assert [difference.field for difference in one.differs] == [f"config {name}" for name in named]


def test_of_many_differences_three_are_told(tmp_path: Path) -> None:
    old_run(tiny_config(tmp_path))
    fields = {"lr": 0.5, "max_steps": 1, "batch_size": 64, "max_length": 9}
    (one,) = found(tiny_config(tmp_path, train=fields))
    assert str(one).count(" changed (") == 3
    assert str(one).endswith(" and 1 more)")
