"""The player shows each canvas as it was, step by step, and its address leads back to the same moment."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes.chromium import Tab

Open = Callable[..., Tab]

STEP = "Number(document.querySelector('.transport input').value)"
SPOKEN = "[...document.querySelectorAll('.panel .spoken')].map(p => p.textContent)"
CURRENT = "document.querySelector('.problems [aria-current]').textContent"
FOCUS = "document.querySelector('.player').focus()"
MASKED = "[...document.querySelectorAll('.panel')].map(p => p.querySelectorAll('.box.masked').length)"


def answers_of(problem: dict[str, Any], point: int = 1) -> list[dict[str, Any]]:
    """Those that are shown at first: of the untuned model and of trims."""
    by_model = {one["model"]: one for one in problem["answers"] if one["point"] == point}
    return [by_model[0], by_model[2]]


def text_after(answer: dict[str, Any], step: int) -> str:
    """The canvas with whole characters; a run of masked ones is one word."""
    out: list[str] = []
    start = 0
    for place, piece in enumerate(answer["pieces"]):
        if piece is None:
            continue
        steps = answer["steps"][start : place + 1]
        start = place + 1
        if all(0 <= one < step for one in steps):
            out.append(piece)
        elif not out or out[-1] != " [masked] ":
            out.append(" [masked] ")
    return "".join(out)


def test_it_plays_to_the_final_texts_and_stops(opened: Open, page: Path, made: Any) -> None:
    tab = opened(page)
    first = made.samples["tasks"]["demo"]["problems"][0]
    (speed,) = tab.ask("[...document.querySelectorAll('.transport select')].map(s => s.options.length)")
    tab.ask(
        f"(() => {{ const s = document.querySelector('.transport select'); s.selectedIndex = {speed - 1};"
        " s.dispatchEvent(new Event('change')); document.querySelector('[aria-label=Play]').click(); })()"
    )
    assert tab.ask("document.querySelector('[aria-label=Pause]') !== null")
    tab.wait("document.querySelector('[aria-label=Play]') !== null")
    answers = answers_of(first)
    assert tab.ask(STEP) == max(answer["n_forwards"] for answer in answers)
    assert tab.ask(SPOKEN) == ["".join(p for p in one["pieces"] if p is not None) for one in answers]
    (shown,) = (p for p in made.results["tasks"]["demo"]["answers"]["problems"] if p["id"] == first["id"])
    texts = {answer["model"]: answer["text"] for answer in shown["answers"]}
    assert [text.removesuffix("<|eot_id|>") for text in tab.ask(SPOKEN)] == [
        texts["untuned"],
        texts["trims-s0"],
    ]
    assert tab.complaints() == []


def test_every_problem_is_shown_as_it_was_at_every_step(opened: Open, page: Path, made: Any) -> None:
    tab = opened(page)
    for problem in made.samples["tasks"]["demo"]["problems"]:
        answers = answers_of(problem)
        for step in (0, 1, max(one["n_forwards"] for one in answers) // 2, 10_000):
            tab.ask(f"location.hash = '#demo/{problem['id']}/{step}'")
            tab.wait(f"{CURRENT}.startsWith('{problem['id']}')")
            expected = [text_after(answer, step) for answer in answers]
            tab.wait(f"JSON.stringify({SPOKEN}) === {js(expected)}")


def js(value: Any) -> str:
    """An expression for the JSON text of a value."""
    import json

    return json.dumps(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def test_masks_hide_what_was_not_there_and_never_tell_it(opened: Open, page: Path) -> None:
    tab = opened(page)
    tab.ask(FOCUS)
    tab.press("Home")
    boxes = "[...document.querySelectorAll('.panel .box')].map(b => b.textContent)"
    assert set("".join(tab.ask(boxes))) == {"▒"}
    tab.press("ArrowRight")
    assert min(tab.ask(MASKED)) < len(tab.ask(boxes)) / 2
    assert tab.ask("document.querySelectorAll('.box.fresh').length") > 0


def test_keys_play_and_step_and_jump(opened: Open, page: Path, made: Any) -> None:
    tab = opened(page)
    tab.ask(FOCUS)
    tab.press("Home")
    assert tab.ask(STEP) == 0
    tab.press("ArrowRight")
    tab.press("ArrowRight")
    tab.press("ArrowLeft")
    assert tab.ask(STEP) == 1
    tab.press("End")
    assert tab.ask(STEP) == tab.ask("Number(document.querySelector('.transport input').max)")
    tab.press(" ")
    assert tab.ask("document.querySelector('[aria-label=Pause]') !== null")
    tab.press(" ")
    assert tab.ask("document.querySelector('[aria-label=Play]') !== null")
    problems = made.samples["tasks"]["demo"]["problems"]
    differing = [p["id"] for p in problems if len({one["verdict"] == "right" for one in answers_of(p)}) == 2]
    assert differing
    for name in [one for one in differing if one != problems[0]["id"]]:
        tab.press("n")
        tab.wait(f"{CURRENT}.startsWith('{name}')")


def test_the_status_is_told_shortly(opened: Open, page: Path, made: Any) -> None:
    tab = opened(page)
    tab.ask(FOCUS)
    tab.press("End")
    said = tab.ask("document.querySelector('.player > .spoken[aria-live]').textContent")
    left, right = answers_of(made.samples["tasks"]["demo"]["problems"][0])
    assert said.startswith(f"untuned: forward {left['n_forwards']} of {left['n_forwards']}, ")
    assert f"; trims-s0: forward {right['n_forwards']} of" in said and said.endswith(right["verdict"])
    assert len(said) < 200


def test_an_address_restores_the_moment(opened: Open, page: Path, made: Any) -> None:
    third = made.samples["tasks"]["demo"]["problems"][2]
    tab = opened(page, f"#demo/{third['id']}/4/2/1/0")
    assert (tab.ask(STEP), tab.ask(CURRENT)[:5]) == (4, third["id"])
    chosen = tab.ask("[...document.querySelectorAll('.menus select')].slice(0, 3).map(s => Number(s.value))")
    assert chosen == [1, 0, 2]
    tab.wait("Math.abs(document.getElementById('player').getBoundingClientRect().top) < 200")
    tab.ask(FOCUS)
    tab.press("ArrowRight")
    assert tab.ask("location.hash") == f"#demo/{third['id']}/5/2/1/0"
    assert tab.ask("document.querySelector('.permalink').href") == tab.ask("location.href")


def test_what_changed_leads_to_both_models_at_the_analysed_point(
    opened: Open, made: Any, tmp_path: Path
) -> None:
    results, task = copy.deepcopy(made.results), made.samples["tasks"]["demo"]
    found = results["tasks"]["demo"]["analysis"]
    ids, models = [one["id"] for one in task["problems"]], [one["model"] for one in task["models"]]
    row = {"a": "standard", "b": "trims", "became_right": ids[:1], "became_wrong": ["elsewhere"], "n": 40}
    found["changed"] = [{**row, "seed": 0}, {**row, "seed": 1}]
    tab = opened(made.write(tmp_path / "changed.html", results=results))
    links = tab.ask(
        "[...document.querySelectorAll('#analysis details a')].map(a => a.getAttribute('href'))"
        ".filter(one => one.startsWith('#demo/'))"
    )
    thresholds = [point["threshold"] for point in task["points"]]
    place = (thresholds.index(found["threshold"]), models.index("trims-s0"), models.index("standard-s0"))
    assert links == ["/".join(map(str, ("#demo", ids[0], 0, *place)))], "seed 1 is not played"
    tab.ask(f"location.hash = {links[0]!r}")
    chosen = "[...document.querySelectorAll('.menus select')].slice(0, 3).map(s => Number(s.value))"
    tab.wait(f"JSON.stringify({chosen}) === '[{place[1]},{place[2]},{place[0]}]'")


@pytest.mark.parametrize(
    "fragment", ["#demo/none/3", "#demo/%/3", "#other/x/3", "#demo/p0003/x", "#%E0%A4%A", "#x"]
)
def test_an_address_that_leads_nowhere_breaks_nothing(opened: Open, page: Path, fragment: str) -> None:
    tab = opened(page, fragment)
    assert tab.ask("document.querySelectorAll('.panel').length") == 2
    assert tab.complaints() == []


def test_a_problem_that_is_not_there_is_told(opened: Open, page: Path) -> None:
    tab = opened(page, "#demo/none/3")
    assert (
        tab.ask("document.querySelector('.side [role=status]').innerText") == "There is no problem none here."
    )


def test_tokens_are_coloured_by_what_is_chosen(opened: Open, page: Path, made: Any) -> None:
    tab = opened(page)
    tab.ask(FOCUS)
    tab.press("End")
    names = tab.ask("[...document.querySelectorAll('.menus select')].at(-1).innerText.split('\\n')")
    assert names == ["reveal step", "confidence", "entropy", "teacher difficulty", "nothing"]
    first = "[...document.querySelectorAll('.panel')].map(p => p.querySelector('.box').style.background)"
    seen = set()
    for value in ("step", "confidence", "entropy", "difficulty"):
        choose_colour(tab, value)
        seen.add(str(tab.ask(first)))
    assert len(seen) == 4
    choose_colour(tab, "none")
    assert tab.ask(first) == ["", ""]


def choose_colour(tab: Tab, value: str) -> None:
    tab.ask(
        f"(() => {{ const s = [...document.querySelectorAll('.menus select')].at(-1); s.value = '{value}';"
        " s.dispatchEvent(new Event('change')); })()"
    )


def test_difficulty_is_no_choice_where_no_teacher_was_asked(opened: Open, made: Any, tmp_path: Path) -> None:
    problems = [
        {**p, "answers": [{k: v for k, v in one.items() if k != "difficulty"} for one in p["answers"]]}
        for p in made.samples["tasks"]["demo"]["problems"]
    ]
    samples = {**made.samples, "tasks": {"demo": {**made.samples["tasks"]["demo"], "problems": problems}}}
    tab = opened(made.write(tmp_path / "plain.html", samples=samples))
    said = tab.ask("[...document.querySelectorAll('.menus select')].at(-1).innerText")
    assert "teacher difficulty" not in said and "entropy" in said
