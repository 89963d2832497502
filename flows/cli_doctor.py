"""`trims doctor`: what can be told about a run in seconds, before it costs hours."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from flows.cli_run import ConfigPath, Overrides
from flows.console import standard_output
from flows.embedded import configured_api_url
from flows.server import is_healthy
from flows.tables import findings_table
from trims_core.doctor import ROWS, Diagnosis, diagnose
from trims_core.errors import ConfigError
from trims_core.paths import path_given
from trims_core.settings import load_config

EXAMPLES: Final = (
    "Examples:  trims doctor configs/demo.yaml   |   trims doctor run.yaml --rows 100000 --quiet"
)


def doctor(
    config: ConfigPath,
    set_: Overrides = None,
    rows: Annotated[int, typer.Option(min=1, help="Rows of the corpus to read and render.")] = ROWS,
    adapter: Annotated[str | None, typer.Option(help="A PEFT folder to look at too.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Leave the examples' texts out.")] = False,
) -> None:
    """Check files, templates, ids, context, disk, GPUs, ports and versions; load no weights, make nothing."""
    console = standard_output()
    settings = load_config(config, set_ or [])
    folder = None if adapter is None else Path(path_given(adapter, "--adapter"))
    found = diagnose(settings, n_rows=rows, adapter=folder)
    _server(found)
    if not quiet:
        _print_examples(console, found)
    console.print(findings_table(found.findings))
    if not found.is_well:
        n = sum(one.state == "wrong" for one in found.findings)
        raise ConfigError(f"{config}: {n} thing(s) are wrong; correct them before you run it")


def _server(found: Diagnosis) -> None:
    url = configured_api_url(os.environ)
    if url is None:
        found.say("Prefect", "no server is named: `trims run` starts its own")
    elif is_healthy(url):
        found.say("Prefect", f"the server at {url} answers")
    else:
        found.say(
            "Prefect", f"the server at {url} does not answer; start it, or unset PREFECT_API_URL", "wrong"
        )


def _print_examples(console: Console, found: Diagnosis) -> None:
    for reader, shown in found.shown.items():
        for one in shown:
            console.rule(f"{reader} reads {one['id']} (header {one['form']})", align="left")
            text, start = one["text"], one["start"]
            console.print(text[:start], style="dim", markup=False, highlight=False, soft_wrap=True, end="")
            console.print(text[start:], markup=False, highlight=False, soft_wrap=True)
    if found.shown:
        console.rule()
