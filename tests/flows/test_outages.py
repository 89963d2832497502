"""A server, worker or run that dies: what goes on, what starts by itself, what may save. Real processes.

The flow, the deployments' environment and `trims serve` are the real ones; stages are fakes of a few seconds.
Retries are shortened, so that an outage of seconds is one of minutes.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
import yaml
from fakes import flow_stages
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, LogFilter, LogFilterTaskRunId
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelling

from flows.server import is_healthy
from trims_core.store import Store

pytestmark = pytest.mark.e2e
PATIENCE_S = 240.0
DATA = ["corpus", "scores", "aligned", "buckets"]


@dataclass(frozen=True)
class Served:
    """A running `trims serve` over the fake stages."""

    process: subprocess.Popen[bytes]
    root: Path
    config: Path

    @property
    def begun(self) -> Path:
        """One file per unit begun."""
        return self.root / "begun"

    def said(self) -> str:
        """What `trims serve` printed."""
        return (self.root / "serve.txt").read_text(encoding="utf-8")

    def api_url(self) -> str:
        """Where its server is."""
        match = re.search(r"PREFECT_API_URL=(\S+)", self.said())
        assert match, self.told()
        return match[1]

    def told(self) -> str:
        """The ends of all logs, for a failing test."""
        logs = [self.root / "serve.txt", *sorted((self.root / "home").rglob("*.log"))]
        return "\n".join(f"== {path.name}\n{path.read_text(errors='replace')[-3000:]}" for path in logs)


def until_true(condition: Callable[[], Any], about: Callable[[], str], timeout_s: float = PATIENCE_S) -> Any:
    """The condition's value once it is true."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, about()
        time.sleep(0.2)
    return found


@pytest.fixture(scope="module")
def served(project_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """`trims serve` in a project whose only deployment is the fake pipeline in the real one's environment."""
    root = tmp_path_factory.mktemp("outages")
    (root / "begun").mkdir()
    raw = yaml.safe_load((project_root / "prefect.yaml").read_text())
    chosen = next(one for one in raw["deployments"] if one["name"] == "full-pipeline")
    chosen["entrypoint"] = "slow_flow.py:trims"
    chosen["work_pool"]["job_variables"]["env"]["PREFECT_CLIENT_MAX_RETRIES"] = "1"
    del raw["definitions"]
    (root / "prefect.yaml").write_text(yaml.safe_dump({**raw, "deployments": [chosen]}))
    (root / "slow_flow.py").write_text((project_root / "tests/fakes/slow_flow.py").read_text())
    env = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    env |= {
        "PYTHONPATH": os.pathsep.join((str(project_root), str(project_root / "tests"))),
        "PYTHONUNBUFFERED": "1",
        "PREFECT_CLIENT_MAX_RETRIES": "2",
        "BEGUN": str(root / "begun"),
        "SLOW_S": "0.5",
        "SLOW_TRAIN_S": "300",
        "SAVE_S": "3",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "ALL_PROXY": "socks5://127.0.0.1:9",
    }
    command = [sys.executable, "-m", "flows.cli", "serve", "--port", "0", "--home", str(root / "home")]
    with (root / "serve.txt").open("wb") as output:
        process = subprocess.Popen(command, cwd=root, env=env, stdout=output, stderr=subprocess.STDOUT)
    found = Served(process, root, flow_stages.write_config(root))
    try:
        until_true(lambda: "PREFECT_API_URL" in found.said() or process.poll() is not None, found.told)
        yield found
    finally:
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGTERM)
        process.wait(100)


@pytest.fixture
def client(served: Served) -> Iterator[SyncPrefectClient]:
    with temporary_settings({PREFECT_API_URL: served.api_url()}), get_client(sync_client=True) as found:
        yield found


def start(client: SyncPrefectClient, served: Served, until: str) -> UUID:
    """A run of the deployment."""
    deployment = client.read_deployment_by_name("trims/full-pipeline")
    parameters = {"config": str(served.config), "until": until, "settings": {"runner": "processes"}}
    return client.create_flow_run_from_deployment(deployment.id, parameters=parameters).id


