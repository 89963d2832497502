"""The flow `trims-rescore`: nothing for the same teacher; event, new artifacts and drift for another."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from fakes import flow_stages, stages
from fakes.hub import FakeHub
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterKey,
    FlowRunFilter,
    FlowRunFilterId,
)

from flows import rescore
from flows.pipeline import trims
from flows.rescore import trims_rescore
from trims_core.store import Store

pytestmark = pytest.mark.usefixtures("prefect_api")


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """Events as they are emitted; they still go to the server."""
    seen: list[tuple[str, dict[str, Any]]] = []
    really = rescore.emit_event

    def emit(event: str, resource: dict[str, str], payload: dict[str, Any]) -> Any:
        seen.append((event, payload))
        return really(event, resource=resource, payload=payload)

    monkeypatch.setattr(rescore, "emit_event", emit)
    return seen


def another_teacher(config: Path) -> None:
    """From now on the config's teacher is another one."""
    flow_stages.write_config(config.parent, teacher="another teacher")


def test_an_unchanged_teacher_means_no_work(config: Path, events: list[Any]) -> None:
    trims_rescore(config=str(config))
    stages.calls.clear()
    state = trims_rescore(config=str(config), return_state=True)
    assert (state.name, stages.calls, events) == ("Unchanged", [], [])
    assert "last told of" in (state.message or "")


def test_a_changed_teacher_is_announced_scored_and_compared(config: Path, events: list[Any]) -> None:
    trims_rescore(config=str(config))
    another_teacher(config)
    state = trims_rescore(config=str(config), return_state=True)
    result = state.result()
    assert result["teacher_changed"]
    assert [event for event, _ in events] == ["trims.teacher.changed", "trims.drift.measured"]
    assert events[0][1]["differs"] == ["checkpoint"]
    store = Store(config.parent / "store")
    assert len(store.artifacts("scores")) == len(store.artifacts("buckets")) == 2
    with get_client(sync_client=True) as client:
        (table,) = client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=["trims-tiny-drift"])),
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id])),
        )
    assert (table.type, "spearman" in str(table.data)) == ("table", True)
    assert result["drift"]["n_tokens"] == 2 * stages.N_SHARDS * stages.ROWS
    events.clear()
    assert trims_rescore(config=str(config), return_state=True).name == "Unchanged"
    assert events == []


def test_the_identity_told_of_is_that_of_the_commits_the_run_takes(config: Path, hub: FakeHub) -> None:
    first = hub.commit("models/org/student", {"config.json": "0"})
    hub.after_info = lambda _repo: hub.commit("models/org/student", {"config.json": str(len(hub.asked))})
    done = trims_rescore(config=str(config), overrides=["student.model=org/student"])["artifacts"]
    store = Store(config.parent / "store")
    revisions = {store.open(ref).manifest.full_config["student"]["revision"] for ref in done.values()}
    assert revisions == {first}


def test_a_pipeline_run_that_scored_first_does_not_swallow_the_change(
    config: Path, events: list[Any]
) -> None:
    trims_rescore(config=str(config))
    another_teacher(config)
    trims(config=str(config), until="buckets")
    result = trims_rescore(config=str(config))
    assert [event for event, _ in events] == ["trims.teacher.changed", "trims.drift.measured"]
    assert result["drift"] is not None


def test_a_crash_before_the_drift_tells_again(
    config: Path, events: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    trims_rescore(config=str(config))
    another_teacher(config)
    with monkeypatch.context() as broken:

        def crash(*_: Any) -> Any:
            raise RuntimeError("the machine went down")

        broken.setattr(rescore, "drift", crash)
        with pytest.raises(RuntimeError, match="went down"):
            trims_rescore(config=str(config))
    events.clear()
    result = trims_rescore(config=str(config))
    assert [event for event, _ in events] == ["trims.teacher.changed", "trims.drift.measured"]
    assert result["drift"] is not None


def test_another_k_is_no_other_teacher(config: Path, events: list[Any]) -> None:
    trims(config=str(config), until="buckets")  # scores of a teacher that is not used any more
    another_teacher(config)
    trims_rescore(config=str(config))
    state = trims_rescore(config=str(config), overrides=["buckets.k=4"], return_state=True)
    assert (state.name, events) == ("Unchanged", [])


def test_old_scores_that_were_removed_leave_no_drift_and_no_error(config: Path, events: list[Any]) -> None:
    first = trims_rescore(config=str(config))
    Store(config.parent / "store").clean(artifact=f"scores/{first['artifacts']['scores']['fingerprint']}")
    another_teacher(config)
    result = trims_rescore(config=str(config))
    assert (result["teacher_changed"], result["drift"]) == (True, None)
    assert [event for event, _ in events] == ["trims.teacher.changed"]


def test_the_first_scoring_has_nothing_to_compare_with(config: Path, events: list[Any]) -> None:
    result = trims_rescore(config=str(config))
    assert (result["teacher_changed"], result["drift"], events) == (False, None, [])
    assert list(result["artifacts"]) == ["corpus", "scores", "aligned", "buckets"]


def test_the_event_reaches_the_server(config: Path, prefect_api: str) -> None:
    trims_rescore(config=str(config))
    another_teacher(config)
    trims_rescore(config=str(config))
    wanted = {"filter": {"event": {"name": ["trims.teacher.changed"]}}}
    deadline = time.monotonic() + 30
    while not (found := httpx.post(f"{prefect_api}/events/filter", json=wanted).json()["events"]):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert found[0]["resource"]["prefect.resource.id"] == "trims.teacher.tiny"


@pytest.mark.e2e
def test_two_real_teachers_drift(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: list[Any]) -> None:
    from fakes.tiny_world import write_teacher, write_world

    config = write_world(tmp_path)
    overrides = ["scores.teacher=transformers"]
    first = trims_rescore(config=str(config), overrides=overrides)
    write_teacher(tmp_path / "teacher", seed=9)
    second = trims_rescore(config=str(config), overrides=overrides)
    assert (first["drift"], second["teacher_changed"]) == (None, True)
    assert events[0][1]["differs"] == ["checkpoint"]
    measured = second["drift"]
    assert measured["n_examples"] == 12
    assert -1.0 < measured["spearman"] < 1.0
    assert 0.0 < measured["share_changed_bucket"] < 1.0
