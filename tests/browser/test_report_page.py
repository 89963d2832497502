"""The page in a real browser: no complaint, no request, all of it drawn, numbers as in results.json."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes.chromium import Tab

Open = Callable[..., Tab]

SECTIONS = (
    *("verdict", "player", "comparisons", "analysis", "buckets", "training"),
    *("ablations", "cost", "caches", "cells", "provenance"),
)
MEGABYTES = 5


@pytest.mark.parametrize(("width", "dark"), [(360, True), (360, False), (1600, False), (1600, True)])
def test_every_section_is_drawn_without_complaint_or_request(
    opened: Open, page: Path, width: int, dark: bool
) -> None:
    tab = opened(page, width=width, dark=dark)
    shown = tab.ask(
        "[...document.querySelectorAll('main > section')].filter(s => !s.hidden).map(s => [s.id,"
        " s.innerText.trim().length, s.getBoundingClientRect().height])"
    )
    assert tuple(name for name, *_ in shown) == SECTIONS
    assert all(n_letters > 15 and height > 60 for _, n_letters, height in shown), shown
    charts = tab.ask(
        "[...document.querySelectorAll('.chart svg')].filter(s => s.checkVisibility()).map(s => ["
        "s.getBoundingClientRect().width, s.querySelectorAll('path, rect, circle').length,"
        " s.getAttribute('aria-label').length, s.getAttribute('role')])"
    )
    assert len(charts) == 10
    assert all(w > 250 and n > 4 and label > 20 and role == "img" for w, n, label, role in charts), charts
    assert tab.ask("document.documentElement.scrollWidth") <= width, "the page must not scroll sideways"
    ground = tab.ask("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(21, 24, 30)" if dark else "rgb(255, 255, 255)")
    assert tab.complaints() == []
    assert tab.requests() == [page.as_uri()]


def test_the_page_is_small(page: Path) -> None:
    assert page.stat().st_size < MEGABYTES * 1_000_000


@pytest.mark.parametrize(
    "load",
    [
        "new Promise(done => { const i = new Image(); i.onload = () => done('loaded');"
        " i.onerror = () => done('refused'); i.src = 'http://127.0.0.1:9/x.png'; })",
        "fetch('http://127.0.0.1:9/').then(() => 'loaded', () => 'refused')",
        "new Promise(done => { const s = document.createElement('script'); s.textContent = 'window.ran = 1';"
        " document.body.append(s); setTimeout(() => done(window.ran ? 'loaded' : 'refused'), 50); })",
        "(() => { const b = document.createElement('div'); b.innerHTML = '<i onclick=\"window.ran = 1\">';"
        " b.firstChild.click(); return window.ran ? 'loaded' : 'refused'; })()",
    ],
    ids=["picture", "fetch", "script", "handler"],
)
def test_the_browser_itself_forbids_what_the_page_does_not_need(opened: Open, page: Path, load: str) -> None:
    tab = opened(page)
    assert tab.ask(load) == "refused"
    assert any("Content Security Policy" in text for text in tab.complaints())


def test_every_cell_tells_the_numbers_of_the_results(opened: Open, page: Path, made: Any) -> None:
    tab = opened(page)
    tab.ask("document.querySelector('[data-fill=curves] .chart').focus()")
    curves = made.results["tasks"]["demo"]["curves"]
    for number, (method, points) in enumerate(curves.items()):
        tab.press("ArrowDown" if number else "ArrowRight")
        for _ in points:
            tab.press("ArrowLeft")
        for place, point in enumerate(points):
            if place:
                tab.press("ArrowRight")
            said = tab.ask("document.querySelector('.card').innerText")
            accuracy, low, high = (f"{100 * point[name]:.1f}" for name in ("accuracy", "low", "high"))
            assert said.startswith(method)
            assert f"{accuracy} % [{low}, {high}] right, n = {point['n']}" in said
            assert f"{point['tpf']:.2f} tokens per forward" in said
            assert f"{point['tokens_per_second']:.0f} tokens/s" in said
    link = tab.ask("document.querySelector('.card a').getAttribute('href')")
    assert link == "#artifact:sweep:trims-s0"
    assert tab.ask(f"document.getElementById('{link[1:]}').tagName") == "TR"


def test_pointing_at_a_cell_tells_it(opened: Open, page: Path, made: Any) -> None:
    tab = opened(page)
    tab.ask("[...document.querySelectorAll('.methods input')].slice(0, 2).forEach(box => box.click())")
    places = tab.ask(
        "[...document.querySelectorAll('[data-fill=curves] g[stroke=\"var(--ground)\"] > *')]"
        ".map(dot => dot.getBoundingClientRect()).map(box => [box.x + box.width / 2, box.y + box.height / 2])"
    )
    points = made.results["tasks"]["demo"]["curves"]["trims"]
    assert len(places) == len(points)
    for (x, y), point in zip(places, points, strict=True):
        tab.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        accuracy, low, high = (f"{100 * point[name]:.1f}" for name in ("accuracy", "low", "high"))
        says = f"{accuracy} % [{low}, {high}] right"
        tab.wait(f"document.querySelector('.card').innerText.includes('{says}')")
        assert says in tab.ask("document.querySelector('[data-fill=curves] svg').textContent")
        assert f"{point['tpf']:.2f} tokens per forward" in tab.ask(
            "document.querySelector('.card').innerText"
        )
    assert tab.complaints() == []


def test_methods_seeds_and_the_axis_can_be_chosen(opened: Open, page: Path, made: Any) -> None:
    tab = opened(page)
    chart = "document.querySelector('[data-fill=curves] svg')"
    labels = f"[...{chart}.querySelectorAll('.end-label')].map(l => l.textContent)"
    assert set(tab.ask(labels)) == {"untuned", "standard", "trims"}
    tab.ask("document.querySelector('.methods input').click()")
    assert set(tab.ask(labels)) == {"standard", "trims"}
    tab.ask("document.querySelector('input[name=axis][value=speed]').click()")
    assert "tokens per second" in tab.ask(f"{chart}.textContent")
    before = tab.ask(f"{chart}.outerHTML")
    tab.ask(
        "(() => { const s = document.querySelector('.controls select'); s.value = '1';"
        " s.dispatchEvent(new Event('change')); })()"
    )
    assert tab.ask(f"{chart}.outerHTML") != before
    tab.ask("document.querySelector('[data-fill=curves] .chart').focus()")
    tab.press("ArrowRight")
    (cell,) = (
        one
        for one in made.results["tasks"]["demo"]["cells"]
        if one["model"] == "standard-s1" and one["threshold"] is None
    )
    assert f"{100 * cell['accuracy']:.1f} % [{100 * cell['low']:.1f}," in tab.ask(
        "document.querySelector('.card').innerText"
    )
    assert tab.complaints() == []


def test_the_keys_pass_over_a_method_that_the_chosen_seed_lacks(
    opened: Open, made: Any, tmp_path: Path
) -> None:
    results = copy.deepcopy(made.results)
    for point in results["tasks"]["demo"]["curves"]["trims"]:
        point["seeds"] = [one for one in point["seeds"] if one["seed"] != 1]
    tab = opened(made.write(tmp_path / "lacks.html", results=results))
    tab.ask(
        "(() => { const s = document.querySelector('.controls select'); s.value = '1';"
        " s.dispatchEvent(new Event('change')); })()"
    )
    tab.ask("document.querySelector('[data-fill=curves] .chart').focus()")
    for method in ("untuned", "standard", "untuned"):
        tab.press("ArrowDown")
        assert tab.ask("document.querySelector('.card').innerText").startswith(method)
    assert tab.complaints() == []


def test_an_arm_without_a_difference_is_not_called_the_base(opened: Open, made: Any, tmp_path: Path) -> None:
    results = copy.deepcopy(made.results)
    rows = results["ablations"]["rows"]
    rows[1]["tasks"]["demo"]["difference"] = None
    tab = opened(made.write(tmp_path / "arms.html", results=results))
    said = tab.ask("[...document.querySelectorAll('#ablations svg text')].map(t => t.textContent)")
    assert said.count("base") == sum(row["is_base"] for row in rows) == 2


def test_the_reader_chooses_between_light_and_dark(opened: Open, page: Path) -> None:
    tab = opened(page, dark=True)
    ground = "getComputedStyle(document.body).backgroundColor"
    assert tab.ask("document.getElementById('theme').textContent") == "Light"
    tab.ask("document.getElementById('theme').click()")
    assert tab.ask(ground) == "rgb(255, 255, 255)"
    tab.ask("document.getElementById('theme').click()")
    assert tab.ask(ground) == "rgb(21, 24, 30)"


def test_on_paper_everything_is_open_light_and_without_buttons(opened: Open, page: Path) -> None:
    tab = opened(page, dark=True)
    tab.ask("document.documentElement.dataset.theme = 'dark'")
    tab.call("Emulation.setEmulatedMedia", media="print")
    tab.ask("dispatchEvent(new Event('beforeprint'))")
    assert tab.ask("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert tab.ask("[...document.querySelectorAll('details')].every(d => d.open)")
    assert not tab.ask(
        "[...document.querySelectorAll('button, select, input[type=range]')].some(b => b.checkVisibility())"
    )
    assert tab.ask("document.querySelector('#cells table').checkVisibility()")
    tab.ask("dispatchEvent(new Event('afterprint'))")
    assert not tab.ask("document.querySelector('#cells details').open")


def test_an_address_inside_opens_what_it_lies_in(opened: Open, page: Path) -> None:
    tab = opened(page, "#artifact:sweep:trims-s0")
    row = "document.getElementById('artifact:sweep:trims-s0')"
    assert tab.ask(f"{row}.checkVisibility()")
    tab.wait(f"{row}.getBoundingClientRect().top < innerHeight")


def test_a_section_without_content_is_neither_shown_nor_listed(
    opened: Open, made: Any, tmp_path: Path
) -> None:
    results = copy.deepcopy(made.results)
    found = results["tasks"]["demo"]
    results.update(ablations=None, buckets=None, examples=[], losses={}, rounds=[])
    found.update(caches={}, analysis=None, comparisons=[])
    found["answers"]["problems"] = []
    tab = opened(made.write(tmp_path / "bare.html", results=results, samples={**made.samples, "tasks": {}}))
    listed = tab.ask("[...document.querySelectorAll('nav a')].map(a => a.getAttribute('href').slice(1))")
    shown = tab.ask("[...document.querySelectorAll('main > section')].filter(s => !s.hidden).map(s => s.id)")
    assert listed == shown
    assert not {"ablations", "caches"} & set(shown)
    assert "There is no analysis" in tab.ask("document.getElementById('analysis').innerText")
    assert "nothing can be played" in tab.ask("document.getElementById('player').innerText")
    assert tab.complaints() == []


def test_examples_without_a_teacher_have_no_colours(opened: Open, made: Any, tmp_path: Path) -> None:
    results = copy.deepcopy(made.results)
    results["buckets"] = None
    for example in results["examples"]:
        example["pieces"] = [{"text": piece["text"], "n_tokens": 1} for piece in example["pieces"]]
    tab = opened(made.write(tmp_path / "plain.html", results=results))
    assert tab.ask("document.querySelector('#buckets h2').textContent") == "What the student is trained on"
    text = "".join(piece["text"] for piece in results["examples"][0]["pieces"])
    assert tab.ask("document.querySelector('.tokens').textContent") == text
    assert tab.ask("document.querySelectorAll('.tokens [style]').length") == 0


def test_tokens_of_examples_carry_the_colour_of_their_bucket(opened: Open, page: Path, made: Any) -> None:
    tab = opened(page)
    pieces = [piece for example in made.results["examples"] for piece in example["pieces"]]
    told = tab.ask("[...document.querySelectorAll('.tokens > span')].map(s => [s.textContent, s.title])")
    assert [text for text, _ in told] == [piece["text"] for piece in pieces]
    assert all(f"bucket {p['bucket']}, " in title for p, (_, title) in zip(pieces, told, strict=True))
    colours = tab.ask(
        "new Set([...document.querySelectorAll('.tokens > span')].map(s => s.style.background)).size"
    )
    assert colours == made.results["buckets"]["k"]


def test_every_choice_draws_what_it_says_without_complaint(opened: Open, page: Path) -> None:
    tab = opened(page)
    n_choices = tab.ask("document.querySelectorAll('input[type=radio]').length")
    assert n_choices >= 3 + 4 + 5
    for place in range(n_choices):
        drawn = tab.ask(
            f"(() => {{ const r = document.querySelectorAll('input[type=radio]')[{place}]; r.click();"
            " const figure = r.closest('.with-controls').querySelector('svg');"
            " return figure.querySelectorAll('path').length; })()"
        )
        assert drawn > 2, place
    assert tab.complaints() == []


def test_labels_of_charts_tell_the_numbers_that_are_drawn(opened: Open, page: Path, made: Any) -> None:
    tab = opened(page)
    told = tab.ask("[...document.querySelectorAll('.chart svg')].map(s => s.getAttribute('aria-label'))")
    found = made.results["tasks"]["demo"]["analysis"]["calibration"]
    for kind, eces in (
        ("tokens", {name: row["ece"] for name, row in found.items()}),
        ("answers", {name: row["answers"]["ece"] for name, row in found.items()}),
    ):
        shown = "; ".join(
            f"{name}: ECE {'–' if ece is None else format(ece, '.3f')}" for name, ece in eces.items()
        )
        assert f"Calibration of {kind}. {shown}" in told
    (arms,) = [label for label in told if label.startswith("Differences to the base.")]
    for row in made.results["ablations"]["rows"]:
        difference = row["tasks"]["demo"]["difference"]
        if difference is not None:
            value = f"{100 * difference['value']:.1f}".replace("-", "−")
            assert f"{row['factor']}: {row['value']}\n{value} [" in arms
    low, high = made.results["tasks"]["demo"]["equal_tpf"]["range"]
    says = f"mean over {low:.1f}–{high:.1f} tokens per forward; n = 40 problems, seeds per value: 1."
    assert says in tab.ask("document.querySelector('#ablations figcaption').textContent")


def test_what_others_published_is_hollow_where_the_axis_has_it(
    opened: Open, made: Any, tmp_path: Path
) -> None:
    results = copy.deepcopy(made.results)
    point = {"method": "other", "model": "a model", "hardware": "A100", "source": "a paper", "accuracy": 61.5}
    results["tasks"]["demo"]["protocol"]["published"] = [
        {**point, "tokens_per_forward": 4.0, "tokens_per_second": None, "counting": None, "remark": None}
    ]
    tab = opened(made.write(tmp_path / "published.html", results=results))
    chart = "document.querySelector('[data-fill=curves] svg')"
    hollow = f'{chart}.querySelectorAll(\'g[fill="var(--ground)"][stroke="var(--faint)"] path\').length'
    labels = f"[...{chart}.querySelectorAll('.end-label')].map(l => l.textContent)"
    assert tab.ask(hollow) == 1
    assert "other" in tab.ask(labels)
    tab.ask("document.querySelector('input[name=axis][value=forwards]').click()")
    assert (tab.ask(hollow), "other" in tab.ask(labels)) == (0, False)


def test_every_task_can_be_chosen(opened: Open, made: Any, tmp_path: Path) -> None:
    results, samples = copy.deepcopy(made.results), copy.deepcopy(made.samples)
    other = results["tasks"]["other"] = copy.deepcopy(results["tasks"]["demo"])
    other["n"], results["ablations"] = 77, None
    tab = opened(made.write(tmp_path / "two.html", results=results, samples=samples))
    assert tab.ask("document.getElementById('task-choice').checkVisibility()")
    tab.ask(
        "(() => { const s = document.getElementById('task'); s.value = 'other';"
        " s.dispatchEvent(new Event('change')); })()"
    )
    tab.wait("document.querySelector('#verdict figcaption').textContent.includes('n = 77')")
    assert "other: methods (n = 77" in tab.ask("document.getElementById('comparisons').innerText")
    assert tab.complaints() == []
