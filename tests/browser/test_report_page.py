"""The report's page in a real browser: no complaint, no request, every figure drawn, fit for a phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.chromium import Tab, chromium_tab, find_chromium
from fakes.report_world import ReportWorld


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a made-up run."""
    return ReportWorld(tmp_path_factory.mktemp("report")).make_report().artifact.file("index.html")


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Tab]:
    """A tab of a headless Chromium; skips, saying so, where there is none."""
    binary = find_chromium()
    if binary is None:
        pytest.skip("no Chromium or Chrome on PATH; install the package chromium to run browser tests")
    with chromium_tab(binary, tmp_path / "profile") as opened:
        yield opened


@pytest.mark.parametrize(("width", "dark"), [(1200, False), (390, True)], ids=["desktop-light", "phone-dark"])
def test_the_page_draws_itself_without_complaint_or_request(
    tab: Tab, page: Path, width: int, dark: bool
) -> None:
    tab.open(page, width=width, dark=dark)
    drawn = "Promise.all([...document.images].map(i => i.decode())).then(() => document.images.length)"
    assert tab.ask(drawn) == 3
    assert tab.ask("[...document.images].every(i => i.naturalWidth > 100)")
    assert tab.ask("document.documentElement.scrollWidth") <= width, (
        "the page itself must not scroll sideways"
    )
    ground = tab.ask("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(21, 24, 30)" if dark else "rgb(255, 255, 255)")
    narrow_figure = tab.ask("document.images[0].naturalWidth < 500")
    assert narrow_figure == (width < 600)
    assert tab.complaints() == []
    assert [url for url in tab.requests() if not url.startswith("data:")] == [page.as_uri()]


def test_the_browser_itself_forbids_loads_from_elsewhere(tab: Tab, page: Path) -> None:
    tab.open(page, width=800, dark=False)
    load = (
        "new Promise(done => { const i = new Image(); i.onload = () => done('loaded');"
        " i.onerror = () => done('refused'); i.src = 'http://127.0.0.1:9/x.png'; })"
    )
    assert tab.ask(load) == "refused"
    assert any("Content Security Policy" in text for text in tab.complaints())
