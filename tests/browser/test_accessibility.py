"""Nothing on the page stands in the way of a screen reader or a keyboard that axe-core finds serious."""

from __future__ import annotations

import hashlib
import itertools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes.chromium import Tab

Open = Callable[..., Tab]

AXE = Path(sys.prefix) / "axe-core" / "axe.min.js"
GRAVE = ("serious", "critical")


@pytest.fixture(scope="module")
def axe() -> str:
    """The pinned axe-core; skips, saying so, where it is not there."""
    pin = json.loads((Path(__file__).parent / "axe.json").read_text(encoding="utf-8"))
    if not AXE.is_file():
        pytest.skip(f"no {AXE}; make deps-test fetches it by npm")
    data = AXE.read_bytes()
    assert hashlib.sha256(data).hexdigest() == pin["sha256"], f"{AXE} is not axe-core {pin['version']}"
    return data.decode()


def findings(tab: Tab, axe: str) -> list[Any]:
    """Rule, gravity and places of what axe-core complains about."""
    tab.ask(f"{axe}; 0")
    run = "axe.run(document, {resultTypes: ['violations']})"
    told = "r.violations.map(v => [v.id, v.impact, v.nodes.map(n => n.html.slice(0, 150)).slice(0, 5)])"
    found: list[Any] = tab.ask(f"{run}.then(r => {told})")
    return found


@pytest.mark.parametrize(("dark", "width"), [(False, 1200), (True, 360)], ids=["light", "dark-phone"])
def test_there_is_no_serious_finding(opened: Open, page: Path, axe: str, dark: bool, width: int) -> None:
    tab = opened(page, width=width, dark=dark)
    tab.ask("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    found = findings(tab, axe)
    assert [one for one in found if one[1] in GRAVE] == []


def test_axe_core_finds_what_is_wrong(opened: Open, page: Path, axe: str) -> None:
    tab = opened(page)
    tab.ask("document.querySelector('#theme').removeAttribute('aria-label')")
    tab.ask("document.querySelector('#theme').textContent = ''")
    assert "button-name" in [rule for rule, *_ in findings(tab, axe)]


def test_headings_and_landmarks_are_in_order(opened: Open, page: Path) -> None:
    tab = opened(page)
    levels = tab.ask("[...document.querySelectorAll('h1, h2, h3, h4')].map(h => Number(h.tagName[1]))")
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert tab.ask("document.documentElement.lang") == "en"
    assert tab.ask("[...document.querySelectorAll('th')].every(c => ['col', 'row'].includes(c.scope))")


def test_focus_is_seen_and_the_first_stop_skips_to_the_verdict(opened: Open, page: Path) -> None:
    tab = opened(page)
    tab.press("Tab")
    assert tab.ask("document.activeElement.getAttribute('href')") == "#verdict"
    box = tab.ask("JSON.stringify(document.activeElement.getBoundingClientRect())")
    assert json.loads(box)["width"] > 50
    tab.press("Tab")
    assert tab.ask("getComputedStyle(document.activeElement).outlineStyle") == "solid"
