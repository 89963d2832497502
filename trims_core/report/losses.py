"""Loss curves of the trained models, from their metrics.jsonl."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any, Final

from trims_core.errors import ReportError
from trims_core.report.intervals import rounded

if TYPE_CHECKING:
    from trims_core.store import Artifact

_MAX_POINTS: Final = 200
_SMOOTH_POINTS: Final = 30
_COMPOSITION_POINTS: Final = 60


def losses_of(parents: Mapping[str, Artifact]) -> dict[str, dict[str, Any]]:
    """Per trained model: its method, training loss in at most 200 block means (train) and in at most 30
    (smoothed), every validation loss; in at most 60 such means what the training loss is the sum of, and the
    share of content that was masked.

    All are [step, value] pairs; parts and shares are empty where the training did not tell them.

    Args:
        parents: artifacts by role; those named `train/<variant>-s<seed>` are read.

    Raises:
        ReportError: a loss is missing or not finite; names model and steps.
    """
    out = {}
    for role, artifact in parents.items():
        if not role.startswith("train/"):
            continue
        model = role.removeprefix("train/")
        found = [name for name in artifact.manifest.entries if name.endswith("metrics.jsonl")]
        lines = artifact.file(*(found or ["metrics.jsonl"])).read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines if line]
        bad = [row["step"] for row in rows if row["loss"] is None or not math.isfinite(row["loss"])]
        if bad:
            raise ReportError(
                f"{role}: metrics.jsonl has losses that are not finite, at steps {bad[:8]}; expected numbers."
                f" Redo it with --refresh {role}"
            )
        train, evals = (
            [[row["step"], row["loss"]] for row in rows if row["kind"] == kind] for kind in ("train", "eval")
        )
        out[model] = {
            "method": model.rpartition("-s")[0],
            "train": block_means(train, _MAX_POINTS),
            "smoothed": block_means(train, _SMOOTH_POINTS),
            "eval": [[step, rounded(loss)] for step, loss in evals],
            "n_logged": len(train),
            **_composition([row for row in rows if row["kind"] == "train"]),
        }
    return out


def _composition(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The parts of the training loss, by name, and the masked share."""
    names = dict.fromkeys(name for row in rows for name in row.get("parts", {}))
    parts = {
        name: [[row["step"], row["parts"][name]] for row in rows if name in row.get("parts", {})]
        for name in names
    }
    masked = [[row["step"], row["masked_fraction"]] for row in rows if "masked_fraction" in row]
    return {
        "parts": {name: block_means(points, _COMPOSITION_POINTS) for name, points in parts.items()},
        "masked_share": block_means(masked, _COMPOSITION_POINTS),
    }


def block_means(points: Sequence[Sequence[float]], at_most: int) -> list[list[float]]:
    """[mean step, mean loss] of at most so many blocks of equal size, the last perhaps shorter."""
    size = max(1, -(-len(points) // at_most))
    blocks = [points[start : start + size] for start in range(0, len(points), size)]
    return [[rounded(fmean(p[0] for p in block)), rounded(fmean(p[1] for p in block))] for block in blocks]
