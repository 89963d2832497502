"""The drift between two bucketings, published as a table."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from tasks.artifacts import artifact_key
from tasks.outages import one_try, shown
from trims_core.config import TrimsConfig
from trims_core.drift import bucket_drift
from trims_core.store import ArtifactRef, Store


@task(cache_policy=NO_CACHE, persist_result=False, task_run_name="drift")
def drift(config: TrimsConfig, old: ArtifactRef, new: ArtifactRef) -> dict[str, Any]:
    """The measures of `trims_core.drift.Drift`, also shown as a table."""
    store = Store(Path(config.store))
    measured = bucket_drift(*(store.open(ref).files("buckets-", ".parquet") for ref in (old, new)))
    key = artifact_key("trims", config.name, "drift")
    text = f"From buckets {old['fingerprint'][:12]} to {new['fingerprint'][:12]}"
    with one_try():
        shown("the drift", lambda: create_table_artifact(measured.rows(), key=key, description=text))
    return asdict(measured)
