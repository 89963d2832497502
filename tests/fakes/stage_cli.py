"""`python -m fakes.stage_cli` is `python -m trims_core.stage` with the fake stages; tests kill it.

With FAKE_GATE=<file> it waits, once its stage works, until that file exists.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from fakes.stages import SPECS, raw_config

from trims_core.stage import StageSpec, Work, main

TESTS = Path(__file__).resolve().parent.parent


def write_config(root: Path) -> Path:
    """The small pipeline's settings as a file."""
    path = root / "tiny.yaml"
    path.write_text(yaml.safe_dump(raw_config(root)))
    return path


def start(root: Path, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """The stage command, running in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "fakes.stage_cli", *arguments, "--config", str(write_config(root))],
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(TESTS), str(TESTS.parent))), **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _gated(spec: StageSpec) -> StageSpec:
    """The spec with a begin that says it started and waits for the gate file."""
    gate = Path(os.environ["FAKE_GATE"])

    def begin(work: Work) -> Any:
        gate.with_suffix(".reached").touch()
        while not gate.exists():
            time.sleep(0.02)
        return None if spec.begin is None else spec.begin(work)

    return replace(spec, begin=begin)


if __name__ == "__main__":
    chosen = {name: _gated(spec) for name, spec in SPECS.items()} if "FAKE_GATE" in os.environ else SPECS
    sys.exit(main(specs=chosen))
