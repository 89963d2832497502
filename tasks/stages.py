"""One Prefect task per node: config and parents' references in, the artifact's reference out.

It calls `run_node`, shows progress while it runs and publishes one artifact at the end. A reused artifact
ends in the state "Cached"; Prefect's own result cache is not used, the store is the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed

from tasks import listeners
from tasks.artifacts import artifact_key, cell_rows, edge_rows, publish_card, publish_image, publish_table
from tasks.failures import (
    RETRIES,
    RETRY_DELAYS_S,
    install_readable_errors,
    interruption_ends_the_run,
    worth_a_retry,
)
from tasks.outages import one_try, shown
from tasks.progress import StageProgress
from trims_core import runner
from trims_core.config import StageName, TrimsConfig
from trims_core.graph import Node
from trims_core.stage import Result, load_spec
from trims_core.store import Artifact, ArtifactRef, Store

_BACKSTOP_S: Final = 60.0
_ANALYSIS_FIGURES: Final = ("trajectories", "order", "calibration")
Refs = Mapping[str, ArtifactRef]
"""Role → reference."""
StageResult = State[Any] | ArtifactRef

install_readable_errors()


@task(
    retries=RETRIES,
    retry_delay_seconds=list(RETRY_DELAYS_S),
    retry_condition_fn=worth_a_retry,
    cache_policy=NO_CACHE,
    persist_result=False,
    task_run_name="{node.id}",
)
def stage_task(config: TrimsConfig, node: Node, parents: Refs, since: str | None = None) -> StageResult:
    """The artifact of one node; `since`: what is older is made again."""
    result = _run(config, node, parents, since)
    publish = PUBLISHED_AS.get(node.stage, publish_card)
    with one_try():
        shown(f"the result of {node.id}", lambda: publish(_key(config, node), result.artifact, result.how))
    return _answer(result)


def with_limit(config: TrimsConfig, node: Node) -> Task[Any, StageResult]:
    """The task, with the stage's limit of time. Processes keep it themselves: theirs have time to save."""
    limit_s = config.resources.of(node.stage).timeout_s
    if limit_s is None:
        return stage_task
    if load_spec(node.stage).apart or config.runner != "sequential":
        limit_s += runner.grace_s(config) + _BACKSTOP_S
    return stage_task.with_options(timeout_seconds=limit_s)


def _publish_edges(key: str, artifact: Artifact, how: str) -> None:
    publish_table(key, edge_rows(artifact), artifact, how)


def _publish_cells(key: str, artifact: Artifact, how: str) -> None:
    if "cells.json" not in artifact.manifest.entries:  # grades of rollouts
        publish_card(key, artifact, how)
        return
    publish_table(key, cell_rows(artifact), artifact, how)


def _publish_report(key: str, artifact: Artifact, how: str) -> None:
    publish_card(f"{key}-card", artifact, how)
    for image in artifact.files("figures/curve", ".png")[:1]:
        publish_image(key, image, artifact, how)
    for kind in _ANALYSIS_FIGURES:
        for image in artifact.files(f"figures/{kind}-", ".png"):
            publish_image(f"{key}-{artifact_key(image.stem)}", image, artifact, how)


PUBLISHED_AS: Final[Mapping[StageName, Callable[[str, Artifact, str], None]]] = {
    "buckets": _publish_edges,
    "grades": _publish_cells,
    "report": _publish_report,
}
"""What Prefect's UI shows of a stage where that is not its card."""


def _run(config: TrimsConfig, node: Node, parents: Refs, since: str | None) -> Result:
    store = Store(Path(config.store))
    opened: dict[str, Artifact] = {role: store.open(ref) for role, ref in parents.items()}
    progress = StageProgress(node.id, _key(config, node, "progress"))
    listeners.started(node.id)
    with interruption_ends_the_run(), progress:
        result = runner.make(store, config, node, opened, since=since, progress=progress)
    listeners.finished(node.id, result.how, result.seconds)
    return result


def _key(config: TrimsConfig, node: Node, *more: str) -> str:
    return artifact_key("trims", config.name, node.id, *more)


def _answer(result: Result) -> StageResult:
    ref = result.artifact.ref()
    if result.how == "cached":
        return Completed(name="Cached", message=f"reused {ref['path']}", data=ref)
    return ref
