"""Nodes made in processes of their own: slots, shared units, deaths, stops, limits. Real processes."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
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
    peak,
    pids,
    spans,
    until_true,
)

from trims_core import runner
from trims_core.errors import InterruptedRunError, ProcessDiedError, RejectBudgetError, TimeLimitError
from trims_core.fork_server import VARIABLE, ForkedChild, ForkServer, python_child
from trims_core.graph import build_graph, node_named
from trims_core.settings import parse_config
from trims_core.stage import run_node
from trims_core.store import Artifact, Store


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The fake stages, here and in the processes; a folder in which each unit leaves its times."""
    return install(tmp_path, monkeypatch)


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
    alone = made_here(config.model_copy(update={"store": str(tmp_path / "alone")}), "aligned")
    assert content(shared) == content(alone["scores"])


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


@pytest.mark.e2e
def test_two_processes_that_sweep_give_the_same_bytes_as_one(tmp_path: Path, project_root: Path) -> None:
    demo = project_root / "data" / "demo"
    raw = {
        **stages.raw_config(tmp_path),
        "student": {"model": str(demo / "student"), "device": "cpu"},
        "sweep": {
            "tasks": {"demo": {"benchmark": "demo", "path": str(demo / "test.jsonl"), "limit": 4}},
            "thresholds": [0.9, 0.6],
            "gen_length": 32,
            "block_length": 32,
        },
    }
    found = []
    for n in (1, 2):
        store = Store(tmp_path / f"store-{n}")
        resources = {"nodes": 1, "sweep": {"processes": n}}
        config = parse_config(
            {**raw, "store": str(store.root), "runner": "processes", "resources": resources}
        )
        node = node_named(build_graph(config), "sweep/untuned")
        if n == 1:
            swept = run_node(store, config, node, {}).artifact
        else:
            with runner.running(config):
                swept = runner.make(store, config, node, {}, since=None, progress=lambda *_: None).artifact
            assert len(list((store.root / "sweep" / ".logs").glob("*/worker-*.log"))) == n
        found.append(
            {name: entry.sha256 for name, entry in swept.manifest.entries.items() if not entry.aside}
        )
    assert found[0] == found[1]
    assert len(found[0]) >= 3


_ASKS_FOR_A_TRAINING = """
import sys, pytest
from dataclasses import replace
from functools import partial
from pathlib import Path
from fakes import flow_stages
flow_stages.SPECS["train"] = replace(flow_stages.SPECS["train"], apart=sys.argv[2] == "forked")
flow_stages.install(pytest.MonkeyPatch())
from fakes.runner_world import config_of, made_here, make
from trims_core import runner
runner.MODULE[:] = ["fakes.node_process"]
runner.ForkServer = partial(runner.ForkServer, imported=["colorsys"])
config = config_of(Path(sys.argv[1]), "train.launch.grace_s=20")
with runner.running(config):
    make(config, "train/trims-s0", made_here(config, "train"))
"""


@pytest.mark.parametrize("how", ["started", "forked"])
def test_a_training_has_its_time_to_save_when_its_starter_is_asked_to_end_and_then_killed(
    tmp_path: Path, begun: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """What Prefect's worker does to a run that is cancelled: SIGTERM, and SIGKILL while it still waits."""
    monkeypatch.setenv("SLOW_S", "0")
    monkeypatch.setenv("SLOW_TRAIN_S", "60")
    monkeypatch.setenv("SAVE_S", "4")
    starter = subprocess.Popen([sys.executable, "-c", _ASKS_FOR_A_TRAINING, str(tmp_path), how])
    try:
        until_true(lambda: bool(list(begun.glob("train*"))))
        starter.send_signal(signal.SIGTERM)
        time.sleep(1.5)  # a second signal after this counts as one
    finally:
        starter.kill()
        starter.wait()
    until_true(lambda: bool(list(begun.glob("train*.saved"))))
    assert len(list(begun.glob("train*.saved"))) == 1
    names = {
        name for _, _, files in os.walk(tmp_path) for name in files
    }  # folders that go meanwhile are no error
    assert ("fork-server.log" in names) == (how == "forked")


def test_apart_stages_fork_as_long_as_the_run_lasts_unless_the_settings_say_no(
    tmp_path: Path, begun: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    children: list[Any] = []

    def kept(*what: Any, **how: Any) -> Any:
        children.append(python_child(*what, **how))
        return children[-1]

    monkeypatch.setattr(runner, "python_child", kept)
    monkeypatch.setattr(runner, "ForkServer", partial(ForkServer, imported=["colorsys"]))
    scores = sys.modules["fakes_stage_scores"]
    monkeypatch.setattr(scores, "SPEC", replace(scores.SPEC, apart=True))
    for fork in (True, False):
        (tmp_path / str(fork)).mkdir()
        config = config_of(tmp_path / str(fork), f"resources.fork={fork}")
        done: dict[str, Artifact] = {}
        with runner.running(config):
            for node in ("corpus", "scores"):
                make(config, node, done)
            server = runner._server
            assert (server is not None) == fork
        assert runner._server is None
        if server is not None:
            assert server._child.returncode == -signal.SIGKILL
    assert [isinstance(child, ForkedChild) for child in children] == [False, True, False, False]


def test_a_server_that_cannot_be_started_costs_a_warning(
    tmp_path: Path, begun: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none(_log: Path) -> None:
        raise OSError("no sockets here")

    monkeypatch.setattr(runner, "ForkServer", none)
    runner._stopped.clear()
    assert VARIABLE not in runner.environment(tmp_path)
    assert "no fork server (no sockets here)" in caplog.text
