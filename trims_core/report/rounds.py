"""What became of each round of reinforcement: rewards, how far the student moved, what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any, Final

from trims_core.config import TrimsConfig
from trims_core.report.intervals import rounded
from trims_core.report.text_table import DASH, TextTable
from trims_core.variants import RoundsVariant

if TYPE_CHECKING:
    from trims_core.store import Artifact

_MEASURES: Final = ("kl", "clip_share", "entropy", "flat_share")


def trained_once(config: TrimsConfig, parents: Mapping[str, Artifact]) -> dict[str, Artifact]:
    """The trainings of models that have no rounds, by role."""
    models = [
        f"train/{name}-s{seed}"
        for name, variant in config.train.variants.items()
        for seed in config.train.seeds
        if not isinstance(variant, RoundsVariant)
    ]
    return {role: artifact for role, artifact in parents.items() if role in models}


def round_roles(variant: RoundsVariant, model: str) -> list[tuple[str, str, str]]:
    """Of each round the roles of its rollouts, grades and training."""
    names = [f"{model}-r{number}" for number in range(variant.rounds)]
    trains = [f"train/{name}" for name in (*names[:-1], model)]
    return [(f"rollouts/{name}", f"grades/{name}", train) for name, train in zip(names, trains, strict=True)]


def rounds_of(config: TrimsConfig, parents: Mapping[str, Artifact]) -> list[dict[str, Any]]:
    """Per variant and round the means over seeds; None where nothing is told of it.

    reward: mean of the round's rollouts, made before it was trained. right: share of them. tokens: mean
    length up to the first end. distinct: different answers per prompt. Means over the round's optimizer
    steps: kl, nats per token from the student without its adapter; clip_share, of tokens; entropy, nats per
    token; flat_share, of rollouts whose prompt's answers are all worth the same.
    """
    rows = []
    for name, variant in config.train.variants.items():
        if not isinstance(variant, RoundsVariant):
            continue
        by_seed = [
            [_round(*(parents[role] for role in roles)) for roles in round_roles(variant, f"{name}-s{seed}")]
            for seed in config.train.seeds
        ]
        for number, found in enumerate(zip(*by_seed, strict=True)):
            rows.append({"variant": name, "round": number, "seeds": len(found), **_means(found)})
    return rows


def rounds_table(results: Mapping[str, Any]) -> TextTable | None:
    """A row per variant and round; None where there are none."""
    if not results["rounds"]:
        return None
    shown = ("reward", "right", "tokens", "distinct", *_MEASURES)
    rows = [
        (f"{row['variant']}, round {row['round']}", *(_text(row[name]) for name in shown))
        for row in results["rounds"]
    ]
    return TextTable(
        "Rounds of reinforcement, means over seeds. Rewards, lengths and distinct answers are of the rollouts"
        " that the round was trained on, so of the student before it; divergence, clip and entropy are means"
        " over its optimizer steps",
        (
            "variant, round",
            "mean reward",
            "right",
            "tokens",
            "distinct answers per prompt",
            "KL to the reference (nats per token)",
            "tokens clipped",
            "entropy (nats)",
            "without contrast",
        ),
        tuple(rows),
    )


def _round(rollouts: Artifact, grades: Artifact, train: Artifact) -> dict[str, float | None]:
    counts, graded = rollouts.manifest.counts, grades.manifest.counts
    measures = train.info.get("measures") or {}
    return {
        "reward": grades.info.get("mean_reward"),
        "right": graded["n_right"] / graded["n_rollouts"],
        "tokens": rollouts.info["tokens"] / counts["n_rollouts"],
        "distinct": counts["n_distinct"] / counts["n_groups"],
        **{name: measures.get(name) for name in _MEASURES},
    }


def _means(found: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    means = {}
    for name in found[0]:
        values = [value for one in found if (value := one[name]) is not None]
        means[name] = rounded(fmean(values)) if values else None
    return means


def _text(value: float | None) -> str:
    return DASH if value is None else f"{value:.3g}"
