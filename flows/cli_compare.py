"""`trims compare`: several runs on one page, from what their stores hold; nothing of them is made."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console

from flows.cli_run import Overrides
from flows.cli_store import opened_store
from flows.console import display, standard_output
from flows.option_groups import filled_in
from trims_core.errors import ConfigError
from trims_core.graph import build_graph, select
from trims_core.paths import path_given
from trims_core.pinning import pinned
from trims_core.settings import load_config, parse_config, with_overrides
from trims_core.stage import open_made
from trims_core.store import ArtifactRef

if TYPE_CHECKING:
    from trims_core.report.runs import Run

EXAMPLES: Final = (
    "Examples:  trims compare configs/demo.yaml configs/demo-study.yaml   |   trims compare"
    " configs/demo.yaml configs/demo.yaml@/mnt/other/store --label here --label there   |   trims compare"
    " data/store/latest/demo data/store/latest/demo-study --pairs demo-study:trims,demo:trims"
)
_LABEL: Final = re.compile(r"[A-Za-z0-9][\w.+=-]*")
_LONGEST_NAME: Final = 200
"""Bytes of a folder's name; file systems allow 255."""


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN…", help="Two or more: a config, CONFIG@STORE, or a report's folder."),
    ],
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="What each run is called, in their order; default: its name."),
    ] = None,
    pairs: Annotated[
        list[str] | None,
        typer.Option(
            metavar="A,B",
            help="Show the difference A − B, such as study:trims,demo:trims; may be repeated. Default: each"
            " method − the first run's of that name.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            callback=filled_in, metavar="FOLDER", help="Default: <first run's store>/compared/<labels>."
        ),
    ] = None,
    set_: Overrides = None,
) -> None:
    """Put several runs on one page: every method under its run's label, compared as those of one run are."""
    from trims_core.report.compared import FOLDER, check_replaceable, write_comparison

    if len(runs) < 2:
        raise ConfigError(f"{' '.join(runs)}: one run; expected two or more. trims run shows a single one")
    wanted = [_pair(text) for text in pairs or ()]
    found = [_run_of(text, set_ or []) for text in runs]
    labels = _labels(label or [run.label for run, _ in found], len(runs))
    folder = out or found[0][1] / FOLDER / "+".join(labels)
    if len(folder.name.encode()) > _LONGEST_NAME:
        raise ConfigError(f"{folder.name[:40]}…: too long for a folder's name; name one with --out")
    check_replaceable(folder)
    named = [replace(run, label=name) for (run, _), name in zip(found, labels, strict=True)]

    def write(progress: Callable[[str], None]) -> Path:
        title = f"TRIMS: {', '.join(labels)}"
        write_comparison(named, folder, title=title, pairs=wanted or None, progress=progress)
        return folder / "index.html"

    show_comparison(standard_output(), write)


def show_comparison(console: Console, write: Callable[[Callable[[str], None]], Path]) -> None:
    """Writes a page while its progress is shown, and says where it is."""
    step, begun = "comparison", time.monotonic()
    with display(console) as shown:
        shown.started(step)
        page = write(lambda note: shown.progressed(step, 0, 0, note))
        shown.finished(step, "made", time.monotonic() - begun)
    console.print(f"report: {page}", markup=False, highlight=False, soft_wrap=True)


def _run_of(text: str, overrides: Sequence[str]) -> tuple[Run, Path]:
    """A run under its name, and its store's folder. Raises: ConfigError, MissingArtifactError."""
    path = Path(path_given(text, "run"))
    if path.is_dir():
        return _of_report(path.resolve(), overrides)
    file, at, store = text.rpartition("@")
    if path.exists() or not at:
        return _of_config(text, None, overrides)
    return _of_config(file, store, overrides)


def _of_config(file: str, root: str | None, overrides: Sequence[str]) -> tuple[Run, Path]:
    from trims_core.report.runs import Run

    config = load_config(file, overrides, given=None if root is None else {"store": root})
    store = opened_store(Path(config.store))
    graph = build_graph(config)
    config = pinned(config, store.digests, graph)
    set_ = [*overrides, *([] if root is None else [f"store={root}"])]
    words = " --set ".join([file, *map(shlex.quote, set_)])
    nodes = [*select(graph, "grades"), *(node for node in graph if node.stage == "analysis")]
    made = open_made(store, config, nodes, words, optional={"analysis"})
    return Run(config, made, config.name), store.root


def _of_report(folder: Path, overrides: Sequence[str]) -> tuple[Run, Path]:
    """Of a report's artifact: the settings that it was made with, and what it was made from."""
    from trims_core.report.runs import Run

    if folder.parent.name != "report":
        raise ConfigError(
            f"{folder}: no report's folder; expected a config file, CONFIG@STORE, or a folder such as"
            " data/store/latest/demo"
        )
    for text in overrides:
        if not text.startswith("report."):
            raise ConfigError(
                f"--set {text}: {folder} stands for a run with settings of its own; expected report.… alone."
                " Name its config in place of the folder to look up another run"
            )
    store = opened_store(folder.parent.parent)
    made = store.open(folder).manifest
    config = parse_config(with_overrides(made.full_config, overrides), source=str(folder))
    parents = {
        role: store.open(ArtifactRef(**ref, path=str(store.root / ref["stage"] / ref["fingerprint"])))
        for role, ref in made.parents.items()
    }
    return Run(config, parents, config.name), store.root


def _labels(labels: Sequence[str], n_runs: int) -> list[str]:
    """As many as there are runs, each once. Raises: ConfigError."""
    if len(labels) != n_runs:
        raise ConfigError(f"--label: {len(labels)} for {n_runs} runs; expected one for each, in their order")
    for label in labels:
        if not _LABEL.fullmatch(label):
            raise ConfigError(f"--label {label!r}: expected letters, digits, . _ + = and - only")
        if labels.count(label) > 1:
            raise ConfigError(
                f"{label}: several runs are called so; name each, as in --label {label}-a --label {label}-b"
            )
    return list(labels)


def _pair(text: str) -> tuple[str, str]:
    a, _, b = text.partition(",")
    if not a or not b or "," in b or a == b:
        raise ConfigError(f"--pairs {text}: expected two methods, such as study:trims,demo:trims")
    return a, b
