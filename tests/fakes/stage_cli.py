"""The stage command with the fake stages, in processes of their own; tests kill them.

With FAKE_GATE=<file> it waits, once its stage works, until that file exists. FAKE_FILE_BYTES: the most that a
file may hold, as where the disk is full.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from fakes import forking
from fakes.stages import SPECS, raw_config

from trims_core.stage import StageSpec, Work, main


def write_config(root: Path) -> Path:
    """The small pipeline's settings as a file."""
    path = root / "tiny.yaml"
    path.write_text(yaml.safe_dump(raw_config(root)))
    return path


def start(root: Path, *arguments: str, env: Mapping[str, str] | None = None) -> forking.Forked:
    """The stage command, running in a process of its own."""
    return forking.start(_run, [*arguments, "--config", str(write_config(root))], env=env)


def _run(arguments: Sequence[str]) -> int:
    if limit := os.environ.get("FAKE_FILE_BYTES"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
    gated = "FAKE_GATE" in os.environ
    return main(arguments, {name: _gated(spec) for name, spec in SPECS.items()} if gated else SPECS)


def _gated(spec: StageSpec) -> StageSpec:
    """The spec with a begin that says it started and waits for the gate file."""
    gate = Path(os.environ["FAKE_GATE"])

    def begin(work: Work) -> Any:
        gate.with_suffix(".reached").touch()
        while not gate.exists():
            time.sleep(0.02)
        return None if spec.begin is None else spec.begin(work)

    return replace(spec, begin=begin)
