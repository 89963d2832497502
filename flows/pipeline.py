"""The pipeline as one flow: corpus ► scores ► aligned ► buckets ► train ► sweep ► grades ► report.

`until` names the last stage, `refresh` the stages to redo although a valid artifact exists; everything else
comes from the store where it is there already. The deployments of prefect.yaml are this flow with other
defaults. Nodes run one after the other: each uses the whole machine.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

from prefect import flow
from prefect.client.schemas.objects import State

from tasks.stages import StageResult, stage_task
from trims_core.config import TrimsConfig
from trims_core.graph import Node, build_graph, refreshed, select
from trims_core.latest import point_latest
from trims_core.pinning import pinned
from trims_core.settings import load_config
from trims_core.store import ArtifactRef, Store, refreshing


class Run(TypedDict):
    """What a run of the flow gives back."""

    artifacts: dict[str, ArtifactRef]
    """Node id → reference."""
    latest: str | None
    """The link to the newest report, if this run went that far."""


@flow(name="trims", flow_run_name="{config}", persist_result=False, validate_parameters=True)
def trims(
    config: str, overrides: list[str] | None = None, until: str = "report", refresh: list[str] | None = None
) -> Run:
    """Run the pipeline of a config file.

    Args:
        config: YAML file, relative to the project's folder.
        overrides: `a.b=c`, as with `--set`.
        until: last stage (or node, such as `train/trims-s0`).
        refresh: stages (or nodes) to redo although a valid artifact exists.
    """
    settings = load_config(config, overrides or [])
    graph = select(build_graph(settings), until)
    redo = refreshed(graph, refresh or [])
    settings = pinned(settings, Store(settings.store).digests, graph)
    done: dict[str, ArtifactRef] = {}
    command = [config, overrides or [], until, refresh or []]
    with refreshing(Path(settings.store), command, refresh=bool(redo)) as since:
        for node in graph:
            done[node.id] = run_stage(settings, node, done, since=since if node.id in redo else None)
    return Run(artifacts=done, latest=_publish_latest(settings, graph, done))


def run_stage(
    settings: TrimsConfig, node: Node, done: dict[str, ArtifactRef], *, since: str | None = None
) -> ArtifactRef:
    """The reference of one node's artifact, made from those of its parents; not older than `since`."""
    parents = {role: done[parent] for role, parent in node.parents.items()}
    return _unpack(stage_task(settings, node, parents, since=since))


def _unpack(answer: StageResult) -> ArtifactRef:
    """A reused artifact comes inside the state that shows it as cached."""
    if isinstance(answer, State):
        inner: ArtifactRef = answer.result()
        return inner
    return answer


def _publish_latest(
    settings: TrimsConfig, graph: tuple[Node, ...], done: dict[str, ArtifactRef]
) -> str | None:
    if graph[-1].stage != "report":
        return None
    report = Path(done[graph[-1].id]["path"])
    return str(point_latest(Path(settings.store), settings.name, report))
