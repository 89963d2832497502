"""What each method's training took: forwards through the student, and what making its data took before that.

Forwards are counted in sequences: optimizer steps × sequences of a step × passes of the method, those without
gradient among them. Data are told apart, because they are made once and shared: completion tokens that the
teacher scored, forwards that the student decoded its rollouts with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trims_core.config import TrimsConfig
from trims_core.report.rounds import round_roles
from trims_core.report.text_table import DASH, TextTable
from trims_core.variants import RoundsVariant

if TYPE_CHECKING:
    from trims_core.store import Artifact


def costs_of(config: TrimsConfig, parents: Mapping[str, Artifact]) -> list[dict[str, Any]]:
    """Per variant: steps, passes, forwards (of one seed), and what its data cost; None where it is unknown.

    Args:
        parents: artifacts by role; buckets, rollouts and train/<variant>-s<seed> are looked at.
    """
    buckets = parents.get("buckets")
    rows = []
    for name, variant in config.train.variants.items():
        steps = {parents[f"train/{name}-s{seed}"].info.get("steps") for seed in config.train.seeds}
        n_steps = steps.pop() if len(steps) == 1 else None
        is_scored = variant.reads_buckets and buckets is not None
        batch_size, rolled = config.train.batch_size, []
        if variant.needs == "rollouts":
            rolled = [parents["rollouts/untuned"]]
        if isinstance(variant, RoundsVariant):
            n_steps, batch_size = variant.rounds * variant.inner_steps, variant.batch_size
            roles = round_roles(variant, f"{name}-s{config.train.seeds[0]}")
            rolled = [parents[rollouts] for rollouts, *_ in roles]
        forwards: list[Any] = [one.info.get("forwards") for one in rolled]
        rows.append(
            {
                "variant": name,
                "steps": n_steps,
                "passes": variant.passes,
                "forwards": n_steps and n_steps * batch_size * variant.passes,
                "teacher_tokens": buckets.manifest.counts.get("n_tokens") if buckets and is_scored else 0,
                "rollout_forwards": None if None in forwards else sum(forwards),
            }
        )
    return rows


def costs_table(results: Mapping[str, Any]) -> TextTable:
    """A row per variant."""
    rows = [
        (
            row["variant"],
            *(
                DASH if row[name] is None else f"{row[name]:,}"
                for name in ("steps", "passes", "forwards", "teacher_tokens", "rollout_forwards")
            ),
        )
        for row in results["costs"]
    ]
    return TextTable(
        "What training took, for one seed (forwards of a sequence through the student, complements and passes"
        " without gradient among them), and what its data took before, once for all who share them",
        ("variant", "steps", "passes", "student forwards", "teacher tokens scored", "rollout forwards"),
        tuple(rows),
    )
