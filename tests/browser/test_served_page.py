"""A served page plays every problem of a task, and asks its own server for them alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from browser.conftest import DRAWN, Made
from fakes.chromium import Tab

from flows.page_server import PageServer
from trims_core.report.player import samples_of
from trims_core.report.served import ServedReport

CURRENT = "document.querySelector('.problems [aria-current]').textContent"


@pytest.fixture(scope="module")
def server(made: Made) -> Iterator[PageServer]:
    few = samples_of(made.tasks, count=2, size_mb=1)
    report = ServedReport(made.results, few, made.tasks)
    with PageServer(report.reply, 0) as opened:
        thread = threading.Thread(target=opened.serve_forever)
        thread.start()
        yield opened
        opened.shutdown()
        thread.join()


def test_any_problem_can_be_played(tab: Tab, server: PageServer, made: Made) -> None:
    tab.open(server.address, drawn=DRAWN)
    assert tab.ask("document.querySelectorAll('.problems li').length") == 40
    outside = made.tasks["demo"].ids[17]
    tab.ask(f"location.hash = '#demo/{outside}/1000'")
    tab.wait(f"{CURRENT}.startsWith('{outside}')")
    (problem,) = made.tasks["demo"].problems([outside])
    answer: dict[str, Any] = next(one for one in problem["answers"] if (one["model"], one["point"]) == (0, 1))
    text = "".join(piece for piece in answer["pieces"] if piece is not None)
    tab.wait("document.querySelector('.panel .box.masked') === null")
    assert tab.ask("document.querySelector('.panel .spoken').textContent") == text
    asked = [url.removeprefix(server.address) for url in tab.requests()]
    assert asked == ["", "samples/demo.json", f"samples/demo/{outside}.json"]
    assert tab.complaints() == []


def test_a_server_that_is_gone_is_told_and_what_is_shown_stays(tab: Tab, made: Made) -> None:
    report = ServedReport(made.results, samples_of(made.tasks, count=2, size_mb=1), made.tasks)
    with PageServer(report.reply, 0) as opened:
        thread = threading.Thread(target=opened.serve_forever)
        thread.start()
        tab.open(opened.address, drawn=DRAWN)
        opened.shutdown()
        thread.join()
    shown = tab.ask(CURRENT)
    outside = made.tasks["demo"].ids[20]
    tab.ask(f"location.hash = '#demo/{outside}/3'")
    tab.wait(
        "document.querySelector('.side [role=status]').innerText.startsWith('The problem cannot be had')"
    )
    assert tab.ask(CURRENT) == shown


def test_it_may_ask_nobody_else(tab: Tab, server: PageServer) -> None:
    tab.open(server.address, drawn=DRAWN)
    assert tab.ask("fetch('http://127.0.0.1:9/').then(() => 'loaded', () => 'refused')") == "refused"
    assert any("Content Security Policy" in text for text in tab.complaints())
