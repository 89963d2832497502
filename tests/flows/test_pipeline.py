"""The flow `trims`: order, until, refresh, reuse, retries, errors, artifacts. Fake stages, real server."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from fakes import flow_stages, stages
from fakes.hub import FakeHub
from prefect import runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import Artifact as PrefectArtifact
from prefect.client.schemas.objects import TaskRun
from prefect.exceptions import CancelledRun, TerminationSignal
from prefect.states import Cancelling
from prefect.utilities.schema_tools.validation import validate

from flows.pipeline import trims
from tasks import stages as stages_under_prefect
from tasks.cancelling import POLL_VARIABLE
from trims_core.config import STAGES, TrimsConfig
from trims_core.errors import ConfigError, CorpusError, InterruptedRunError, TeacherUnavailableError
from trims_core.stage import Work
from trims_core.store import Store

pytestmark = pytest.mark.usefixtures("prefect_api")
DATA = ["corpus", "scores", "aligned", "buckets"]
MODELS = ["train/trims-s0", "sweep/untuned", "sweep/trims-s0", "grades/untuned", "grades/trims-s0"]
NODES = [*DATA, *MODELS, "analysis", "report"]


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
    quick = stages_under_prefect.stage_task.with_options(retry_delay_seconds=0)
    monkeypatch.setattr(stages_under_prefect, "stage_task", quick)


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


def test_a_cancel_that_no_worker_passes_on_ends_the_run_as_cancelled(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(POLL_VARIABLE, "0.2")
    cancelled: list[Any] = []

    def cancel(_work: Work) -> None:
        cancelled.append(UUID(runtime.flow_run.id))
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(cancelled[0], Cancelling(), force=True)
        time.sleep(30)

    flow_stages.before_scores.append(cancel)
    began = time.monotonic()
    with pytest.raises(CancelledRun):
        run(config, until="scores")
    assert time.monotonic() - began < 25, "the work went on"
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(cancelled[0]).state_name == "Cancelled"
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


@pytest.mark.parametrize("kind", ["markdown", "table", "image"])
def test_a_publish_that_fails_does_not_stop_a_stage(
    config: Path, kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("no room")

    monkeypatch.setattr(f"tasks.artifacts.create_{kind}_artifact", refuse)
    result = run(config)
    assert list(result["artifacts"]) == NODES
    assert "Prefect does not show the result of" in caplog.text
    assert "no room" in caplog.text
    monkeypatch.undo()


def test_given_settings_stand_in_for_the_files_and_overrides_win(config: Path) -> None:
    run(config, until="buckets")
    worked_on()
    run(config, until="buckets", settings={"buckets": {"k": 4}})
    assert worked_on() == ["buckets"]
    run(config, until="buckets", settings={"buckets": {"k": 5}}, overrides=["buckets.k=4"])
    assert worked_on() == []


def test_an_unknown_field_of_given_settings_is_a_readable_error(config: Path) -> None:
    with pytest.raises(ConfigError, match=r"buckets\.kk: unknown key; did you mean"):
        run(config, settings={"buckets": {"kk": 4}})


def test_until_takes_a_node_and_is_a_menu_of_stages(config: Path) -> None:
    run(config, until="train/trims-s0")
    assert worked_on()[-1] == "train/trims-s0"
    form = trims.parameters.model_dump()
    menu, text = form["properties"]["until"]["anyOf"]
    assert menu["enum"] == list(STAGES)
    assert text == {"type": "string"}


@pytest.mark.parametrize(
    ("settings", "passes"),
    [
        ({"buckets": {"k": 4}, "train": {"variants": {"trims": {"rho": 0.3}}}}, True),
        ({"corpus": {"limit": None}}, True),
        ({"buckets": {"k": "four"}}, False),
        ({"sweep": {"rule": "guess"}}, False),
    ],
)
def test_the_form_of_settings_asks_for_nothing_and_knows_every_field(
    settings: dict[str, Any], passes: bool
) -> None:
    form = trims.parameters.model_dump()
    wrong = validate({"config": "x", "settings": settings}, form, allow_none_with_default=True)
    assert bool(wrong) != passes
    shown = form["properties"]["settings"]["properties"]
    assert shown.keys() == TrimsConfig.model_fields.keys()
    assert not _mentions(shown, "required") and not _mentions(shown, "default")


def _mentions(schema: Any, word: str) -> bool:
    """Whether any object of a JSON schema has this key; names of properties do not count."""
    if isinstance(schema, list):
        return any(_mentions(one, word) for one in schema)
    if not isinstance(schema, dict):
        return False
    return word in schema or any(_mentions(one, word) for one in schema.values())


def test_tasks_have_no_tags() -> None:
    """Prefect asks the server for a place per tag before each task, and fails it while the server is away."""
    assert stages_under_prefect.stage_task.tags == set()
