"""The page needs nothing but itself, can be read by everybody, and shows model text as text."""

from __future__ import annotations

import base64
import itertools
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from trims_core.report.contrast_tables import MEANINGS_OF_INTERVALS

VOID = {"meta", "link", "img", "source", "br", "hr", "input"}


class Elements(HTMLParser):
    """Every start tag with its attributes, the text, and whether tags nest."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def named(self, *tags: str) -> list[dict[str, str]]:
        """Attributes of all elements of these kinds."""
        return [attributes for tag, attributes in self.found if tag in tags]


@pytest.fixture(scope="module")
def page(report: Path) -> Elements:
    """The parsed page."""
    parsed = Elements()
    parsed.feed((report / "index.html").read_text(encoding="utf-8"))
    parsed.close()
    return parsed


def test_every_element_is_closed(page: Elements) -> None:
    assert page.open == []


def test_nothing_is_loaded_from_elsewhere(page: Elements) -> None:
    for tag, attributes in page.found:
        for name in ("src", "srcset", "href", "data", "poster", "action"):
            if name in attributes and tag != "a":
                assert attributes[name].startswith("data:"), (tag, name, attributes[name][:60])
        assert "url(" not in attributes.get("style", "")
    assert page.named("script", "iframe", "object", "embed", "base") == []
    style = "".join(page.text)
    assert "@import" not in style
    assert "url(" not in style


def test_the_browser_is_told_to_load_nothing(page: Elements) -> None:
    (policy,) = [meta["content"] for meta in page.named("meta") if "http-equiv" in meta]
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_embedded_figures_load_nothing_either(page: Elements) -> None:
    images = [image["src"] for image in page.named("img")]
    images += [source["srcset"] for source in page.named("source")]
    assert len(images) == 16
    for image in images:
        svg = base64.b64decode(image.partition("base64,")[2]).decode()
        assert svg.rstrip().endswith("</svg>")
        for target in re.findall(r'(?:href|src)="([^"]*)"', svg):
            assert target.startswith("#"), target


def test_figures_are_told_in_words(page: Elements, results: dict[str, Any]) -> None:
    alts = [image["alt"] for image in page.named("img")]
    assert len(alts) == 4
    first = results["tasks"]["demo"]["curves"]["trims"][0]
    assert f"trims: {100 * first['accuracy']:.0f} % at 1.0" in alts[0]
    slowest = results["tasks"]["demo"]["caches"]["none"][0]
    assert f"none: {100 * slowest['accuracy']:.0f} % at {slowest['tokens_per_second']:.0f}" in alts[1]
    assert "bucket edges in nats" in alts[2]
    assert "trims-s0 validation" in alts[3]


def test_phones_and_screen_readers_are_served(page: Elements) -> None:
    assert page.named("html") == [{"lang": "en"}]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.named("meta")
    assert all(cell["scope"] in ("col", "row") for cell in page.named("th"))
    levels = [int(tag[1]) for tag, _ in page.found if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_findings_caveats_and_provenance_are_on_the_page(page: Elements, results: dict[str, Any]) -> None:
    text = "".join(page.text)
    for pair in results["tasks"]["demo"]["comparisons"]:
        assert pair["sentence"] in text
    for line in results["caveats"]:
        assert line in text
    for row in results["stages"]:
        assert row["fingerprint"] in text


def test_the_page_says_with_which_rule_and_cache_the_curves_were_decoded(page: Elements) -> None:
    text = " ".join("".join(page.text).split())
    assert "Curves and comparisons are decoded with rule threshold: a forward reveals the most" in text
    assert "Cache dual: columns outside the current block keep the keys and values" in text
    assert "That is faster and approximate. The table of caches shows what that does" in text


def test_the_page_says_what_the_two_intervals_mean_and_leads_with_no_aup(
    page: Elements, results: dict[str, Any]
) -> None:
    text = " ".join("".join(page.text).split())
    for sentence in MEANINGS_OF_INTERVALS:
        assert sentence in text
    low, high = results["tasks"]["demo"]["equal_tpf"]["range"]
    assert f"The headline is the mean accuracy over {low:.1f}–{high:.1f} tokens per forward" in text
    assert text.index("mean accuracy over") < text.index("AUP")


def test_markup_in_answers_is_shown_and_not_obeyed(page: Elements) -> None:
    # an example answer is "<b>8</b> & 5 make 13. …"
    assert "<b>8</b> & 5 make 13" in "".join(page.text)
    assert "<b>8" not in "".join(f"<{tag}>" for tag, _ in page.found)


def test_every_token_of_the_examples_is_coloured(page: Elements, results: dict[str, Any]) -> None:
    titled = [span for span in page.named("span") if span.get("title", "").startswith("bucket ")]
    assert len(titled) == sum(len(example["pieces"]) for example in results["examples"]) > 50
    assert all(re.match(r"background:#\w{6};color:#\w{6}", span["style"]) for span in titled)
