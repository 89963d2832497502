"""The flow with nodes in processes of their own. Fake stages, real server and processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fakes import stages
from fakes.runner_world import install, peak, spans

from flows.pipeline import trims
from trims_core.errors import LaunchError
from trims_core.store import Store

pytestmark = pytest.mark.usefixtures("prefect_api")
ASIDE = ["runner=processes", "resources.nodes=3", "resources.slots=2", "train.seeds=[0,1,2]"]
GPUS = [f"resources.{stage}.gpus=1" for stage in ("train", "sweep")]


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which each unit leaves its times."""
    return install(tmp_path, monkeypatch)


def run(config: Path, *overrides: str, **parameters: Any) -> Any:
    return trims(config=str(config), overrides=[*ASIDE, *GPUS, *overrides], **parameters)


def test_independent_nodes_run_side_by_side_on_the_slots_and_in_the_graphs_order(
    config: Path, begun: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLOW_S", "0.7")
    result = run(config, until="sweep")
    times = spans(begun)
    used = [span for name, span in times.items() if name.startswith(("train", "sweep"))]
    assert (len(used), peak(used)) == (7, 2)
    assert stages.calls == [], "nothing was made in this process"
    for seed in range(3):
        trained, swept = (
            next(span for name, span in times.items() if name.startswith(f"{stage}-trims-s{seed}@"))
            for stage in ("train", "sweep")
        )
        assert trained[1] <= swept[0]
    assert list(result["artifacts"])[:4] == ["corpus", "scores", "aligned", "buckets"]
    again = run(config, until="sweep")
    assert again == result
    assert spans(begun) == times, "all of it is there"


def test_a_node_that_fails_lets_the_others_come_to_their_end(
    config: Path, begun: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIL", "train/trims-s1")
    with pytest.raises(LaunchError, match="train/trims-s1: its process ended with exit code 3") as caught:
        run(config, until="sweep")
    assert not caught.value.retryable, "a process that broke would break again"
    made = {artifact.manifest.node for artifact in Store(config.parent / "store").artifacts()}
    assert {"train/trims-s0", "train/trims-s2", "sweep/trims-s0", "sweep/trims-s2"} <= made
    assert not {"train/trims-s1", "sweep/trims-s1"} & made
