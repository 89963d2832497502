"""`trims ablate`: look every arm of a config up, and start Prefect only if something is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from flows.cli_compare import show_comparison
from flows.cli_run import ConfigPath, Overrides, Verbose
from flows.console import standard_output
from flows.tables import plan_table

EXAMPLES: Final = (
    "Examples:  trims ablate configs/demo-ablations.yaml --plan   |   trims ablate"
    " configs/demo-ablations.yaml   |   trims ablate configs/demo-ablations.yaml --set runner=processes"
)


def ablate(
    config: ConfigPath,
    plan: Annotated[
        bool, typer.Option("--plan", help="Show which artifacts would be reused or made; runs nothing.")
    ] = False,
    set_: Overrides = None,
    verbose: Verbose = False,
) -> None:
    """Make every arm of an ablation, reusing every artifact that is there, and compare them on one page."""
    from trims_core.ablations import ablation_of, plan_of, write_ablation

    console = standard_output()
    ablation = ablation_of(config, set_ or [])
    rows = plan_of(ablation)
    n_made = sum(row.state != "hit" for row in rows)
    console.print(plan_table(rows, {"hit": "cached", "miss": "to do", "unknown": "to do"}))
    said = f"{len(ablation.arms)} arms: {n_made} of {len(rows)} artifacts are to be made"
    console.print(said, markup=False, highlight=False, soft_wrap=True)
    if plan:
        return
    if not n_made:
        show_comparison(console, lambda progress: write_ablation(ablation, progress)[0])
        return
    from flows.embedded import run_flow

    parameters = {"config": str(config), "overrides": set_ or []}
    homes = Path(ablation.base.store) / ".prefect"
    done = run_flow("flows.ablations:trims_ablations", parameters, homes, console, verbose=verbose)
    console.print(f"report: {done['page']}", markup=False, highlight=False, soft_wrap=True)
