"""What the golden tests digest: the rows of the data stages, of a sweep and its grades, and a report's data.

`PYTHONPATH=.:tests python -m fakes.golden_world` prints the digests of tests/test_golden_tables.py.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from fakes.chain_world import GOLDEN_ROWS, digest, golden_tables, table
from fakes.report_world import ReportWorld

from trims_core.fingerprint import sha256_json
from trims_core.graph import build_graph, node_named
from trims_core.rendering import load_tokenizer
from trims_core.report.costs import PHASES
from trims_core.report.results import collect
from trims_core.report.tables import table_markdown
from trims_core.settings import load_config
from trims_core.stage import run_node
from trims_core.store import Artifact, Store

ROBUST: Final = (
    "cache",
    "threshold",
    "sample_id",
    "prompt",
    "text",
    "finished",
    "n_tokens",
    "n_tokens_canvas",
    "n_tokens_text",
    "n_forwards",
    "token_ids",
    "reveal_step",
)
"""Of the samples; confidences and entropies are floats that another CPU's kernels round otherwise."""
OF_THE_MACHINE: Final = ("seconds", "tokens_per_second", "workers", "machines")
"""Of cells.json."""
ABOUT_ARTIFACTS: Final = ("stages", "provenance")
"""Of the report's results: seconds, fingerprints, versions."""


def decoded(root: Path, project: Path) -> dict[str, Artifact]:
    """The shipped student's greedy sweep over the first 20 demo problems, and its grades: right and wrong."""
    overrides = [
        f"store={root / 'store'}",
        f"student.model={project / 'data/demo/student'}",
        f"sweep.tasks.demo.path={project / 'data/demo/test.jsonl'}",
        f"sweep.tasks.demo.limit={GOLDEN_ROWS}",
        "sweep.thresholds=[0.7]",
        "sweep.compare_caches=[]",
        "sweep.gen_length=48",
        "sweep.block_length=16",
        f"sweep.batch_size={GOLDEN_ROWS}",
    ]
    config = load_config(project / "configs/demo.yaml", overrides, env={})
    store, graph = Store(config.store), build_graph(config)
    sweep = run_node(store, config, node_named(graph, "sweep/untuned"), {}).artifact
    grades = run_node(store, config, node_named(graph, "grades/untuned"), {"sweep": sweep}).artifact
    return {"samples": sweep, "grades": grades}


def cells(grades: Artifact) -> list[dict[str, Any]]:
    """The lines of cells.json, without what depends on the machine."""
    rows = json.loads(grades.file("cells.json").read_bytes())
    return [{name: value for name, value in row.items() if name not in OF_THE_MACHINE} for row in rows]


def report_data(root: Path) -> dict[str, Any]:
    """What results.json and table.md say of a made-up run of 20 problems, two seeds and two caches; without
    times, which are another each time."""
    sweep = {"cache": "dual", "compare_caches": ["none"]}
    world = ReportWorld(root, n=GOLDEN_ROWS, seeds=(0, 1), sweep=sweep)
    config = world.config()
    results = collect(config, world.parents(), load_tokenizer(config.student.model))
    markdown = table_markdown(results).partition("## Costs")[0]
    kept = {name: value for name, value in results.items() if name not in ABOUT_ARTIFACTS}
    return {"results": {**kept, "costs": [_timeless(row) for row in results["costs"]]}, "tables": markdown}


def _timeless(costs: Mapping[str, Any]) -> dict[str, Any]:
    phases = {
        phase: {name: value for name, value in costs[phase].items() if not name.endswith("seconds")}
        for phase in PHASES
    }
    return {**costs, **phases}


def digests_of_answers(found: Mapping[str, Artifact], folder: Path) -> dict[str, str]:
    """Of the samples' robust columns, the grades' rows, and their cells."""
    return {
        "samples": digest(table(found["samples"], "samples"), folder, ROBUST),
        "grades": digest(table(found["grades"], "grades"), folder),
        "cells": sha256_json(cells(found["grades"])),
    }


def digests_of_report(data: Mapping[str, Any]) -> dict[str, str]:
    """Of the numbers and of the text."""
    return {name: sha256_json(what) for name, what in data.items()}


def _all(root: Path, project: Path) -> dict[str, str]:
    tables: dict[str, pa.Table] = golden_tables(root / "chain")
    found = {name: digest(rows, root) for name, rows in tables.items()}
    found |= digests_of_answers(decoded(root / "answers", project), root)
    return found | digests_of_report(report_data(root / "report"))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        printed = _all(Path(scratch), Path(__file__).resolve().parents[2])
    sys.stdout.write(json.dumps(printed, indent=4) + "\n")
