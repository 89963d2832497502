"""The pipeline as one flow: corpus ► scores ► aligned ► buckets ► train ► sweep ► grades ► analysis ► report,
with tokens ► rollouts where a method needs them.

`until` names the last stage, `refresh` the stages to redo although a valid artifact exists; everything else
comes from the store where it is there already. The deployments of prefect.yaml are this flow with other
defaults. Nodes run one after the other, as each may use the whole machine, or side by side (`runner`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, TypeVar

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.exceptions import TerminationSignal
from prefect.futures import PrefectFuture, wait
from prefect.states import Cancelled

from flows.parameters import Place, SomeSettings
from tasks.cancelling import ended_by_a_cancel
from tasks.outages import outlasted
from tasks.stages import StageResult, with_limit
from trims_core import runner
from trims_core.config import TrimsConfig
from trims_core.graph import Node, Step, build_graph, refreshed, select, steps_of
from trims_core.latest import point_latest
from trims_core.pinning import pinned
from trims_core.settings import load_config
from trims_core.store import ArtifactRef, Store, refreshing

T = TypeVar("T")


class Run(TypedDict):
    """What a run of the flow gives back."""

    artifacts: dict[str, ArtifactRef]
    """Node id → reference."""
    latest: str | None
    """The link to the newest report, if this run went that far."""


@flow(name="trims", flow_run_name="{config}", persist_result=False, validate_parameters=True)
def trims(
    config: str,
    overrides: list[str] | None = None,
    until: Place = "report",
    refresh: list[Place] | None = None,
    settings: SomeSettings = None,
) -> Run | State[Any]:
    """Run the pipeline of a config file.

    Args:
        config: YAML file, relative to the project's folder.
        overrides: `a.b=c`, as with `--set`.
        until: last stage (or node, such as `train/trims-s0`).
        refresh: stages (or nodes) to redo although a valid artifact exists.
        settings: fields in place of the file's; overrides win over them.
    """

    def run() -> Run:
        chosen = load_config(config, overrides or [], given=settings)
        graph = select(build_graph(chosen), until)
        redo = refreshed(graph, refresh or [])
        chosen = pinned(chosen, Store(chosen.store).digests, graph)
        command = [config, overrides or [], until, refresh or [], settings or {}]
        with refreshing(Path(chosen.store), command, refresh=bool(redo)) as since:
            done = run_nodes(chosen, graph, dict.fromkeys(redo, since))
        return Run(artifacts=done, latest=_publish_latest(chosen, graph, done))

    return cancellable(run)


def cancellable(body: Callable[[], T]) -> T | State[Any]:
    """What a flow's body gives back, or the state Cancelled where a cancel ended it; outlasts an outage."""
    with outlasted(), ended_by_a_cancel() as cancelled:
        try:
            return body()
        except TerminationSignal:
            if cancelled.is_set():
                return Cancelled(message="finished units are kept, the next run continues")
            raise


def run_nodes(
    settings: TrimsConfig,
    graph: Sequence[Node],
    since: Mapping[str, str | None] | None = None,
    given: Mapping[str, ArtifactRef] | None = None,
) -> dict[str, ArtifactRef]:
    """The references of a graph's artifacts by node id: `run_steps` of one config."""
    return run_steps(steps_of(settings, graph), since, given)


def run_steps(
    steps: Sequence[Step],
    since: Mapping[str, str | None] | None = None,
    given: Mapping[str, ArtifactRef] | None = None,
) -> dict[str, ArtifactRef]:
    """The references of steps' artifacts by id, each made from those of its parents.

    With a runner that makes nodes side by side, one that fails ends those made from it; all others come to
    their end before its error is raised.

    Args:
        steps: parents before children; their settings agree on runner and resources.
        since: step → not older than this.
        given: artifacts that are not to be made.
    """
    ready: dict[str, Any] = dict(given or {})
    settings = steps[0].config
    with runner.running(settings):
        try:
            for step in steps:
                if step.id in ready:
                    continue
                parents = {role: ready[parent] for role, parent in step.parents.items()}
                task = with_limit(step)
                arguments = (step, parents, (since or {}).get(step.id))
                one_by_one = settings.runner == "sequential"
                ready[step.id] = _unpack(task(*arguments)) if one_by_one else task.submit(*arguments)
            futures = [answer for answer in ready.values() if isinstance(answer, PrefectFuture)]
            wait(futures)
            return {name: _unpack(_result(answer)) for name, answer in ready.items()}
        except BaseException:
            runner.stop()
            raise


def _result(answer: Any) -> Any:
    return answer.result() if isinstance(answer, PrefectFuture) else answer


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
