"""The code of a user's class is part of a key: its package's files, or its one file."""

from __future__ import annotations

from pathlib import Path

import pytest

from trims_core.fingerprint import Digests
from trims_core.user_code import source_digest


def digest(reference: str) -> str:
    return source_digest(reference, "scores.teacher", Digests(None))


def test_every_file_of_a_package_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "my_teachers_in_a_package"
    (package / "inner").mkdir(parents=True)
    for name in ("__init__.py", "mine.py", "helper.py", "inner/__init__.py", "inner/deep.py"):
        (package / name).write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    before = digest("my_teachers_in_a_package.mine:Teacher")
    for name in ("helper.py", "inner/deep.py"):
        (package / name).write_text("x = 1")
        assert digest("my_teachers_in_a_package.mine:Teacher") != before
        (package / name).write_text("")
    (package / "notes.txt").write_text("not code")
    assert digest("my_teachers_in_a_package.mine:Teacher") == before


def test_of_a_lone_module_its_file_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_lone_teacher.py").write_text("")
    (tmp_path / "beside.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    before = digest("my_lone_teacher:Teacher")
    (tmp_path / "beside.py").write_text("x = 1")
    assert digest("my_lone_teacher:Teacher") == before
    (tmp_path / "my_lone_teacher.py").write_text("x = 1")
    assert digest("my_lone_teacher:Teacher") != before
