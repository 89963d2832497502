"""Nodes and their units on Ray: one host, two workers, a shared store."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes import stages
from fakes.runner_world import (
    WAIT_S,
    config_of,
    content,
    in_thread,
    install,
    made_here,
    make,
    pids,
    spans,
    until_true,
)

from trims_core import runner
from trims_core.errors import InterruptedRunError, ProcessDiedError, RejectBudgetError

ray = pytest.importorskip("ray", reason="Ray is not installed; `make extras` installs it")
pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cluster of this host with two places; its workers see the fake stages."""
    root = tmp_path_factory.mktemp("ray")
    with pytest.MonkeyPatch.context() as patch:
        folder = install(root, patch)
        patch.setenv("SLOW_S", "1.0")
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
        yield folder
        ray.shutdown()


@pytest.fixture
def begun(cluster: Path) -> Path:
    """Where each unit of this test leaves its times."""
    for path in cluster.iterdir():
        path.unlink()
    return cluster


def test_two_tasks_share_the_units_of_a_node_and_give_the_same_bytes(tmp_path: Path, begun: Path) -> None:
    config = config_of(tmp_path, "runner=ray", "resources.scores.processes=2")
    done = made_here(config, "scores")
    said: list[Any] = []
    with runner.running(config):
        result = make(config, "scores", done, lambda *what: said.append(what))
    names = [name for name in spans(begun) if name.startswith("scores")]
    assert result.how == "made"
    assert (len(names), len({name.rpartition(".")[2] for name in names})) == (stages.N_SHARDS, 2)
    assert "shards" in [words for *_, words in said]
    alone = made_here(config.model_copy(update={"store": str(tmp_path / "alone")}), "aligned")
    assert content(result.artifact) == content(alone["scores"])


def test_a_task_whose_process_is_killed_is_worth_a_retry_and_goes_on(tmp_path: Path, begun: Path) -> None:
    config = config_of(tmp_path, "runner=ray")
    done = made_here(config, "scores")
    with runner.running(config):
        future = in_thread(config, "scores", done)
        until_true(lambda: len(spans(begun)) == 1 and len(pids(begun)) == 1)
        os.kill(next(iter(pids(begun))), signal.SIGKILL)
        with pytest.raises(ProcessDiedError, match="was killed by SIGKILL") as caught:
            future.result(WAIT_S)
        assert caught.value.retryable
        make(config, "scores", done)
    assert len(list(begun.glob("scores@scores-00000*.end"))) == 1


def test_a_host_that_is_lost_is_worth_a_retry(tmp_path: Path, begun: Path) -> None:
    config = config_of(tmp_path, "runner=ray")
    done = made_here(config, "scores")
    with runner.running(config):
        future = in_thread(config, "scores", done)
        until_true(lambda: len(pids(begun)) == 1)
        process = next(iter(pids(begun)))
        os.kill(_parent(process), signal.SIGKILL)  # Ray's worker
        with pytest.raises(ProcessDiedError, match="its Ray task died") as caught:
            future.result(WAIT_S)
    assert caught.value.retryable
    until_true(lambda: not Path(f"/proc/{process}").exists())


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_stop_lets_a_task_save_and_leaves_no_process(tmp_path: Path, begun: Path) -> None:
    config = config_of(tmp_path, "runner=ray")
    done = made_here(config, "scores")
    with runner.running(config):
        future = in_thread(config, "scores", done)
        until_true(lambda: len(pids(begun)) == 1)
        process = next(iter(pids(begun)))
        runner.stop()
        with pytest.raises(InterruptedRunError, match="the same command continues"):
            future.result(WAIT_S)
    assert not Path(f"/proc/{process}").exists()


def test_what_a_process_raises_comes_back_as_its_class(tmp_path: Path, begun: Path) -> None:
    (tmp_path / "source.jsonl").write_text('{"id": "bad0"}\n{"id": "a"}\n')
    config = config_of(tmp_path, "runner=ray")
    done = made_here(config, "scores")
    with runner.running(config), pytest.raises(RejectBudgetError, match=r"1 of 2 rows were rejected.*bad0"):
        make(config, "scores", done)
