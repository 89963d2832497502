"""`trims serve`: a real server, worker and deployments; runs through them with the real stages."""

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

import pytest
from fakes.tiny_world import write_world
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterId,
)
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings

from trims_core.store import Store

pytestmark = pytest.mark.e2e
DEPLOYMENTS = {
    "trims/full-pipeline",
    "trims/score",
    "trims/bucket",
    "trims/train",
    "trims/evaluate",
    "trims-ablations/default",
    "trims-rescore/nightly",
}


@dataclass(frozen=True)
class Served:
    """A running `trims serve`."""

    process: subprocess.Popen[str]
    api_url: str
    home: Path

    def logs(self) -> str:
        """What the server and the worker said, for a failing test."""
        found = sorted(self.home.rglob("*.log"))
        return "\n".join(f"== {path.name}\n{path.read_text(errors='replace')[-3000:]}" for path in found)


def until_true(condition: Callable[[], Any], timeout_s: float, about: str) -> Any:
    """The condition's value once it is true."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{about}: not within {timeout_s:.0f} s"
        time.sleep(0.2)
    return found


def _hear_ctrl_c() -> None:
    """Also where the tests themselves run in the background, with Ctrl-C ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture(scope="module")
def served(project_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """`trims serve` in the project's folder, on a free port, with a PREFECT_HOME of its own."""
    home = tmp_path_factory.mktemp("serve")
    env = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    env |= {"PYTHONPATH": str(project_root), "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
    env["PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS"] = "2"
    command = [sys.executable, "-m", "flows.cli", "serve", "--port", "0", "--home", str(home)]
    process = subprocess.Popen(
        command,
        cwd=project_root,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=_hear_ctrl_c,
    )
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if match := re.search(r"PREFECT_API_URL=(\S+)", line):
            break
    else:
        pytest.fail("trims serve ended:\n" + "".join(said))
    yield Served(process, match.group(1), home)
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=100)


@pytest.fixture
def client(served: Served) -> Iterator[SyncPrefectClient]:
    with temporary_settings({PREFECT_API_URL: served.api_url}), get_client(sync_client=True) as found:
        yield found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The config of a tiny run: real data, teacher and student."""
    return write_world(tmp_path_factory.mktemp("world"))


def deployment_run(served: Served, name: str, **parameters: str) -> UUID:
    """What a person types: `prefect deployment run NAME --param …`; gives back the flow run's id."""
    command = [sys.executable, "-m", "prefect", "deployment", "run", name]
    for key, value in parameters.items():
        command += ["--param", f"{key}={value}"]
    env = {**os.environ, "PREFECT_API_URL": served.api_url, "PREFECT_HOME": str(served.home)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    match = re.search(r"flow-run/([0-9a-f-]{36})", done.stdout.replace("\n", ""))
    assert match, done.stdout + done.stderr
    return UUID(match.group(1))


def finished(client: SyncPrefectClient, served: Served, run: UUID, timeout_s: float) -> FlowRun:
    """The flow run once it has ended."""

    def ended() -> FlowRun | None:
        found = client.read_flow_run(run)
        return found if found.state is not None and found.state.is_final() else None

    found: FlowRun = until_true(ended, timeout_s, f"flow run {run}\n{served.logs()}")
    return found


def task_states(client: SyncPrefectClient, run: UUID, nodes: set[str]) -> dict[str, str | None]:
    """Node → name of the state its task ended in."""
    wanted = FlowRunFilter(id=FlowRunFilterId(any_=[run]))

    def all_ended() -> dict[str, str | None]:
        found = client.read_task_runs(flow_run_filter=wanted)
        ended = {one.name: one.state_name for one in found if one.state and one.state.is_final()}
        return ended if ended.keys() >= nodes else {}

    states: dict[str, str | None] = until_true(all_ended, 30, "task runs")
    return states


def test_all_deployments_are_there_and_the_schedule_waits(served: Served, client: SyncPrefectClient) -> None:
    found = {one.name: one for one in client.read_deployments()}
    flows = {flow.id: flow.name for flow in client.read_flows()}
    assert {f"{flows[one.flow_id]}/{one.name}" for one in found.values()} == DEPLOYMENTS
    assert {one.work_pool_name for one in found.values()} == {"trims"}
    assert [schedule.active for schedule in found["nightly"].schedules] == [False]


def test_an_active_schedule_creates_runs(served: Served, client: SyncPrefectClient) -> None:
    nightly = client.read_deployment_by_name("trims-rescore/nightly")
    (schedule,) = nightly.schedules
    mine = DeploymentFilter(id=DeploymentFilterId(any_=[nightly.id]))
    assert client.read_flow_runs(deployment_filter=mine) == []
    client.update_deployment_schedule(nightly.id, schedule.id, active=True)
    runs = until_true(lambda: client.read_flow_runs(deployment_filter=mine), 90, "scheduled runs")
    client.update_deployment_schedule(nightly.id, schedule.id, active=False)
    assert {one.auto_scheduled for one in runs} == {True}


def test_a_deployed_run_completes_and_another_reuses_its_scores(
    served: Served, client: SyncPrefectClient, world: Path
) -> None:
    deployed = client.read_deployment_by_name("trims/full-pipeline").id
    run = client.create_flow_run_from_deployment(deployed, parameters={"config": str(world)}).id
    ended = finished(client, served, run, 400)
    assert ended.state_name == "Completed", f"{ended.state}\n{served.logs()}"
    page = world.parent / "store" / "latest" / "tiny" / "index.html"
    assert "<html" in page.read_text(encoding="utf-8")[:500]
    store = Store(world.parent / "store")
    (scores,), (buckets,) = store.artifacts("scores"), store.artifacts("buckets")
    again = deployment_run(
        served, "trims/full-pipeline", config=str(world), until="buckets", refresh='["buckets"]'
    )
    ended = finished(client, served, again, 150)
    assert ended.state_name == "Completed", f"{ended.state}\n{served.logs()}"
    states = task_states(client, again, {"corpus", "scores", "aligned", "buckets"})
    assert states == dict.fromkeys(("corpus", "scores", "aligned"), "Cached") | {"buckets": "Completed"}
    (scores_now,), (buckets_now,) = store.artifacts("scores"), store.artifacts("buckets")
    assert scores_now.manifest == scores.manifest
    assert buckets_now.manifest.created_at > buckets.manifest.created_at
    assert buckets_now.content_digest == buckets.content_digest


def test_ctrl_c_stops_server_and_worker(served: Served) -> None:
    """Last in this file: it ends what the others use."""
    children = _descendants(served.process.pid)
    assert len(children) >= 2
    served.process.send_signal(signal.SIGINT)
    said, _ = served.process.communicate(timeout=100)
    assert served.process.returncode == 0, said
    assert "stopped" in said
    assert "Traceback" not in said
    assert [pid for pid in children if _lives(pid)] == []


def _descendants(pid: int) -> list[int]:
    direct = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return direct + [grandchild for child in direct for grandchild in _descendants(child)]


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
