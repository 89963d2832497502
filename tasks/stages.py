"""One Prefect task per step: a node with its config and its parents' references in, the artifact's out.

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
from tasks.artifacts import (
    artifact_key,
    cell_rows,
    edge_rows,
    publish_card,
    publish_image,
    publish_images,
    publish_table,
    summary,
)
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
from trims_core.config import StageName
from trims_core.graph import Step
from trims_core.stage import Result, load_spec
from trims_core.store import Artifact, ArtifactRef, Store

_BACKSTOP_S: Final = 60.0
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
    task_run_name="{step.id}",
)
def stage_task(step: Step, parents: Refs, since: str | None = None) -> StageResult:
    """The artifact of one node; `since`: what is older is made again."""
    result = _run(step, parents, since)
    publish = PUBLISHED_AS.get(step.node.stage, publish_card)
    with one_try():
        shown(f"the result of {step.id}", lambda: publish(_key(step), result.artifact, result.how))
    return _answer(result)


def with_limit(step: Step) -> Task[Any, StageResult]:
    """The task, with the stage's limit of time. Processes keep it themselves: theirs have time to save."""
    limit_s = step.config.resources.of(step.node.stage).timeout_s
    if limit_s is None:
        return stage_task
    if load_spec(step.node.stage).apart or step.config.runner != "sequential":
        limit_s += runner.grace_s(step.config) + _BACKSTOP_S
    return stage_task.with_options(timeout_seconds=limit_s)


def _publish_edges(key: str, artifact: Artifact, how: str) -> None:
    publish_table(key, edge_rows(artifact), summary(artifact, how))


def _publish_cells(key: str, artifact: Artifact, how: str) -> None:
    if "cells.json" not in artifact.manifest.entries:  # grades of rollouts
        publish_card(key, artifact, how)
        return
    publish_table(key, cell_rows(artifact), summary(artifact, how))


def _publish_report(key: str, artifact: Artifact, how: str) -> None:
    publish_card(f"{key}-card", artifact, how)
    images, about = artifact.files("figures/", ".png"), summary(artifact, how)
    lead = artifact.files("figures/curve", ".png")[:1]  # under the report's own key
    for image in lead:
        publish_image(key, image, about)
    publish_images(key, [image for image in images if image not in lead], about)


PUBLISHED_AS: Final[Mapping[StageName, Callable[[str, Artifact, str], None]]] = {
    "buckets": _publish_edges,
    "grades": _publish_cells,
    "report": _publish_report,
}
"""What Prefect's UI shows of a stage where that is not its card."""


def _run(step: Step, parents: Refs, since: str | None) -> Result:
    store = Store(Path(step.config.store))
    opened: dict[str, Artifact] = {role: store.open(ref) for role, ref in parents.items()}
    progress = StageProgress(step.id, _key(step, "progress"))
    listeners.started(step.id)
    with interruption_ends_the_run(), progress:
        result = runner.make(store, step.config, step.node, opened, since=since, progress=progress)
    listeners.finished(step.id, result.how, result.seconds)
    return result


def _key(step: Step, *more: str) -> str:
    return artifact_key("trims", step.config.name, step.id, *more)


def _answer(result: Result) -> StageResult:
    ref = result.artifact.ref()
    if result.how == "cached":
        return Completed(name="Cached", message=f"reused {ref['path']}", data=ref)
    return ref
