"""What tokens, rollouts and their grades promise when their process dies: finished units stay."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from fakes import forking
from fakes.decoding_world import unit_bytes
from fakes.rollout_world import CHUNK, GRADES, ROLLOUTS, RolloutWorld, main_of_rollouts

from trims_core.rollouts import stage
from trims_core.stage import main
from trims_core.store import Store

pytestmark = pytest.mark.faults

KILLS = [
    ("tokens", "tokens.before_record:kill:2", 1),
    (ROLLOUTS, "rollouts.before_chunk:kill:2", 1),
    (ROLLOUTS, "rollouts.before_record:kill:3", 2),
    (GRADES, "grades.before_rollout_record:kill:2", 1),
]


@pytest.mark.parametrize(("node", "fault", "n_kept"), KILLS, ids=[fault for _, fault, _ in KILLS])
def test_kill_9_loses_at_most_the_unit_in_flight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, node: str, fault: str, n_kept: int
) -> None:
    monkeypatch.setattr(stage, "CHUNK", CHUNK)
    world, name = RolloutWorld(tmp_path), node.partition("/")[0]
    parent = {"tokens": "corpus", ROLLOUTS: "tokens", GRADES: ROLLOUTS}[node]
    world.run(parent)
    command = [name, "--node", node, "--config", str(world.write())]
    died = forking.start(main_of_rollouts, command, env={"TRIMS_FAULT": fault}).ended()
    assert died.code == -signal.SIGKILL, died.err
    kept = unit_bytes(tmp_path, name)
    assert len(kept) == n_kept
    assert main(command) == 0
    found = unit_bytes(tmp_path, name)
    assert len(found) > n_kept and {key: found[key] for key in kept} == kept
    (artifact,) = Store(tmp_path / "store").artifacts(name)
    assert Store(tmp_path / "store").verify(artifact, deep=True) == []
