"""What may import what: a cached run must not pay for torch, and stages meet through artifacts only."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

from trims_core.stage import STAGE_MODULES

HEAVY = (
    "torch sympy math_verify vllm transformers tokenizers matplotlib "
    "prefect deepspeed peft datasets polars jinja2"
)
READS_BY_LISTING = ("glob", "rglob", "iterdir", "scandir", "listdir")
LISTING_ALLOWED = (
    "store/",
    "fingerprint.py",
    "hub.py",
    "machine.py",
    "profiles.py",
    "students/checkpoint.py",
    "training/",
    "sandbox/box.py",
)
"""The store; outside folders and the hub's cache; our own profiles; checkpoints of a running training, no
artifacts yet; what a system has of Python, its libraries and its hardware."""


LOOK = """
import importlib, json, sys
found = {}
for module in sys.argv[2:]:
    importlib.import_module(module)
    loaded = {name.partition(".")[0] for name in sys.modules} & set(sys.argv[1].split())
    if loaded:
        found[module] = sorted(loaded)
        break
print(json.dumps(found))
"""
"""Imports modules one after the other; prints the first one after which something heavy is loaded."""


def test_looking_for_cached_artifacts_loads_nothing_heavy(project_root: Path) -> None:
    modules = ["trims_core", "trims_core.plan", "trims_core.store", *STAGE_MODULES.values()]
    done = subprocess.run(
        [sys.executable, "-c", LOOK, HEAVY, *modules],
        cwd=project_root,
        env={**os.environ, "PYTHONPATH": str(project_root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {}


def test_the_import_contract_holds(project_root: Path) -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [linter, "--no-cache"],
        cwd=project_root,
        env={**os.environ, "PYTHONPATH": str(project_root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_artifacts_are_read_through_manifests_never_by_listing_folders(project_root: Path) -> None:
    source = project_root / "trims_core"
    found = [
        f"{name}:{call.lineno}"
        for path in sorted(source.rglob("*.py"))
        if not (name := path.relative_to(source).as_posix()).startswith(LISTING_ALLOWED)
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and getattr(call.func, "attr", None) in READS_BY_LISTING
    ]
    assert found == []
