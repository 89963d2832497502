"""The fake pipeline made by a runner in processes of its own, and what a test wants to see of them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fakes import flow_stages

from trims_core import runner
from trims_core.config import TrimsConfig
from trims_core.graph import build_graph, node_named
from trims_core.settings import load_config
from trims_core.stage import Result, run_node
from trims_core.store import Artifact, Store

WAIT_S = 60.0


def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The fake stages, here and in the processes; gives back a folder in which each unit leaves its times."""
    flow_stages.install(monkeypatch)
    folder = tmp_path / "begun"
    folder.mkdir()
    here = Path(__file__).resolve().parents[1]
    monkeypatch.setattr(runner, "MODULE", ["fakes.node_process"])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(here), str(here.parent))))
    monkeypatch.setenv("BEGUN", str(folder))
    monkeypatch.setenv("TRIMS_SLOTS_FOLDER", str(tmp_path / "slots"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return folder


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
