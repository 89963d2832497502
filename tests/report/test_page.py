"""The page needs nothing but itself, forbids everything else, and holds the very results."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trims_core.report.page import SCRIPTS, json_for_html, libraries, render_page

VOID = {"meta", "link", "input"}
LONGEST_SCRIPT = 300


class Elements(HTMLParser):
    """Every start tag with its attributes and its text, and whether tags nest."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))
        self.texts.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == self.found[-1][0]:
            self.texts[-1] += data

    def named(self, *tags: str) -> list[tuple[dict[str, str], str]]:
        """Attributes and text of all elements of these kinds."""
        return [
            (attributes, text)
            for (tag, attributes), text in zip(self.found, self.texts, strict=True)
            if tag in tags
        ]


def parsed(html: str) -> Elements:
    page = Elements()
    page.feed(html)
    page.close()
    return page


@pytest.fixture(scope="module")
def page(report: Path) -> Elements:
    """The parsed page."""
    return parsed((report / "index.html").read_text(encoding="utf-8"))


def policy_of(page: Elements) -> str:
    (policy,) = [meta["content"] for meta, _ in page.named("meta") if "http-equiv" in meta]
    return policy


def data_of(page: Elements) -> dict[str, Any]:
    scripts = page.named("script")
    return {
        about["id"]: json.loads(text) for about, text in scripts if about.get("type") == "application/json"
    }


def test_every_element_is_closed(page: Elements) -> None:
    assert page.open == []


def test_nothing_is_loaded_from_elsewhere(page: Elements) -> None:
    for tag, attributes in page.found:
        for name in ("src", "srcset", "href", "data", "poster", "action"):
            if name in attributes:
                assert attributes[name].startswith(("data:", "#")), (tag, name, attributes[name][:60])
    assert page.named("iframe", "object", "embed", "base", "img") == []
    (style,) = [text for _, text in page.named("style")]
    assert "@import" not in style
    assert "url(" not in style


def test_the_browser_runs_the_scripts_of_the_page_and_loads_nothing(page: Elements) -> None:
    policy = policy_of(page)
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "connect-src" not in policy
    named = re.findall(r"'sha256-([^']+)'", policy)
    run = [text for about, text in page.named("script") if "type" not in about]
    assert named == [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in run]
    assert len(run) == len(libraries()) + len(SCRIPTS)
    assert [name for _, about in page.found for name in about if name.startswith("on")] == []


def test_a_served_page_may_ask_its_server_and_no_other(results: dict[str, Any]) -> None:
    policy = policy_of(parsed(render_page(results, {"tasks": {}}, served=True)))
    assert "connect-src 'self';" in policy


def test_the_page_holds_the_results_and_the_samples_beside_it(page: Elements, report: Path) -> None:
    found = data_of(page)
    for name in ("results", "samples"):
        assert found[f"{name}-data"] == json.loads((report / f"{name}.json").read_bytes())


def test_sentences_and_tables_are_those_of_table_md(page: Elements, report: Path) -> None:
    shown, markdown = data_of(page)["shown-data"], (report / "table.md").read_text(encoding="utf-8")
    assert len(shown["tasks"]["demo"]["sentences"]) == 3
    for line in [*shown["tasks"]["demo"]["sentences"], *shown["tasks"]["demo"]["limits"]]:
        assert f"- {line}" in markdown
    tables = [*shown["tasks"]["demo"]["tables"].values(), *shown["tables"].values()]
    assert len(tables) == 14
    for table in tables:
        assert table["caption"] in markdown
        for row in table["rows"]:
            assert "| " + " | ".join(row) + " |" in markdown


def test_every_section_names_its_artifacts_and_the_command_that_makes_them(
    page: Elements, results: dict[str, Any]
) -> None:
    sources = data_of(page)["shown-data"]["sources"]
    known = {(row["node"], row["fingerprint"][:12]) for row in results["stages"]}
    assert {(node, short) for node, short in sources["curves"]["artifacts"]} == {
        (node, short) for node, short in known if node.startswith(("sweep/", "grades/"))
    }
    assert sources["curves"]["command"] == "trims run CONFIG --refresh sweep"
    (analysis,) = sources["analysis"]["artifacts"]
    assert tuple(analysis) in known and analysis[0] == "analysis"
    assert sources["analysis"]["command"] == "trims run CONFIG --refresh analysis"


def test_who_runs_no_scripts_is_told_where_the_numbers_are(report: Path) -> None:
    html = (report / "index.html").read_text(encoding="utf-8")
    (told,) = re.findall(r"<noscript>(.*?)</noscript>", html, flags=re.DOTALL)
    assert "table.md" in told and "results.json" in told


@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_data_stay_inside_their_element(value: Any) -> None:
    text = json_for_html(value)
    assert json.loads(text) == value
    assert not set(text) & set("<>&\u2028\u2029")


def test_markup_in_data_is_no_markup(results: dict[str, Any]) -> None:
    hostile = "</script><script>alert(1)</script><!-- <b>"
    page = parsed(render_page({**results, "title": hostile, "caveats": [hostile]}, {"tasks": {}}))
    assert data_of(page)["results-data"]["caveats"] == [hostile]
    assert page.named("b") == []
    assert len(page.named("script")) == 4 + len(libraries()) + len(SCRIPTS)


def test_libraries_are_what_their_list_says() -> None:
    folder = resources.files("trims_core.report").joinpath("web/vendor")
    listed = set()
    for library in libraries():
        data = folder.joinpath(library.file).read_bytes()
        assert hashlib.sha256(data).hexdigest() == library.sha256, library.file
        assert f"{library.name}".lower().split()[-1] in library.source
        assert library.version in data[:200].decode() and library.version in library.source
        for name in library.licence_files:
            assert "Copyright" in folder.joinpath(name).read_text(encoding="utf-8")
        listed |= {library.file, *library.licence_files}
    folders = [inner for inner in folder.iterdir() if inner.is_dir()]
    assert {f"{inner.name}/{file.name}" for inner in folders for file in inner.iterdir()} == listed


def test_every_copy_of_a_library_carries_its_licence(page: Elements) -> None:
    copies = [text for _, text in page.named("script") if text.startswith("/*!")]
    assert len(copies) == len(libraries())
    assert all("Permission to use, copy, modify, and/or distribute" in copy for copy in copies)


def test_scripts_are_short_and_all_of_them_are_read() -> None:
    folder = resources.files("trims_core.report").joinpath("web")
    assert sorted(file.name for file in folder.iterdir() if file.name.endswith(".js")) == sorted(SCRIPTS)
    for name in SCRIPTS:
        text = folder.joinpath(name).read_text(encoding="utf-8")
        assert text.count("\n") <= LONGEST_SCRIPT, name
        assert text.startswith("// ")
        assert "innerHTML" not in text and "outerHTML" not in text and "insertAdjacentHTML" not in text
