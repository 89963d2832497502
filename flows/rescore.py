"""Whether the teacher changed since its scores were made; if so, new scores and buckets, and the drift.

The old artifacts stay. Nothing is retrained: a person, or an automation on the events, decides.
Covered: local checkpoints (digest of their files) and hub models (commit). Not covered: a server whose model
changes behind the same name.
"""

from __future__ import annotations

from typing import Any, Final, TypedDict

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.events import emit_event
from prefect.states import Completed

from flows.pipeline import run_stage
from tasks.drift import drift
from trims_core.config import TrimsConfig
from trims_core.graph import Node, build_graph, select
from trims_core.plan import plan
from trims_core.settings import load_config
from trims_core.stage import load_spec
from trims_core.store import Artifact, ArtifactRef, StageKey, Store

CHANGED_EVENT: Final = "trims.teacher.changed"
DRIFT_EVENT: Final = "trims.drift.measured"


class Rescored(TypedDict):
    """What a run of the flow gives back."""

    teacher_changed: bool
    drift: dict[str, Any] | None
    """None where there was nothing to compare with."""
    artifacts: dict[str, ArtifactRef]


@flow(name="trims-rescore", flow_run_name="{config}", persist_result=False)
def trims_rescore(config: str, overrides: list[str] | None = None) -> Rescored | State[Rescored]:
    """Score and bucket again if the teacher changed; else end in seconds.

    Args:
        config: YAML file, relative to the project's folder.
        overrides: `a.b=c`, as with `--set`.
    """
    settings = load_config(config, overrides or [])
    store = Store(settings.store)
    rows = plan(store, settings, "buckets")
    if all(row.state == "hit" for row in rows):
        message = f"teacher {settings.scores.model} is unchanged: its scores and buckets are in the store"
        get_run_logger().info(message)
        nothing = Rescored(teacher_changed=False, drift=None, artifacts={})
        return Completed(name="Unchanged", message=message, data=nothing)
    return _rescore(settings, store, select(build_graph(settings), "buckets"))


def _rescore(settings: TrimsConfig, store: Store, graph: tuple[Node, ...]) -> Rescored:
    corpus, scores, buckets = graph
    done = {corpus.id: run_stage(settings, corpus, {})}
    opened = store.open(done[corpus.id])
    key = load_spec("scores").key(settings, scores, {"corpus": opened}, store.digests)
    previous = previous_scores(store, opened, key)
    changed = previous is not None and dict(previous.manifest.inputs) != dict(key.inputs)
    if previous is not None and changed:
        _announce(settings, previous, key)
    for node in (scores, buckets):
        done[node.id] = run_stage(settings, node, done)
    if previous is None:
        get_run_logger().info("no earlier scores of this corpus: nothing to compare with")
        return Rescored(teacher_changed=False, drift=None, artifacts=done)
    before = run_stage(settings, buckets, {corpus.id: done[corpus.id], scores.id: previous.ref()})
    measured = drift(settings, before, done[buckets.id])
    emit_event(DRIFT_EVENT, resource=_resource(settings), payload={**measured, "new": key.fingerprint})
    return Rescored(teacher_changed=changed, drift=measured, artifacts=done)


def previous_scores(store: Store, corpus: Artifact, key: StageKey) -> Artifact | None:
    """The newest scores of the same corpus content that are not of this key."""
    for artifact in store.artifacts("scores"):
        parent = artifact.manifest.parents.get("corpus")
        same_corpus = parent is not None and parent["content_digest"] == corpus.content_digest
        if same_corpus and artifact.fingerprint != key.fingerprint:
            return artifact
    return None


def _announce(settings: TrimsConfig, previous: Artifact, key: StageKey) -> None:
    """Emit the event, saying what of the teacher's identity differs."""
    old, new = dict(previous.manifest.inputs), dict(key.inputs)
    differing = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    get_run_logger().info("teacher %s changed: %s", settings.scores.model, ", ".join(differing))
    payload = {"differs": differing, "old": old, "new": new, "old_scores": previous.fingerprint}
    emit_event(CHANGED_EVENT, resource=_resource(settings), payload=payload)


def _resource(settings: TrimsConfig) -> dict[str, str]:
    """What automations match on."""
    return {
        "prefect.resource.id": f"trims.teacher.{settings.name}",
        "prefect.resource.name": settings.scores.model,
    }
