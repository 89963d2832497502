"""`trims run`: look every artifact up, and start Prefect only if one is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from flows.console import standard_output
from flows.tables import plan_table
from trims_core.config import TrimsConfig
from trims_core.latest import latest_path, point_latest
from trims_core.plan import PlanRow, plan
from trims_core.settings import load_config
from trims_core.store import Store

EXAMPLES = (
    "Examples:  trims run configs/demo.yaml   |"
    "   trims run configs/demo.yaml --until buckets --refresh buckets   |"
    "   trims run configs/demo.yaml --set buckets.k=4"
)

ConfigPath = Annotated[Path, typer.Argument(help="YAML file with the run's settings.", metavar="CONFIG")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="a.b=c", help="Override a setting; may be repeated.")
]
Until = Annotated[str, typer.Option(metavar="STAGE", help="Last stage (or node, such as train/trims-s0).")]
Refresh = Annotated[
    list[str] | None,
    typer.Option(metavar="STAGE", help="Redo this stage although a valid artifact exists; may be repeated."),
]


def run(
    config: ConfigPath,
    until: Until = "report",
    refresh: Refresh = None,
    set_: Overrides = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show Prefect's logs too.")] = False,
) -> None:
    """Run the pipeline, reusing every artifact that is there already."""
    console = standard_output()
    settings = load_config(config, set_ or [])
    store = Store(settings.store)
    rows = plan(store, settings, until, refresh or [])
    if all(row.state == "hit" for row in rows):
        console.print(plan_table(rows, {"hit": "cached"}))
        _end(console, store, settings, rows)
        return
    from flows.embedded import run_pipeline

    console.print(plan_table(rows, {"hit": "cached", "miss": "to do", "unknown": "to do"}))
    parameters = {"config": str(config), "overrides": set_ or [], "until": until, "refresh": refresh or []}
    run_pipeline(parameters, store.root / ".prefect", console, verbose=verbose)
    _say_where(console, store, settings, rows)


def _end(console: Console, store: Store, settings: TrimsConfig, rows: list[PlanRow]) -> None:
    """Everything was there: the link may still lead to another run of this name."""
    last = rows[-1]
    if last.node.stage == "report" and last.fingerprint is not None:
        point_latest(store.root, settings.name, store.root / "report" / last.fingerprint)
    _say_where(console, store, settings, rows)


def _say_where(console: Console, store: Store, settings: TrimsConfig, rows: list[PlanRow]) -> None:
    if rows[-1].node.stage == "report":
        page = latest_path(Path(settings.store), settings.name) / "index.html"
        console.print(f"report: {page}", markup=False, highlight=False, soft_wrap=True)
    else:
        console.print(f"done until {rows[-1].node.stage}; store: {store.root}", markup=False, soft_wrap=True)
