"""Manifests say which commit made them."""

from __future__ import annotations

import subprocess
from pathlib import Path

from trims_core.source import commit


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    return subprocess.run(
        ["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_the_commit_and_whether_it_was_changed(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "code").write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    (tmp_path / "untracked").write_text("1")
    head = git(tmp_path, "rev-parse", "HEAD")
    commit.cache_clear()
    assert commit(tmp_path) == head
    (tmp_path / "code").write_text("2")
    commit.cache_clear()
    assert commit(tmp_path) == f"{head} with changes"


def test_it_is_unknown_without_a_checkout(tmp_path: Path) -> None:
    commit.cache_clear()
    assert commit(tmp_path) is None
    (tmp_path / ".git").mkdir()
    commit.cache_clear()
    assert commit(tmp_path) is None, "git does not know this folder"
