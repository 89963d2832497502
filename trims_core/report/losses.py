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


def losses_of(parents: Mapping[str, Artifact]) -> dict[str, dict[str, Any]]:
    """Per trained model: its method, training loss in at most 200 block means, every validation loss.

    Losses are [step, loss] pairs.

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
            "eval": [[step, rounded(loss)] for step, loss in evals],
            "n_logged": len(train),
        }
    return out


def block_means(points: Sequence[Sequence[float]], at_most: int) -> list[list[float]]:
    """[mean step, mean loss] of at most so many blocks of equal size, the last perhaps shorter."""
    size = max(1, -(-len(points) // at_most))
    blocks = [points[start : start + size] for start in range(0, len(points), size)]
    return [[rounded(fmean(p[0] for p in block)), rounded(fmean(p[1] for p in block))] for block in blocks]
