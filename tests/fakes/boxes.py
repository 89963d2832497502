"""A sandbox for tests, and what of its processes is left on the host."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path

import pytest

from trims_core.sandbox import Limits, Sandbox, box


def needs_bubblewrap() -> None:
    """Fails, saying what to run, where it is missing: such tests do not skip."""
    if shutil.which("bwrap") is None:
        pytest.fail("bubblewrap is not installed; run: make deps-test")


class Mark:
    """A variable in the environment of every boxed process from now on."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        needs_bubblewrap()
        self._text = f"TRIMS_TEST={secrets.token_hex(8)}".encode()
        name, _, value = self._text.decode().partition("=")
        patch.setitem(box.ENVIRONMENT, name, value)

    def running(self) -> list[int]:
        """The processes of such boxes that the host knows of, bubblewrap's own among them."""
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                alive = path.read_bytes()
            except OSError:
                continue
            if self._text in alive.split(b"\0"):
                found.append(int(path.parent.name))
        return found


def sandbox(**limits: float) -> Sandbox:
    """A sandbox with small limits. Fails where bubblewrap is missing."""
    needs_bubblewrap()
    chosen = {"time_s": 20.0, "cpu_s": 5, **limits}
    return Sandbox(Limits(**chosen))  # type: ignore[arg-type]