def ended(client: SyncPrefectClient, served: Served, run: UUID) -> FlowRun:
    """The run once it has ended."""

    def final() -> FlowRun | None:
        found = client.read_flow_run(run)
        return found if found.state is not None and found.state.is_final() else None

    found: FlowRun = until_true(final, lambda: f"run {run} has not ended\n{served.told()}")
    return found


def process_of(served: Served, word: str) -> int:
    """The child of `trims serve`, or of its worker, with this word in its command."""
    children = _children(served.process.pid)
    grandchildren = [one for child in children for one in _children(child)]
    found = [pid for pid in (*children, *grandchildren) if word in _command(pid) and _lives(pid)]
    assert len(found) == 1, f"{word}: {found}\n{served.told()}"
    return found[0]


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _command(pid: int) -> list[str]:
    words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    return [] if any(word.endswith("tether.py") for word in words) else words


def _lives(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def working(served: Served, node: str) -> Path | None:
    """The mark of a unit that is being made, and whose process lives."""
    marks = served.begun.glob(f"{node}@*")
    open_ = [mark for mark in marks if mark.suffix[1:].isdigit() and Path("/proc", mark.suffix[1:]).exists()]
    return open_[0] if open_ else None


def test_a_run_goes_on_without_the_server_and_reports_once_it_is_back(
    served: Served, client: SyncPrefectClient
) -> None:
    run = start(client, served, "buckets")
    until_true(lambda: working(served, "scores"), served.told)
    served.process.send_signal(signal.SIGSTOP)  # nobody starts the server again for now
    os.kill(process_of(served, "server"), signal.SIGKILL)
    store = Store(served.root / "store")
    until_true(lambda: store.artifacts("buckets"), served.told)
    time.sleep(8)  # longer than its client tries
    served.process.send_signal(signal.SIGCONT)
    until_true(lambda: is_healthy(served.api_url()), served.told)
    found = ended(client, served, run)
    assert found.state_name == "Completed", served.told()
    assert re.search(r"server was killed by SIGKILL.*is started again", served.said())
    mine = FlowRunFilter(id=FlowRunFilterId(any_=[run]))

    def states() -> dict[str, str | None]:
        return {one.name: one.state_name for one in client.read_task_runs(flow_run_filter=mine)}

    until_true(
        lambda: states() == dict.fromkeys(DATA, "Completed"), lambda: f"{states()}\n{served.told()}", 30
    )
    (corpus,) = [one for one in client.read_task_runs(flow_run_filter=mine) if one.name == "corpus"]
    logs = client.read_logs(LogFilter(task_run_id=LogFilterTaskRunId(any_=[corpus.id])))
    assert "makes corpus-00000" in [log.message for log in logs], "what a node's process logs"


def test_after_a_crash_of_everything_the_next_run_starts_and_a_cancel_lets_it_save(
    served: Served, client: SyncPrefectClient
) -> None:
    start(client, served, "train")
    first = until_true(lambda: working(served, "train-trims-s0"), served.told)
    doomed = [process_of(served, word) for word in ("prefect.engine", "worker", "server")]
    before = served.said().count("the server is back")
    for pid in doomed:
        os.kill(pid, signal.SIGKILL)
    until_true(lambda: served.said().count("the server is back") > before, served.told)

    def started() -> UUID | None:
        try:
            return start(client, served, "train")
        except httpx.TransportError:  # what was back may have been the one that an earlier test had killed
            return None

    run = until_true(started, served.told)

    def second() -> Path | None:
        found = working(served, "train-trims-s0")
        return found if found != first else None

    mark: Path = until_true(second, served.told)
    client.set_flow_run_state(run, Cancelling(), force=True)
    assert ended(client, served, run).state_name == "Cancelled"
    until_true(mark.with_suffix(mark.suffix + ".saved").exists, served.told, 20)
