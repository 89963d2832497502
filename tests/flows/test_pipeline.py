"""The flow `trims`: order, until, refresh, reuse, retries, errors, artifacts. Fake stages, real server."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes import flow_stages, stages
from fakes.hub import FakeHub
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import Artifact as PrefectArtifact
from prefect.client.schemas.objects import TaskRun
from prefect.exceptions import TerminationSignal

from flows import pipeline
from flows.pipeline import trims
from tasks.stages import stage_task
from trims_core.errors import ConfigError, CorpusError, InterruptedRunError, TeacherUnavailableError
from trims_core.stage import Work
from trims_core.store import Store

pytestmark = pytest.mark.usefixtures("prefect_api")
DATA = ["corpus", "scores", "aligned", "buckets"]
MODELS = ["train/trims-s0", "sweep/untuned", "sweep/trims-s0", "grades/untuned", "grades/trims-s0"]
NODES = [*DATA, *MODELS, "report"]


def run(config: Path, **parameters: Any) -> Any:
    return trims(config=str(config), **parameters)


def worked_on() -> list[str]:
    """Nodes that were really made since the last call, in order."""
    nodes = list(dict.fromkeys(call.rpartition(":")[0] for call in stages.calls))
    stages.calls.clear()
    return nodes


def until_true(condition: Callable[[], Any], timeout_s: float = 30.0) -> Any:
    """Prefect stores task runs and their states a moment after they happened."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, "not within time"
        time.sleep(0.1)
    return found


def task_runs(flow_run_id: Any) -> dict[str, TaskRun]:
    with get_client(sync_client=True) as client:
        wanted = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
        return {run.name: run for run in client.read_task_runs(flow_run_filter=wanted)}


def artifacts(flow_run_id: Any) -> dict[str, PrefectArtifact]:
    with get_client(sync_client=True) as client:
        wanted = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
        return {found.key or "": found for found in client.read_artifacts(flow_run_filter=wanted)}


def test_the_whole_graph_runs_in_order_and_the_link_leads_to_the_report(config: Path) -> None:
    result = run(config)
    assert worked_on() == NODES
    assert list(result["artifacts"]) == NODES
    assert (Path(result["latest"]) / "index.html").read_text() == "<html>report</html>"


def test_a_second_run_makes_nothing_and_shows_cached_tasks(config: Path) -> None:
    first = run(config)
    worked_on()
    state = trims(config=str(config), return_state=True)
    assert worked_on() == []
    assert state.result()["artifacts"] == first["artifacts"]
    flow_run = state.state_details.flow_run_id
    found = until_true(
        lambda: (
            (runs := task_runs(flow_run)).keys() == set(NODES)
            and all(one.state and one.state.is_final() for one in runs.values())
            and runs
        )
    )
    assert {one.state_name for one in found.values()} == {"Cached"}


def test_until_stops_after_that_stage(config: Path) -> None:
    result = run(config, until="buckets")
    assert worked_on() == DATA
    assert result["latest"] is None


def test_refresh_redoes_the_named_stage_only(config: Path) -> None:
    run(config, until="buckets")
    worked_on()
    run(config, until="buckets", refresh=["buckets"])
    assert worked_on() == ["buckets"]


def test_overrides_count_like_set(config: Path) -> None:
    run(config, until="buckets")
    worked_on()
    run(config, until="buckets", overrides=["buckets.k=4"])
    assert worked_on() == ["buckets"]


def test_a_run_takes_one_commit_of_a_student_while_main_moves(config: Path, hub: FakeHub) -> None:
    first = hub.commit("models/org/student", {"config.json": "0"})
    hub.after_info = lambda _repo: hub.commit("models/org/student", {"config.json": str(len(hub.asked))})
    result = run(config, overrides=["student.model=org/student"])
    store = Store(config.parent / "store")
    revisions = {
        name: store.open(ref).manifest.full_config["student"]["revision"]
        for name, ref in result["artifacts"].items()
    }
    assert revisions == dict.fromkeys(NODES, first)


def test_wrong_words_fail_before_any_work(config: Path) -> None:
    with pytest.raises(ConfigError, match="buckets"):
        run(config, until="bukets")
    with pytest.raises(ConfigError, match="refresh"):
        run(config, until="scores", refresh=["train"])
    assert worked_on() == []


def test_results_are_shown_as_artifacts_with_valid_keys(config: Path) -> None:
    state = trims(config=str(config), return_state=True)
    found = artifacts(state.state_details.flow_run_id)
    kinds = {key: artifact.type for key, artifact in found.items()}
    assert kinds["trims-tiny-corpus"] == "markdown"
    assert kinds["trims-tiny-buckets"] == "table"
    assert kinds["trims-tiny-sweep-untuned"] == "markdown"
    assert kinds["trims-tiny-grades-untuned"] == "table"
    assert kinds["trims-tiny-report"] == "image"
    progress = found["trims-tiny-scores-progress"]
    assert (progress.type, progress.data) == ("progress", 100.0)


def _raise(error: Exception) -> Callable[[Work], None]:
    def failing(_work: Work) -> None:
        raise error

    return failing


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries without waiting."""
    monkeypatch.setattr(pipeline, "stage_task", stage_task.with_options(retry_delay_seconds=0))


@pytest.mark.usefixtures("impatient")
def test_retryable_errors_are_tried_again(config: Path) -> None:
    flow_stages.before_scores.append(_raise(TeacherUnavailableError("the teacher died")))
    run(config, until="scores")
    assert worked_on() == ["corpus", "scores"]


@pytest.mark.usefixtures("impatient")
def test_other_errors_fail_at_once_with_their_message_and_no_traceback(
    config: Path, caplog: pytest.LogCaptureFixture
) -> None:
    flow_stages.before_scores += [_raise(CorpusError("line 3 is broken")), _raise(CorpusError("second try"))]
    with pytest.raises(CorpusError, match="line 3 is broken"):
        run(config, until="scores")
    assert "line 3 is broken" in caplog.text
    assert "Traceback" not in caplog.text


@pytest.mark.usefixtures("impatient")
def test_an_interruption_ends_the_run_and_the_same_run_continues(config: Path) -> None:
    flow_stages.before_scores.append(_raise(InterruptedRunError("stopped by SIGTERM")))
    received: list[int] = []
    import signal

    before = signal.signal(signal.SIGTERM, lambda number, _frame: received.append(number))
    try:
        with pytest.raises(TerminationSignal):
            run(config, until="scores")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert worked_on() == ["corpus"]
    run(config, until="scores")
    assert worked_on() == ["scores"]


def test_a_server_that_refuses_progress_does_not_stop_a_stage(
    config: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import httpx

    def refuse(*_: Any, **__: Any) -> None:
        raise httpx.ConnectError("connection refused")

    monkeypatch.setattr("tasks.progress.create_progress_artifact", refuse)
    run(config, until="scores")
    assert caplog.text.count("does not take progress") == 2  # once per stage that reported
