"""The comparison of an ablation's arms, published as a table per benchmark and every figure."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks import listeners
from tasks.artifacts import artifact_key, publish_images, publish_table
from tasks.outages import one_try, shown
from tasks.progress import StageProgress
from trims_core.ablations import Ablation, write_ablation
from trims_core.report.ablations import ablations_table

COMPARISON: Final = "comparison"


@task(cache_policy=NO_CACHE, persist_result=False, task_run_name=COMPARISON)
def compare_arms(ablation: Ablation) -> str:
    """The path of the page that was written; all artifacts of all arms are there."""
    begun, name = time.monotonic(), ablation.base.name
    listeners.started(COMPARISON)
    with StageProgress(COMPARISON, artifact_key("trims", name, COMPARISON, "progress")) as progress:
        page, results = write_ablation(ablation, lambda note: progress(0, 0, note))
    listeners.finished(COMPARISON, "made", time.monotonic() - begun)
    with one_try():
        for benchmark in results["tasks"]:
            key = artifact_key("trims", name, "ablations", benchmark)
            shown(f"the ablations on {benchmark}", partial(_publish, key, benchmark, page, results))
        key = artifact_key("trims", name, COMPARISON)
        figures = sorted((page.parent / "figures").glob("*.png"))
        shown("the comparison's figures", partial(publish_images, key, figures, f"`{page}`"))
    return str(page)


def _publish(key: str, benchmark: str, page: Path, results: Mapping[str, Any]) -> None:
    table = ablations_table(benchmark, results)
    rows = [dict(zip(table.header, row, strict=True)) for row in table.rows]
    publish_table(key, rows, f"{table.caption}\n\n`{page}`")
