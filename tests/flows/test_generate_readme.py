"""The README's Python and its generate command do what they say."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app


@pytest.fixture(scope="module")
def readme(project_root: Path) -> str:
    return (project_root / "README.md").read_text(encoding="utf-8")


def test_the_python_of_the_readme_is_five_lines_that_answer(
    readme: str, project_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project_root)
    blocks = re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)
    assert blocks
    for block in blocks:
        assert len([line for line in block.splitlines() if line]) <= 5
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            exec(compile(block, "README.md", "exec"), {})
        assert re.search(r"The answer is 8\. \(\d\.\d tokens per forward\)", said.getvalue())


def test_the_generate_command_answers(
    readme: str, project_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project_root)
    commands = re.findall(r"^\S*trims (generate .*?)$", readme, flags=re.MULTILINE)
    assert commands
    for command in commands:
        found = CliRunner().invoke(app, shlex.split(command))
        assert found.exit_code == 0, found.output
        assert "The answer is 8." in found.stdout
