"""`trims view`: the page of a config's report or of a comparison, from disk; a report's also served with the
samples of every problem."""

from __future__ import annotations

import webbrowser
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final

import typer

from flows.cli_run import Overrides
from flows.console import standard_output
from flows.option_groups import filled_in
from flows.page_server import PageServer
from trims_core.errors import ConfigError, InterruptedRunError, MissingArtifactError
from trims_core.latest import latest_path
from trims_core.plan import PlanRow, plan
from trims_core.settings import load_config
from trims_core.store import Artifact, Store

EXAMPLES: Final = (
    "Examples:  trims view configs/demo.yaml   |   trims view configs/demo.yaml --serve --port 8080   |   "
    "trims view data/store/compared/demo+demo-study"
)


def view(
    config: Annotated[
        Path,
        typer.Argument(
            callback=filled_in,
            metavar="CONFIG",
            help="YAML file with the run's settings, or a page's folder.",
        ),
    ],
    serve: Annotated[
        bool, typer.Option("--serve", help="Serve it on loopback: the player then has every problem.")
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="With --serve; 0: a free one.")] = 0,
    open_: Annotated[bool, typer.Option("--open/--no-open", help="Open it in the browser.")] = True,
    set_: Overrides = None,
) -> None:
    """Open the page of a report or of a comparison that was made; prints where it is."""
    if config.is_dir():
        _view_folder(config, serve, set_, open_)
        return
    settings = load_config(config, set_ or [])
    store = Store(settings.store)
    rows = plan(store, settings, "report", [])
    report = _made(rows, config, settings.name, store.root)
    if not serve:
        _show(report.file("index.html").resolve().as_uri(), str(report.file("index.html")), open_)
        return
    from trims_core.report.served import open_report

    parents = {row.node.id: row.artifact for row in rows[:-1] if row.artifact is not None}
    served = open_report(settings, report, parents)
    with suppress(KeyboardInterrupt, InterruptedRunError), PageServer(served.reply, port) as server:
        _show(server.address, f"{server.address}   (Ctrl-C ends it)", open_)
        server.serve_forever()


def _view_folder(folder: Path, serve: bool, set_: list[str] | None, is_opened: bool) -> None:
    """Raises: ConfigError, MissingArtifactError."""
    if serve or set_:
        given = "--serve" if serve else "--set"
        raise ConfigError(f"{given}: {folder} is a page as it was written; expected a config file with it")
    page = folder / "index.html"
    if not page.is_file():
        raise MissingArtifactError(
            f"{folder}: no index.html in it; expected a report's or comparison's folder"
        )
    _show(page.resolve().as_uri(), str(page), is_opened)


def _made(rows: list[PlanRow], config: Path, name: str, root: Path) -> Artifact:
    """The report of exactly these settings. Raises: MissingArtifactError with what is there instead."""
    last = rows[-1]
    if last.artifact is not None:
        return last.artifact
    from trims_core.report.compared import FOLDER as COMPARED

    first = next(row for row in rows if row.state != "hit")
    text = f"{config}: there is no report of these settings ({first.node.id}: {first.why})"
    page, compared = latest_path(root, name) / "index.html", root / COMPARED / name
    if page.is_file():
        others = f". The newest report of that name, of other settings or inputs, is {page}"
    else:
        others = f". Its ablation's page: trims view {compared}" if compared.is_dir() else ""
    raise MissingArtifactError(f"{text}; make it with trims run {config}{others}")


def _show(address: str, text: str, is_opened: bool) -> None:
    standard_output().print(text, markup=False, highlight=False, soft_wrap=True)
    if is_opened:
        webbrowser.open(address)
