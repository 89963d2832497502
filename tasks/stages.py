"""One Prefect task per stage: config and parents' references in, the artifact's reference out.

A task calls `run_node`, shows progress while it runs and publishes one artifact at the end. A reused artifact
ends in the state "Cached"; Prefect's own result cache is not used, the store is the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from prefect import task
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
from tasks.progress import StageProgress
from trims_core.config import StageName, TrimsConfig
from trims_core.graph import Node
from trims_core.stage import Result, run_node
from trims_core.store import Artifact, ArtifactRef, Store

Refs = Mapping[str, ArtifactRef]
"""Role → reference."""
StageResult = State[Any] | ArtifactRef

install_readable_errors()
_stage_task: Final = task(
    retries=RETRIES,
    retry_delay_seconds=list(RETRY_DELAYS_S),
    retry_condition_fn=worth_a_retry,
    cache_policy=NO_CACHE,
    persist_result=False,
    task_run_name="{node.id}",
)


@_stage_task
def corpus(config: TrimsConfig, node: Node, parents: Refs, refresh: bool = False) -> StageResult:
    """The corpus: normalised examples with stable ids."""
    result = _run(config, node, parents, refresh)
    publish_card(_key(config, node), result.artifact, result.how)
    return _answer(result)


@_stage_task
def scores(config: TrimsConfig, node: Node, parents: Refs, refresh: bool = False) -> StageResult:
    """The teacher's score of every completion token."""
    result = _run(config, node, parents, refresh)
    publish_card(_key(config, node), result.artifact, result.how)
    return _answer(result)


@_stage_task
def buckets(config: TrimsConfig, node: Node, parents: Refs, refresh: bool = False) -> StageResult:
    """Student tokens with difficulty and bucket; shown as a table of the buckets' edges."""
    result = _run(config, node, parents, refresh)
    publish_table(_key(config, node), edge_rows(result.artifact), result.artifact, result.how)
    return _answer(result)


@_stage_task
def train(config: TrimsConfig, node: Node, parents: Refs, refresh: bool = False) -> StageResult:
    """One adapter (variant and seed)."""
    result = _run(config, node, parents, refresh)
    publish_card(_key(config, node), result.artifact, result.how)
    return _answer(result)


@_stage_task
def sweep(config: TrimsConfig, node: Node, parents: Refs, refresh: bool = False) -> StageResult:
    """One model over all tasks and thresholds; shown as a table of cells."""
    result = _run(config, node, parents, refresh)
    publish_table(_key(config, node), cell_rows(result.artifact), result.artifact, result.how)
    return _answer(result)


@_stage_task
def report(config: TrimsConfig, node: Node, parents: Refs, refresh: bool = False) -> StageResult:
    """The page and its figures; shown as its first picture."""
    result = _run(config, node, parents, refresh)
    publish_card(_key(config, node, "card"), result.artifact, result.how)
    for image in result.artifact.files("figures/", ".png")[:1]:
        publish_image(_key(config, node), image, result.artifact, result.how)
    return _answer(result)


STAGE_TASKS: Final[Mapping[StageName, Callable[..., StageResult]]] = {
    "corpus": corpus,
    "scores": scores,
    "buckets": buckets,
    "train": train,
    "sweep": sweep,
    "report": report,
}


def _run(config: TrimsConfig, node: Node, parents: Refs, refresh: bool) -> Result:
    store = Store(Path(config.store))
    opened: dict[str, Artifact] = {role: store.open(ref) for role, ref in parents.items()}
    progress = StageProgress(node.id, _key(config, node, "progress"))
    listeners.started(node.id)
    with interruption_ends_the_run(), progress:
        result = run_node(store, config, node, opened, refresh=refresh, progress=progress)
    listeners.finished(node.id, result.how, result.seconds)
    return result


def _key(config: TrimsConfig, node: Node, *more: str) -> str:
    return artifact_key("trims", config.name, node.id, *more)


def _answer(result: Result) -> StageResult:
    ref = result.artifact.ref()
    if result.how == "cached":
        return Completed(name="Cached", message=f"reused {ref['path']}", data=ref)
    return ref
