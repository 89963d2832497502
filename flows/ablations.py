"""A config's ablation as one flow: every arm up to its grades, then all of them on one page.

Arms share what is the same for them: a node is made once, by the first arm that needs it. Nodes run one after
the other or side by side, of all arms alike, as the config's `runner` says.
"""

from __future__ import annotations

from typing import Any, TypedDict

from prefect import flow
from prefect.client.schemas.objects import State

from flows.parameters import SomeSettings
from flows.pipeline import cancellable, run_steps
from tasks.ablations import compare_arms
from trims_core.ablations import ablation_of
from trims_core.store import ArtifactRef


class Ablated(TypedDict):
    """What a run of the flow gives back."""

    artifacts: dict[str, ArtifactRef]
    """Step id (a node's id, or `<arm>/<node>`) → reference."""
    page: str
    """The comparison."""


@flow(name="trims-ablations", flow_run_name="{config}", persist_result=False, validate_parameters=True)
def trims_ablations(
    config: str, overrides: list[str] | None = None, settings: SomeSettings = None
) -> Ablated | State[Any]:
    """Make and compare the arms that a config's section `ablate` asks for.

    Args:
        config: YAML file, relative to the project's folder.
        overrides: `a.b=c`, as with `--set`; they hold for all arms.
        settings: fields in place of the file's; overrides win over them.
    """

    def run() -> Ablated:
        ablation = ablation_of(config, overrides or [], settings)
        done = run_steps(ablation.steps)
        return Ablated(artifacts=done, page=compare_arms(ablation))

    return cancellable(run)
