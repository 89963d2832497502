"""The difficulty histogram and the bucket edges, as the buckets artifact states them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from trims_core.errors import ReportError

if TYPE_CHECKING:
    from trims_core.store import Artifact


def histogram_of(buckets: Artifact) -> dict[str, Any]:
    """k, metric, n_tokens, n_zero, edges_nats, bucket_sizes, and bins with their edges and counts per bucket.

    Raises:
        ReportError: edges.json and histogram.json count different tokens.
    """
    edges = json.loads(buckets.file("edges.json").read_text(encoding="utf-8"))
    histogram = json.loads(buckets.file("histogram.json").read_text(encoding="utf-8"))
    counts, below = histogram["counts"], histogram["n_below"]
    counted = [sum(row) + rest for row, rest in zip(counts, below, strict=True)]
    if counted != edges["bucket_sizes"]:
        raise ReportError(
            f"{buckets.path.name[:12]}: histogram.json counts {counted} tokens per bucket, edges.json"
            f" {edges['bucket_sizes']}; expected the same. Redo it with --refresh buckets"
        )
    shown = ("k", "metric", "n_tokens", "n_zero", "edges_nats", "bucket_sizes")
    return {
        **{name: edges[name] for name in shown},
        "bins": {
            "edges_nats": histogram["bin_edges_nats"],
            "counts_per_bucket": counts,
            "n_below_per_bucket": below,
        },
    }
