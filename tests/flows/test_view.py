"""`trims view`: the page of exactly these settings, and a server that this machine alone can ask."""

from __future__ import annotations

import threading
import urllib.request
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError

import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.page_server import PageServer
from trims_core.errors import ConfigError
from trims_core.graph import build_graph
from trims_core.latest import point_latest
from trims_core.report.served import Reply
from trims_core.settings import load_config
from trims_core.stage import run_node
from trims_core.store import Artifact, Store


def view(*words: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["view", *map(str, words)], terminal_width=200)
    return result.exit_code, result.output + result.stderr


@pytest.fixture
def made(config: Path) -> Path:
    """The page of a finished run of the fake stages."""
    settings = load_config(config, [])
    store, there = Store(settings.store), dict[str, Artifact]()
    for node in build_graph(settings):
        parents = {role: there[parent] for role, parent in node.parents.items()}
        there[node.id] = run_node(store, settings, node, parents).artifact
    return there["report"].file("index.html")


def test_it_opens_the_page_and_says_where_it_is(
    config: Path, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    assert view(config) == (0, f"{made}\n")
    assert opened == [made.resolve().as_uri()]
    assert view(config, "--no-open") == (0, f"{made}\n")
    assert len(opened) == 1


def test_a_report_that_was_not_made_is_an_error_with_the_command(config: Path) -> None:
    code, said = view(config, "--no-open")
    assert code == 66
    assert "there is no report of these settings (corpus: " in said
    assert f"make it with trims run {config}" in said


def test_the_report_of_other_settings_is_named_and_not_opened(config: Path, made: Path) -> None:
    settings = load_config(config, [])
    latest = point_latest(Path(settings.store), settings.name, made.parent)
    code, said = view(config, "--no-open", "--set", "buckets.k=3")
    assert code == 66
    assert f"of other settings or inputs, is {latest / 'index.html'}" in said


def test_a_pages_folder_is_opened_as_it_is(
    config: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    settings = load_config(config, [])
    compared = Path(settings.store) / "compared" / settings.name
    compared.mkdir(parents=True)
    assert f"Its ablation's page: trims view {compared}" in view(config, "--set", "buckets.k=3")[1]
    code, said = view(compared)
    assert (code, opened) == (66, []) and "no index.html in it" in said
    (compared / "index.html").write_bytes(made.read_bytes())
    assert view(compared) == (0, f"{compared / 'index.html'}\n")
    assert opened == [(compared / "index.html").resolve().as_uri()]
    for words in (["--serve"], ["--set", "buckets.k=3"]):
        code, said = view(compared, *words)
        assert code != 0 and f"{words[0]}: {compared} is a page as it was written" in said


def test_a_report_of_another_program_is_not_served(config: Path, made: Path) -> None:
    code, said = view(config, "--no-open", "--serve")
    assert code == 1
    assert "or open its page without --serve" in said


@pytest.fixture
def server() -> Iterator[PageServer]:
    replies = {
        "/": Reply("text/html; charset=utf-8", b"page"),
        "/a%2Fb.json": Reply("application/json", b"[]"),
    }
    with PageServer(replies.get, 0) as opened:
        thread = threading.Thread(target=opened.serve_forever)
        thread.start()
        yield opened
        opened.shutdown()
        thread.join()


def ask(server: PageServer, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes, str | None]:
    request = urllib.request.Request(server.address + path, method=method, headers=headers)
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
            return answer.status, answer.read(), answer.headers["Content-Type"]
    except HTTPError as error:
        return error.code, b"", None


def test_what_there_is_is_given_and_nothing_else(server: PageServer) -> None:
    assert ask(server, "") == (200, b"page", "text/html; charset=utf-8")
    assert ask(server, "?x=1")[0] == 200
    assert ask(server, "a%2Fb.json") == (200, b"[]", "application/json")
    assert ask(server, "a/b.json")[0] == 404
    assert ask(server, "", method="HEAD")[:2] == (200, b"")
    assert ask(server, "", method="POST")[0] == 501


def test_only_this_machine_under_its_own_name_is_answered(server: PageServer) -> None:
    assert server.server_address[0] == "127.0.0.1"
    assert ask(server, "", Host=f"localhost:{server.server_port}")[0] == 200
    assert ask(server, "", Host=f"elsewhere.example:{server.server_port}")[0] == 403


def test_a_port_in_use_is_an_error_with_a_remedy(server: PageServer) -> None:
    with pytest.raises(ConfigError, match=f"--port {server.server_port}: .* in use; expected a free port"):
        PageServer(lambda _: None, server.server_port)
