"""What every test may use: where the shared reference data lie, and a hub on loopback."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.hub import FakeHub

PROJECT_ROOT = Path(__file__).resolve().parent.parent


def pytest_configure() -> None:
    """No test cuts the power: nothing waits for the device. tests/store spies on when it is asked.

    What a shell starts in the background ignores Ctrl-C, and so would the processes that tests interrupt.
    """
    os.fsync = lambda descriptor: None
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The folder that holds pyproject.toml."""
    return PROJECT_ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder `shared/` beside the project; skips, saying so, where it is absent."""
    path = PROJECT_ROOT.parent / "shared"
    if not path.is_dir():
        pytest.skip(f"reference data not found at {path.name}/ beside the project")
    return path


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    """A hub of the test's own, on loopback, with an empty local cache."""
    found = FakeHub(monkeypatch, tmp_path / "hub-cache")
    yield found
    found.close()
