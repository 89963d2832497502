"""`trims run`: look every artifact up, and start Prefect only if one is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from flows.console import standard_output
from flows.option_groups import filled_in
from flows.tables import plan_table
from trims_core.config import TrimsConfig
from trims_core.latest import point_latest
from trims_core.plan import PlanRow, plan
from trims_core.settings import load_config
from trims_core.store import Store

EXAMPLES = (
    "Examples:  trims run configs/demo.yaml   |"
    "   trims run configs/demo.yaml --until buckets --refresh buckets   |"
    "   trims run configs/demo.yaml --set buckets.k=4"
)

ConfigPath = Annotated[
    Path, typer.Argument(callback=filled_in, help="YAML file with the run's settings.", metavar="CONFIG")
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="a.b=c", help="Override a setting; may be repeated.")
]
Until = Annotated[str, typer.Option(metavar="STAGE", help="Last stage (or node, such as train/trims-s0).")]
Refresh = Annotated[
    list[str] | None,
    typer.Option(metavar="STAGE", help="Redo this stage although a valid artifact exists; may be repeated."),
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show Prefect's logs too.")]
UnsafeNoSandbox = Annotated[
    bool,
    typer.Option(
        "--unsafe-no-sandbox",
        help="Run programs that a student wrote unprotected, as you; marks every number.",
    ),
]


def run(
    config: ConfigPath,
    until: Until = "report",
    refresh: Refresh = None,
    unsafe_no_sandbox: UnsafeNoSandbox = False,
    set_: Overrides = None,
    verbose: Verbose = False,
) -> None:
    """Run the pipeline, reusing every artifact that is there already."""
    console = standard_output()
    overrides = [*(set_ or []), *(["sweep.unsafe_no_sandbox=true"] if unsafe_no_sandbox else [])]
    settings = load_config(config, overrides)
    if settings.sweep.unsafe_no_sandbox:
        console.print("warning: programs that a student wrote run without a sandbox", style="bold red")
    store = Store(settings.store)
    rows = plan(store, settings, until, refresh or [])
    if all(row.state == "hit" for row in rows):
        console.print(plan_table(rows, {"hit": "cached"}))
        _say_where(console, store, rows, _newest(settings, rows))
        return
    from flows.embedded import run_flow

    console.print(plan_table(rows, {"hit": "cached", "miss": "to do", "unknown": "to do"}))
    parameters = {"config": str(config), "overrides": overrides, "until": until, "refresh": refresh or []}
    homes = store.root / ".prefect"
    done = run_flow("flows.pipeline:trims", parameters, homes, console, verbose=verbose)
    _say_where(console, store, rows, done["latest"])


def _newest(settings: TrimsConfig, rows: list[PlanRow]) -> Path | None:
    """Where the report is, if it was asked for: all is there, but the link may lead to another run's."""
    last = rows[-1]
    if last.node.stage != "report" or last.artifact is None:
        return None
    return point_latest(Path(settings.store), settings.name, last.artifact.path)


def _say_where(console: Console, store: Store, rows: list[PlanRow], report: str | Path | None) -> None:
    if report is not None:
        page = Path(report) / "index.html"
        console.print(f"report: {page}", markup=False, highlight=False, soft_wrap=True)
    else:
        console.print(f"done until {rows[-1].node.stage}; store: {store.root}", markup=False, soft_wrap=True)
