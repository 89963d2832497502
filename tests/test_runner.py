"""Nodes made in processes of their own: slots, shared units, deaths, stops, limits. Real processes."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fakes import flow_stages, stages

from trims_core import runner
from trims_core.config import TrimsConfig
from trims_core.errors import InterruptedRunError, ProcessDiedError, RejectBudgetError, TimeLimitError
from trims_core.graph import build_graph, node_named
from trims_core.settings import load_config
from trims_core.stage import Result, run_node
from trims_core.store import Artifact, Store

WAIT_S = 60.0


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The fake stages, here and in the processes; a folder in which each unit leaves its times."""
    flow_stages.install(monkeypatch)
    folder = tmp_path / "begun"
    folder.mkdir()
    here = Path(__file__).resolve().parent
    monkeypatch.setattr(runner, "MODULE", ["fakes.node_process"])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(here), str(here.parent))))
    monkeypatch.setenv("BEGUN", str(folder))
    monkeypatch.setenv("TRIMS_SLOTS_FOLDER", str(tmp_path / "slots"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    yield folder


def config_of(root: Path, *overrides: str) -> TrimsConfig:
    path = flow_stages.write_config(root)
    return load_config(path, ["runner=processes", "resources.nodes=4", *overrides])


def make(config: TrimsConfig, node_id: str, done: dict[str, Artifact], progress: Any = None) -> Result:
    node = node_named(build_graph(config), node_id)
    parents = {role: done[parent] for role, parent in node.parents.items()}
    told = progress or (lambda *_: None)
    result = runner.make(Store(config.store), config, node, parents, since=None, progress=told)
    done[node_id] = result.artifact
    return result


def made_here(config: TrimsConfig, until: str) -> dict[str, Artifact]:
    """Everything up to a stage, made in this process."""
    store, done = Store(config.store), dict[str, Artifact]()
    for node in build_graph(config):
        if node.stage == until:
            break
        parents = {role: done[parent] for role, parent in node.parents.items()}
        done[node.id] = run_node(store, config, node, parents).artifact
    return done


def until_true(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "not within time"
        time.sleep(0.02)


def spans(folder: Path) -> dict[str, tuple[float, float]]:
    """`<node>@<unit>.<pid>` → when it began and ended."""
    return {
        path.name: (float(path.read_text()), float(path.with_suffix(path.suffix + ".end").read_text()))
        for path in folder.iterdir()
        if path.suffix != ".end" and path.with_suffix(path.suffix + ".end").exists()
    }


def peak(times: list[tuple[float, float]]) -> int:
    return max(sum(begin <= moment < end for begin, end in times) for moment, _ in times)


def content(artifact: Artifact) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in artifact.files()}


def test_three_independent_nodes_on_two_slots_are_two_at_a_time(
    tmp_path: Path, begun: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLOW_S", "1.0")
    config = config_of(tmp_path, "train.seeds=[0,1,2]", "resources.slots=2", "resources.train.gpus=1")
    done = made_here(config, "train")
    with runner.running(config), ThreadPoolExecutor(3) as threads:
        found = [threads.submit(make, config, f"train/trims-s{seed}", done) for seed in range(3)]
        assert [one.result().how for one in found] == ["made"] * 3
    times = [span for name, span in spans(begun).items() if name.startswith("train")]
    assert (len(times), peak(times)) == (3, 2)


def test_two_processes_share_the_units_of_a_node_and_give_the_same_bytes(
    tmp_path: Path, begun: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLOW_S", "1.0")
    config = config_of(tmp_path, "resources.scores.processes=2")
    done = made_here(config, "scores")
    with runner.running(config):
        shared = make(config, "scores", done).artifact
    names = [name for name in spans(begun) if name.startswith("scores")]
    assert len(names) == stages.N_SHARDS, "no unit was made twice"
    assert len({name.rpartition(".")[2] for name in names}) == 2
    alone = made_here(
        load_config(flow_stages.write_config(tmp_path), [f"store={tmp_path / 'alone'}"]), "aligned"
    )
    assert content(shared) == content(alone["scores"])


def in_thread(config: TrimsConfig, node_id: str, done: dict[str, Artifact]) -> Future[Result]:
    thread = ThreadPoolExecutor(1)
    future = thread.submit(make, config, node_id, done)
    thread.shutdown(wait=False)
    return future


def pids(folder: Path) -> dict[int, str]:
    """Process → the unit it has begun and not ended."""
    ended = spans(folder)
    open_ = [path.name for path in folder.iterdir() if path.suffix != ".end" and path.name not in ended]
    return {int(name.rpartition(".")[2]): name for name in open_}


def test_a_helper_that_is_killed_costs_its_unit_only(
    tmp_path: Path, begun: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SLOW_S", "2.0")
    config = config_of(tmp_path, "resources.scores.processes=2")
    done = made_here(config, "scores")
    with runner.running(config):
        future = in_thread(config, "scores", done)
        until_true(lambda: len(pids(begun)) == 2)
        commands = {pid: Path(f"/proc/{pid}/cmdline").read_text() for pid in pids(begun)}
        (helper,) = [pid for pid, command in commands.items() if "worker-1.json" in command]
        os.kill(helper, signal.SIGKILL)
        assert future.result(WAIT_S).how == "made"
    assert "was killed by SIGKILL" in caplog.text
    assert len(list(begun.glob("scores*.end"))) == stages.N_SHARDS
    assert len([path for path in begun.iterdir() if path.suffix != ".end"]) == stages.N_SHARDS + 1


def test_a_node_whose_process_is_killed_is_worth_a_retry_and_goes_on(
    tmp_path: Path, begun: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLOW_S", "0.7")
    config = config_of(tmp_path)
    done = made_here(config, "scores")
    with runner.running(config):
        future = in_thread(config, "scores", done)
        until_true(lambda: len(spans(begun)) == 1 and len(pids(begun)) == 1)
        os.kill(next(iter(pids(begun))), signal.SIGKILL)
        with pytest.raises(ProcessDiedError, match=r"scores: its process was killed by SIGKILL") as caught:
            future.result(WAIT_S)
        assert caught.value.retryable
        assert "makes scores-00001" in str(caught.value), "the end of its log"
        make(config, "scores", done)
    assert len(list(begun.glob("scores-00000*.end"))) <= 1
    assert len(list(begun.glob("scores@scores-00000*.end"))) == 1


def test_stop_lets_all_nodes_save_and_leaves_no_process(
    tmp_path: Path, begun: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLOW_S", "30")
    config = config_of(tmp_path, "train.seeds=[0,1]")
    done = made_here(config, "train")
    with runner.running(config):
        futures = [in_thread(config, f"train/trims-s{seed}", done) for seed in (0, 1)]
        until_true(lambda: len(pids(begun)) == 2)
        working = list(pids(begun))
        runner.stop()
        for future in futures:
            with pytest.raises(InterruptedRunError, match="the same command continues"):
                future.result(WAIT_S)
    assert not any(Path(f"/proc/{pid}").exists() for pid in working)


def test_a_node_that_takes_too_long_is_stopped(
    tmp_path: Path, begun: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLOW_S", "30")
    config = config_of(tmp_path, "resources.scores.timeout_s=4")
    done = made_here(config, "scores")
    with (
        runner.running(config),
        pytest.raises(TimeLimitError, match=r"scores: not done after 4 s.*timeout_s"),
    ):
        make(config, "scores", done)


def test_errors_progress_and_logs_come_from_the_process(
    tmp_path: Path, begun: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = tmp_path / "source.jsonl"
    source.write_text("".join(f'{{"id": "bad{i}"}}\n' for i in range(6)))
    config = config_of(tmp_path)
    done = made_here(config, "corpus")
    said: list[Any] = []
    caplog.set_level(logging.INFO, "trims_core")
    with runner.running(config):
        make(config, "corpus", done, lambda *what: said.append(what))
        with pytest.raises(RejectBudgetError, match=r"6 of 6 rows were rejected.*bad0"):
            make(config, "scores", done)
    assert said[-1][2] == "rows"
    store = Store(config.store)
    (log,) = (store.root / "scores" / ".logs").glob("*/worker-0.log")
    assert "makes scores-00000" in log.read_text()


def test_a_cached_node_starts_no_process(tmp_path: Path, begun: Path) -> None:
    config = config_of(tmp_path)
    done = made_here(config, "scores")
    with runner.running(config):
        assert make(config, "corpus", done).how == "cached"
    assert not list(begun.iterdir())


_ASKS_FOR_A_TRAINING = """
import sys, pytest
from pathlib import Path
from fakes import flow_stages
flow_stages.install(pytest.MonkeyPatch())
from test_runner import config_of, made_here, make
from trims_core import runner
runner.MODULE[:] = ["fakes.node_process"]
config = config_of(Path(sys.argv[1]), "train.launch.grace_s=20")
with runner.running(config):
    make(config, "train/trims-s0", made_here(config, "train"))
"""


def test_a_training_has_its_time_to_save_when_its_starter_is_asked_to_end_and_then_killed(
    tmp_path: Path, begun: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Prefect's worker does to a run that is cancelled: SIGTERM, and SIGKILL while it still waits."""
    monkeypatch.setenv("SLOW_S", "0")
    monkeypatch.setenv("SLOW_TRAIN_S", "60")
    monkeypatch.setenv("SAVE_S", "4")
    starter = subprocess.Popen([sys.executable, "-c", _ASKS_FOR_A_TRAINING, str(tmp_path)])
    try:
        until_true(lambda: bool(list(begun.glob("train*"))))
        starter.send_signal(signal.SIGTERM)
        time.sleep(1.5)  # a second signal after this counts as one
    finally:
        starter.kill()
        starter.wait()
    until_true(lambda: bool(list(begun.glob("train*.saved"))))
