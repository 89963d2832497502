"""The command that takes the README's picture."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

from fakes.chromium import Browser


def take(project_root: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, project_root / "scripts" / "screenshot.py", *words]
    return subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=120, check=False)


def test_it_takes_a_picture_of_the_asked_size(
    browser: Browser, page: Path, project_root: Path, tmp_path: Path
) -> None:
    picture = tmp_path / "new" / "page.png"
    done = take(project_root, page, picture, "--width", "400", "--height", "300", "--at", "#player", "--dark")
    assert done.returncode == 0, done.stderr
    data = picture.read_bytes()
    assert struct.unpack(">II", data[16:24]) == (400, 300)
    assert len(data) > 5_000


def test_a_page_that_is_not_there_is_an_error(browser: Browser, project_root: Path, tmp_path: Path) -> None:
    done = take(project_root, tmp_path / "none.html", tmp_path / "page.png")
    assert (done.returncode, "no such page; trims view CONFIG" in done.stderr) == (1, True)
