"""The `latest` link leads to the newest report and is replaced in one step."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trims_core.latest import latest_path, point_latest


def _report(store: Path, fingerprint: str) -> Path:
    folder = store / "report" / fingerprint
    folder.mkdir(parents=True)
    (folder / "index.html").write_text(fingerprint)
    return folder


def test_the_link_leads_to_the_newest_report(tmp_path: Path) -> None:
    for fingerprint in ("aa", "bb"):
        link = point_latest(tmp_path, "demo", _report(tmp_path, fingerprint))
        assert link == latest_path(tmp_path, "demo")
        assert (link / "index.html").read_text() == fingerprint
    assert [p.name for p in link.parent.iterdir()] == ["demo"]


def test_a_moved_store_keeps_its_links(tmp_path: Path) -> None:
    store = tmp_path / "store"
    point_latest(store, "demo", _report(store, "aa"))
    moved = store.rename(tmp_path / "elsewhere")
    assert (latest_path(moved, "demo") / "index.html").read_text() == "aa"


def test_left_over_half_made_link_does_not_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trims_core.latest.os.getpid", lambda: 7)
    (tmp_path / "latest").mkdir()
    (tmp_path / "latest" / ".demo.7").symlink_to("nowhere")
    link = point_latest(tmp_path, "demo", _report(tmp_path, "aa"))
    assert link.is_dir()


def test_a_real_folder_in_the_way_is_a_warning_and_not_deleted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (latest_path(tmp_path, "demo") / "mine").mkdir(parents=True)
    report = _report(tmp_path, "aa")
    assert point_latest(tmp_path, "demo", report) == report
    assert "demo does not lead to the newest report" in caplog.text
    assert (latest_path(tmp_path, "demo") / "mine").is_dir()
    assert [path.name for path in (tmp_path / "latest").iterdir()] == ["demo"]


def test_the_link_is_there_at_every_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = point_latest(tmp_path, "demo", _report(tmp_path, "aa"))
    seen: list[bool] = []

    def watching(name: str) -> None:
        really = getattr(os, name)

        def call(*arguments: object, **named: object) -> object:
            found = really(*arguments, **named)
            seen.append((link / "index.html").is_file())
            return found

        monkeypatch.setattr(os, name, call)

    for name in ("unlink", "remove", "symlink", "rename", "replace"):
        watching(name)
    point_latest(tmp_path, "demo", _report(tmp_path, "bb"))
    assert len(seen) >= 2
    assert all(seen), "for a moment no report was to be found under the link"
