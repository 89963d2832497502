"""One browser for all tests of a session, and pages of a made-up run, drawn without its figures."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fakes.analysed_results import analysed
from fakes.chromium import Browser, Tab, chromium, find_chromium
from fakes.played_world import played_world
from fakes.report_world import ReportWorld

from trims_core.rendering import load_tokenizer
from trims_core.report.cells import load_cells
from trims_core.report.page import render_page
from trims_core.report.player import Decoded, decoded_tasks, samples_of
from trims_core.report.results import collect
from trims_core.report.runs import Run

DRAWN = "'drawn' in document.documentElement.dataset"


@dataclass(frozen=True)
class Made:
    """A run's results and what can be played of it."""

    results: dict[str, Any]
    samples: dict[str, Any]
    tasks: Mapping[str, Decoded]

    def write(self, path: Path, **changes: Any) -> Path:
        """Its page. Args: changes: of results or samples."""
        content = {"results": self.results, "samples": self.samples, **changes}
        path.write_text(render_page(content["results"], content["samples"]), encoding="utf-8")
        return path


def make(world: ReportWorld) -> Made:
    config, parents = world.config(), world.parents()
    tokenizer = load_tokenizer(config.student.model)
    cells, _ = load_cells([Run(config, parents)])

    def hard(cell: Any, _sample: str) -> list[float] | None:
        return [place % 7 / 2 for place in range(96)] if cell.threshold == 0.6 else None

    tasks = decoded_tasks(config, cells, dict.fromkeys((cell.model for cell in cells), tokenizer), hard)
    samples = samples_of(tasks, count=config.report.player, size_mb=config.report.player_mb)
    results = json.loads(json.dumps(collect(config, parents, tokenizer)))
    return Made(results, samples, tasks)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Two seeds, two caches, an analysis, ablations."""
    found = make(played_world(tmp_path_factory.mktemp("played")))
    return Made(analysed(found.results), found.samples, found.tasks)


@pytest.fixture(scope="session")
def page(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its page."""
    return made.write(tmp_path_factory.mktemp("page") / "index.html")


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A headless Chromium; skips, saying so, where there is none."""
    binary = find_chromium()
    if binary is None:
        pytest.skip("no Chromium or Chrome on PATH; make deps-test installs it")
    with chromium(binary, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def tab(browser: Browser) -> Iterator[Tab]:
    """A tab of its own."""
    with browser.tab() as opened:
        yield opened


Open = Callable[..., Tab]


@pytest.fixture
def opened(tab: Tab) -> Open:
    """Opens a page in the tab and waits until all of it is drawn."""

    def open_page(page: Path, fragment: str = "", **options: Any) -> Tab:
        tab.open(page.as_uri() + fragment, drawn=DRAWN, **options)
        return tab

    return open_page
