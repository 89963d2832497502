"""Texts of models and data are shown as text, whatever they hold, and break nothing."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from browser.conftest import Made, make
from fakes.analysed_results import analysed
from fakes.chromium import Tab
from fakes.played_world import played_world

Open = Callable[..., Tab]

HOSTILE: Final = (
    "</script><script>window.ran = 1</script>",
    "<!-- <script> --> ]]> &amp; &#60; <b>bold</b>",
    "<img src=x onerror='window.ran = 1'><svg onload='window.ran = 1'>",
    "javascript:window.ran=1 \" onclick='window.ran = 1' {{ 7 * 7 }} ${window.ran = 1}",
    "".join(map(chr, range(32))) + "\x7f\x80\x9f",
    "one \u202eright to left\u202c two \u2066isolated\u2069 \u200b\ufeff\u2028\u2029",
    "x" * 100_000,
    "e" + "\u0301" * 400,
    "<|eot_id|><|endoftext|>",
    " \n\n\t\n ",
)
UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u2028-\u202e\u2060-\u206f\ufeff]")


def as_shown(text: str) -> str:
    """With every control character and mark of direction by its name."""

    def name(found: re.Match[str]) -> str:
        code = ord(found[0])
        return "␡" if code == 0x7F else chr(0x2400 + code) if code < 0x20 else f"U+{code:04X}"

    return UNSEEN.sub(name, text)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Every problem asks and is answered with one of the texts, is called so and has it as its right answer;
    settings, examples, cells of tables and lists of problems have them, too."""
    texts = {i: HOSTILE[i % len(HOSTILE)] for i in range(40)}
    world = played_world(
        tmp_path_factory.mktemp("hostile"),
        texts,
        seeds=(0,),
        report={"player": 40, "title": HOSTILE[0], "bootstrap_samples": 100, "examples": 10},
    )
    found = make(world)
    results, samples = analysed(found.results), copy.deepcopy(found.samples)
    for example, text in zip(results["examples"], HOSTILE, strict=False):
        example["prompt"] = text
        example["pieces"][0]["text"] = text
    results["provenance"]["config"]["corpus"]["system_prompt"] = list(HOSTILE)
    results["caveats"] = list(HOSTILE)
    results["tasks"]["demo"]["protocol"]["published"] = [_published(text) for text in HOSTILE]
    (change,) = results["tasks"]["demo"]["analysis"]["changed"]
    change["became_right"], change["became_wrong"] = list(HOSTILE), list(HOSTILE)
    for problem, text in zip(results["tasks"]["demo"]["answers"]["problems"], HOSTILE, strict=False):
        problem |= {"prompt": text, "gold": text}
        for answer in problem["answers"]:
            answer["text"] = text
    for number, problem in enumerate(samples["tasks"]["demo"]["problems"]):
        text = HOSTILE[number % len(HOSTILE)]
        problem |= {"id": f"{text}{number}", "gold": text}
        for answer in problem["answers"]:
            answer["answer"] = text
            answer["pieces"][0] = text
    return Made(results, samples, found.tasks)


def _published(text: str) -> dict[str, Any]:
    names = dict.fromkeys(("method", "model", "source", "hardware", "remark"), text)
    return {**names, "accuracy": 50.0, "tokens_per_forward": 2.0, "tokens_per_second": None, "counting": None}


@pytest.fixture(scope="module")
def page(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.write(tmp_path_factory.mktemp("page") / "index.html")


@pytest.mark.parametrize("width", [360, 1600])
def test_nothing_runs_breaks_or_overflows(opened: Open, page: Path, width: int) -> None:
    tab = opened(page, width=width)
    tab.ask("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert tab.ask("window.ran") is None
    assert tab.ask("document.title") == HOSTILE[0]
    assert tab.ask("document.querySelector('h1').textContent") == HOSTILE[0]
    assert tab.ask("document.querySelectorAll('main img, main b, main [onclick]').length") == 0
    assert tab.ask("document.documentElement.scrollWidth") <= width
    assert tab.complaints() == []
    assert tab.requests() == [page.as_uri()]


def test_prompts_and_answers_are_the_texts_with_names_for_what_cannot_be_seen(
    opened: Open, page: Path, made: Made
) -> None:
    tab = opened(page)
    problems = made.samples["tasks"]["demo"]["problems"]
    assert {problem["prompt"] for problem in problems} == set(HOSTILE)
    for problem in problems[:14]:
        tab.ask(f"location.hash = '#demo/' + encodeURIComponent({json.dumps(problem['id'])}) + '/1000'")
        name = as_shown(problem["id"])
        name = f"{name[:40]}…" if len(name) > 40 else name
        tab.wait(f"document.querySelector('.problems [aria-current] .id').textContent === {json.dumps(name)}")
        shown = tab.ask("document.querySelector('#player .prompt').textContent")
        assert shown == f"{as_shown(problem['prompt'])} Right: {as_shown(problem['gold'])}"
        found = as_shown(problem["answers"][1]["answer"])
        found = f"{found[:60]}…" if len(found) > 60 else found
        assert tab.ask("document.querySelector('.panel .found').textContent") == f"found {found}"
        pieces = [piece for piece in problem["answers"][1]["pieces"] if piece is not None]
        tab.wait("document.querySelector('.panel .box.masked') === null")
        assert tab.ask("document.querySelector('.panel .spoken').textContent") == as_shown("".join(pieces))
    assert tab.ask("window.ran") is None


def test_text_that_turns_the_line_around_stays_in_its_own_box(opened: Open, page: Path) -> None:
    tab = opened(page)
    directions = tab.ask(
        "[...new Set([...document.querySelectorAll('bdi')].map(b => getComputedStyle(b).unicodeBidi))]"
    )
    assert directions == ["isolate"]
    everything = tab.ask("document.querySelector('main').textContent")
    assert not set(everything) & set("\u202e\u2066\u2069\u202c\u200b\ufeff\x00\x1b\x07")
