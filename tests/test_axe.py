"""scripts/axe.py gives the pinned file or none, and says why tests will be skipped."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest


def fetch(project_root: Path, folder: Path, path: Path) -> str:
    command = [sys.executable, str(project_root / "scripts" / "axe.py"), str(folder)]
    env = {**os.environ, "PATH": str(path)}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.fixture
def npm(tmp_path: Path) -> Path:
    """A folder with an `npm` that packs something else under the name."""
    pack = tmp_path / "pack.tgz"
    with tarfile.open(pack, "w:gz") as archive:
        member = tarfile.TarInfo("package/axe.min.js")
        member.size = 4
        archive.addfile(member, io.BytesIO(b"evil"))
    folder = tmp_path / "bin"
    folder.mkdir()
    script = f'#!/bin/sh\n/bin/cp {pack} "$4"/axe-core.tgz\n'
    (folder / "npm").write_text(script)
    (folder / "npm").chmod(0o755)
    return folder


def test_without_npm_it_says_so_in_one_line(project_root: Path, tmp_path: Path) -> None:
    said = fetch(project_root, tmp_path / "axe", tmp_path)
    assert said == "axe-core: there is no npm here; accessibility tests will be skipped\n"
    assert not (tmp_path / "axe").exists()


def test_another_file_than_the_pinned_one_is_refused(project_root: Path, tmp_path: Path, npm: Path) -> None:
    said = fetch(project_root, tmp_path / "axe", npm)
    assert "is not the file that tests/browser/axe.json names by its sha256" in said
    assert not (tmp_path / "axe").exists()


def test_an_npm_that_fails_is_told(project_root: Path, tmp_path: Path, npm: Path) -> None:
    (npm / "npm").write_text("#!/bin/sh\necho 'no network' >&2\nexit 1\n")
    assert "npm could not fetch axe-core@" in fetch(project_root, tmp_path / "axe", npm)
