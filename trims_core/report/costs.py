"""What each method cost, for one of its seeds: making its data, training, evaluation.

The paper's Table 3, for any run. Which artifacts belong to a phase follows from the graph: what a model's
trainings are made from is its curation. What methods share is counted for each, as if it were alone.

    seconds          as the manifests say: what it takes when nothing is cached
    device seconds   seconds × GPUs held by the processes that worked, × processes where they hold none
    teacher tokens   completion tokens that a teacher scored
    forwards         of a sequence through the student: rollouts, the sweep's decoding, or optimizer steps
                     × sequences × passes of the method, those without gradient among them
    examples         scored rows or rollouts; examples trained on, rollouts of every round; decoded samples
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any, Final

from trims_core.config import TrimsConfig
from trims_core.graph import Node, ancestors, build_graph
from trims_core.published_costs import published_costs
from trims_core.report.cells import models_by_method
from trims_core.report.intervals import rounded
from trims_core.report.text_table import DASH, TextTable
from trims_core.variants import RoundsVariant, VariantConfig

if TYPE_CHECKING:
    from trims_core.store import Artifact

PHASES: Final = ("curation", "training", "evaluation")
_COUNTED: Final = ("seconds", "device_seconds", "teacher_tokens", "forwards", "examples")
_EXAMPLES: Final = {"scores": "n_out", "rollouts": "n_rollouts", "sweep": "n_samples"}


def costs_of(config: TrimsConfig, parents: Mapping[str, Artifact]) -> list[dict[str, Any]]:
    """Per method: steps, passes, and its phases as means over seeds; None where an artifact does not say.

    Args:
        parents: artifacts by node; some may be missing in a partial report.
    """
    graph = build_graph(config)
    rows = []
    for method, models in models_by_method(config).items():
        variant = config.train.variants.get(method)
        by_seed = []
        for model in models:
            nodes = _nodes_of(graph, model.name)
            made = {phase: _made(nodes[phase], parents) for phase in PHASES}
            steps = _sum(artifact and artifact.info.get("steps") for _, artifact in made["training"])
            by_seed.append(
                {"steps": steps, **{phase: _phase(config, variant, made[phase]) for phase in PHASES}}
            )
        rows.append(
            {
                "method": method,
                "seeds": len(models),
                "steps": _mean([one["steps"] for one in by_seed]),
                "passes": 0 if variant is None else variant.passes,
                **{phase: _means([one[phase] for one in by_seed]) for phase in PHASES},
            }
        )
    return rows


def costs_table(results: Mapping[str, Any]) -> TextTable:
    """A row per method and phase."""
    rows = [
        (f"{row['method']}, {phase}", *(_shown(row[phase][name]) for name in _COUNTED))
        for row in results["costs"]
        for phase in PHASES
        if row[phase]["seconds"] != 0
    ]
    return TextTable(
        "What it cost, for one seed (means over seeds; what methods share is counted for each). Seconds: when"
        " nothing is cached; device seconds: × GPUs, or processes, at work; teacher tokens: scored ones of"
        " completions; forwards: of one sequence; examples: made, trained on, decoded",
        ("method, phase", "seconds", "device seconds", "teacher tokens", "student forwards", "examples"),
        tuple(rows),
    )


def published_costs_table() -> TextTable:
    """What the paper's Table 3 says of TRIMS and of the methods it stands beside."""
    rows = [
        (
            one.method,
            one.supervision,
            f"{one.curation_gpu_hours:g}" + (" per model" if one.per_model else ""),
            DASH if one.training_gpu_hours is None else f"{one.training_gpu_hours:g}",
            f"{one.examples:,}",
        )
        for one in published_costs()
    ]
    return TextTable(
        "What others report, for models of 7 to 8 billion parameters (GPU hours on A100 80 GB;"
        f" {'; '.join(dict.fromkeys(one.source for one in published_costs()))})",
        ("method", "supervision", "curation, GPU hours", "training, GPU hours", "examples"),
        tuple(rows),
    )


def _nodes_of(graph: Sequence[Node], model: str) -> dict[str, list[Node]]:
    """A model's nodes by phase."""
    by_id = {node.id: node for node in graph}
    train = f"train/{model}"
    made_from = [by_id[name] for name in sorted(ancestors(graph, train) | {train})] if train in by_id else []
    return {
        "curation": [node for node in made_from if node.stage != "train"],
        "training": [node for node in made_from if node.stage == "train"],
        "evaluation": [by_id[f"{stage}/{model}"] for stage in ("sweep", "grades")],
    }


def _made(nodes: Sequence[Node], parents: Mapping[str, Artifact]) -> list[tuple[Node, Artifact | None]]:
    """Nodes with their artifacts; a sweep of version 0.1 graded by itself, and has no grades beside it."""
    of_sweeps = {node.id: parents.get(node.parents.get("sweep", "")) for node in nodes}
    return [
        (node, parents.get(node.id))
        for node in nodes
        if not ((sweep := of_sweeps[node.id]) and sweep.manifest.is_old)
    ]


def _phase(
    config: TrimsConfig, variant: VariantConfig | None, made: Sequence[tuple[Node, Artifact | None]]
) -> dict[str, Any]:
    counted = [None if one is None else _counts(config, variant, node, one) for node, one in made]
    return {name: _sum(one and one[name] for one in counted) for name in _COUNTED}


def _counts(
    config: TrimsConfig, variant: VariantConfig | None, node: Node, made: Artifact
) -> dict[str, float | None]:
    """What one artifact adds to its phase."""
    counts, info = made.manifest.counts, made.info
    forwards: float | None = 0
    examples: float | None = 0
    if node.stage in _EXAMPLES:
        examples = counts.get(_EXAMPLES[node.stage])
    if node.stage in ("rollouts", "sweep"):
        forwards = info.get("forwards")
    if node.stage == "train" and variant is not None:
        size = variant.batch_size if isinstance(variant, RoundsVariant) else config.train.batch_size
        forwards = info["steps"] * size * variant.passes if "steps" in info else None
        examples = counts["n_examples"] - counts["n_validation"] if "n_validation" in counts else None
    return {
        "seconds": made.manifest.seconds,
        "device_seconds": made.manifest.seconds * _devices(made),
        "teacher_tokens": info.get("n_tokens") if node.stage == "scores" else 0,
        "forwards": forwards,
        "examples": examples,
    }


def _devices(artifact: Artifact) -> int:
    """GPUs that the stage's processes held together, or how many processes there were."""
    manifest, made_with = artifact.manifest, artifact.manifest.full_config
    wanted = made_with.get("resources", {}).get(manifest.stage, {})
    gpus = max(1, wanted.get("gpus", 0))
    if manifest.stage == "train":
        return max(gpus, artifact.info.get("processes", 1))
    if manifest.stage == "scores":
        gpus = max(gpus, made_with["scores"]["tensor_parallel_size"])
    return gpus * (1 if made_with.get("runner", "sequential") == "sequential" else wanted.get("processes", 1))


def _sum(values: Any) -> Any:
    """None where one is not known."""
    found = list(values)
    return None if None in found else sum(found)


def _mean(values: Sequence[Any]) -> Any:
    return None if None in values else rounded(fmean(values))


def _means(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {name: _mean([one[name] for one in found]) for name in _COUNTED}


def _shown(value: float | None) -> str:
    if value is None:
        return DASH
    return f"{value:,.1f}" if 0 < value < 100 else f"{value:,.0f}"
