"""`trims run` in a process of its own, with a server of its own: what a person sees. Fake stages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows import server

_PROGRAM = (
    "import pytest\n"
    "from fakes import flow_stages\n"
    "flow_stages.install(pytest.MonkeyPatch())\n"
    "from flows.cli import main\n"
    "main()\n"
)


@pytest.fixture
def home(tmp_path: Path, project_root: Path) -> dict[str, str]:
    """An environment without any Prefect settings."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    paths = f"{project_root}{os.pathsep}{project_root / 'tests'}"
    return {**env, "HOME": str(tmp_path), "PYTHONPATH": paths, "COLUMNS": "200"}


def trims(env: dict[str, str], *words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _PROGRAM, *map(str, words)]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)


def test_a_run_is_shown_interrupted_and_finished_by_the_same_command_wherever_its_store_is(
    config: Path, home: dict[str, str]
) -> None:
    store = config.parent / "st?re #1 %41"
    home |= {"TRIMS_STORE": str(store), "PYTHONIOENCODING": "latin-1"}
    stopped = trims({**home, "TRIMS_FAULT": "fake.before_shard:term:2"}, "run", config)
    assert stopped.returncode == 143, stopped.stdout + stopped.stderr
    assert stopped.stderr == "error: interrupted; what was finished is kept, the same command continues\n"
    done = trims(home, "run", config)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (done.stderr, "Traceback" in done.stdout) == ("", False)
    said = done.stdout.splitlines()
    assert "corpus: cached" in said
    assert any(line.startswith("scores: made in ") for line in said)
    assert said[-1] == f"report: {store / 'latest' / 'tiny' / 'index.html'}"
    with server._free_home(store / ".prefect") as free:
        assert free.name == "home-0"
        assert (free / "prefect.db").is_file()
    assert not list(config.parent.glob("st"))
