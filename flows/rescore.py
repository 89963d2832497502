"""Whether the teacher is another one than was last told of; if so, new scores and buckets, and the drift.

1. compare the teacher's identity with the one last announced for a config of this name
2. tell (`trims.teacher.changed`), score, align and bucket again, measure and tell the drift
3. remember the identity as announced: a crash before this line tells again

The old artifacts stay. Nothing is retrained: a person, or an automation on the events, decides.
Covered: local checkpoints and hub models, by the files that are loaded. Not covered: a server whose model
changes behind the same name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypedDict

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.events import emit_event
from prefect.states import Completed

from flows.pipeline import run_nodes
from tasks.drift import drift
from tasks.outages import outlasted, shown
from trims_core.announced import Announced, read_announced, write_announced
from trims_core.config import TrimsConfig
from trims_core.errors import StoreError
from trims_core.graph import build_graph, node_named, select
from trims_core.pinning import pinned
from trims_core.settings import load_config
from trims_core.stage import load_spec
from trims_core.store import ArtifactRef, Store

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
    """Score and bucket again if the teacher is another one than was last told of; else end in seconds.

    Args:
        config: YAML file, relative to the project's folder.
        overrides: `a.b=c`, as with `--set`.
    """
    with outlasted():
        return _rescored(load_config(config, overrides or []))


def _rescored(settings: TrimsConfig) -> Rescored | State[Rescored]:
    store = Store(settings.store)
    settings = pinned(settings, store.digests, select(build_graph(settings), "buckets"))
    identity = _identity(settings, store)
    last = read_announced(store.root, settings.name)
    if last is not None and dict(last.identity) == identity:
        message = f"teacher {settings.given_scores.model} is the one last told of"
        get_run_logger().info(message)
        nothing = Rescored(teacher_changed=False, drift=None, artifacts={})
        return Completed(name="Unchanged", message=message, data=nothing)
    return _rescore(settings, store, identity, last)


def _identity(settings: TrimsConfig, store: Store) -> dict[str, str]:
    """Who the teacher is, as the key of its scores says."""
    spec = load_spec("scores")
    return dict(
        spec.inputs(spec.settings(settings, node_named(build_graph(settings), "scores")), store.digests)
    )


def _rescore(
    settings: TrimsConfig, store: Store, identity: dict[str, str], last: Announced | None
) -> Rescored:
    if last is None:
        get_run_logger().info("no teacher was told of before: nothing to compare with")
    else:
        _announce(settings, last.identity, identity)
    done = run_nodes(settings, select(build_graph(settings), "buckets"))
    measured = None if last is None else _drift(settings, store, last, done)
    write_announced(store.root, settings.name, Announced(identity, done["corpus"], done["scores"]))
    return Rescored(teacher_changed=last is not None, drift=measured, artifacts=done)


def _drift(
    settings: TrimsConfig, store: Store, last: Announced, done: dict[str, ArtifactRef]
) -> dict[str, Any] | None:
    """Between the buckets that today's settings make of the old scores and of the new ones; None where the
    old scores are not in the store any more."""
    before: dict[str, ArtifactRef] = {"corpus": last.corpus, "scores": last.scores}
    try:
        for ref in before.values():
            store.open(ref)
    except StoreError as error:
        get_run_logger().warning("no drift: %s", error)
        return None
    before = run_nodes(settings, select(build_graph(settings), "buckets"), given=before)
    measured: dict[str, Any] = drift(settings, before["buckets"], done["buckets"])
    payload = {**measured, "new": done["scores"]["fingerprint"]}
    _tell(settings, DRIFT_EVENT, payload)
    return measured


def _announce(settings: TrimsConfig, old: Mapping[str, str], new: Mapping[str, str]) -> None:
    """Emit the event, saying what of the teacher's identity differs."""
    differing = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    get_run_logger().info("teacher %s changed: %s", settings.given_scores.model, ", ".join(differing))
    payload = {"differs": differing, "old": dict(old), "new": dict(new)}
    _tell(settings, CHANGED_EVENT, payload)


def _tell(settings: TrimsConfig, event: str, payload: dict[str, Any]) -> None:
    """Emit an event; automations match on its resource."""
    resource = {
        "prefect.resource.id": f"trims.teacher.{settings.name}",
        "prefect.resource.name": settings.given_scores.model,
    }
    shown(event, lambda: emit_event(event, resource=resource, payload=payload))
