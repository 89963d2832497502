"""`trims demo corpus | models`: make the small world that configs/demo.yaml uses."""

from __future__ import annotations

import typer

app = typer.Typer(
    no_args_is_help=True, help="Make the demo's data and models (all of it ships; this shows how)."
)
