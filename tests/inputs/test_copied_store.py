"""A store copied with `cp -rL`: its links are folders. Everything is found, and nothing is in the way."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fakes import flow_stages
from typer.testing import CliRunner

from flows.cli import app
from trims_core.graph import build_graph
from trims_core.latest import point_latest
from trims_core.settings import load_config
from trims_core.stage import run_node
from trims_core.store import Artifact, Store


def test_a_run_in_a_copied_store_ends_well_and_names_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    flow_stages.install(monkeypatch)
    config = flow_stages.write_config(tmp_path)
    settings = load_config(config)
    store, done = Store(settings.store), dict[str, Artifact]()
    for node in build_graph(settings):
        parents = {role: done[parent] for role, parent in node.parents.items()}
        done[node.id] = run_node(store, settings, node, parents).artifact
    report = done["report"].path
    point_latest(store.root, "tiny", report)
    copy = tmp_path / "copy"
    shutil.copytree(store.root, copy, symlinks=False)
    assert not (copy / "latest/tiny").is_symlink()

    found = CliRunner().invoke(app, ["run", str(config), "--set", f"store={copy}"], env={"COLUMNS": "300"})
    assert found.exit_code == 0, found.output
    assert found.stdout.count(" cached ") == 11
    page = copy / "report" / report.name / "index.html"
    assert f"report: {page}" in found.stdout and page.is_file()
    assert "latest/tiny does not lead to the newest report" in caplog.text
    assert [path.name for path in (copy / "latest").iterdir()] == ["tiny"]


def test_a_file_system_without_links_costs_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    report = tmp_path / "report" / "aa"
    report.mkdir(parents=True)
    assert point_latest(tmp_path, "demo", report) == report
    assert "Operation not permitted" in caplog.text
