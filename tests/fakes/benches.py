"""The scripts of bench/ in forked processes: none imports the heavy modules again."""

from __future__ import annotations

import importlib
import io
import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from fakes import forking

BENCH = Path(__file__).resolve().parents[2] / "bench"


def quick(name: str, *options: str) -> dict[str, Any]:
    """The line of `python bench/NAME.py --quick`; the processes that it starts of itself are forked, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCH)
        module = importlib.import_module(name)

        def forked(command: Sequence[str], **_: Any) -> CompletedProcess[str]:
            patch.setattr(sys, "argv", list(command[1:]))
            return CompletedProcess(command, *forking.run(module.main))

        command = [sys.executable, f"{name}.py", "--quick", *options]
        if not hasattr(module, "subprocess"):
            done = forked(command)
        else:
            patch.setattr(module.subprocess, "run", forked)
            patch.setattr(sys, "argv", command[1:])
            with redirect_stdout(io.StringIO()) as said:
                code = module.main()
            done = CompletedProcess(command, code, said.getvalue(), "")
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = done.stdout.splitlines()
    found: dict[str, Any] = json.loads(line)
    assert found["bench"] == name
    return found
