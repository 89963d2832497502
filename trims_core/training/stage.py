"""The stage `train`: an adapter, or a whole checkpoint, per variant and seed, from what its method takes.

A training is one unit. Its checkpoints lie in the attempt's scratch/, so that a training that was killed
continues, and one that was finished but not recorded is not repeated.

Imports nothing heavy: keys are computed on every run, training itself happens in child processes.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Final

from trims_core._faults import fault_point
from trims_core.errors import IncompleteArtifactError
from trims_core.hub import PROGRAM_FILES, matches
from trims_core.keyed import draw_seed
from trims_core.slots import has_gpu
from trims_core.stage import Make, Outcome, StageSpec, Unit, Work
from trims_core.store import Artifact, Attempt, Made, UnitRecord
from trims_core.trained import ADAPTER, CHECKPOINT, MOMENTS_FILE, trained_model
from trims_core.training.card import model_card
from trims_core.training.settings import TrainSettings, outside_inputs, train_settings

if TYPE_CHECKING:
    from trims_core.training.spec import TrainSpec

logger = logging.getLogger(__name__)

STAGE: Final = "train"
VERSION: Final = 3
CARD_FILE: Final = "README.md"
METRICS_FILE: Final = "metrics.jsonl"
TIMES_FILE: Final = "times.jsonl"
"""What was measured at every step; apart from the metrics, which are the same whenever it is trained."""
_ASIDE: Final = (CARD_FILE, METRICS_FILE, TIMES_FILE, *PROGRAM_FILES)
"""Files (patterns of names) that no model is loaded from."""


def units(work: Work, _facts: None) -> list[Unit]:
    """The training: its settings, the student's weights, the contents of what it is trained on."""
    inputs = {**work.inputs, **{role: parent.content_digest for role, parent in work.parents.items()}}
    name = CHECKPOINT if work.settings.train.lora is None else ADAPTER
    return [Unit(name, work.settings.result_fields(), inputs)]


@contextmanager
def maker(work: Work, _facts: None, _waiting: Sequence[Unit], _done: Sequence[UnitRecord]) -> Iterator[Make]:
    """Trains, or continues training, in child processes.

    Raises:
        ConfigError: the batch does not divide among the processes; nothing was started.
        TrainingError: it diverged, the checkpoint belongs to another topology, or a process died.
    """
    from trims_core.training.launch import count_processes, run_training
    from trims_core.training.plan import accumulation_steps

    train = work.settings.train
    world_size = count_processes(train.launch)
    accumulation_steps(train, world_size)
    edges = _edges(work.parents["buckets"]) if "buckets" in work.parents else None

    def make(unit: Unit, attempt: Attempt) -> Made:
        spec = _spec(work, attempt, edges["k"] if edges else 0, world_size)
        if not spec.paths.result.exists():
            try:
                run_training(spec, train.launch, work.progress)
            finally:
                _keep_logs(spec, work.logs)
        fault_point("train.before_record")
        return _describe(work.settings, edges, unit.inputs, spec)

    yield make


def _keep_logs(spec: TrainSpec, folder: Path) -> None:
    """Copies of what the training processes printed: the originals go with the scratch folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for log in spec.folder.glob("*.log"):
        shutil.copyfile(log, folder / log.name)


def finish(work: Work, _facts: None, done: Mapping[str, UnitRecord]) -> Outcome:
    """Counts, and how the training ended."""
    (trained,) = done.values()
    settings: TrainSettings = work.settings
    info: dict[str, Any] = {"variant": settings.variant_name, "seed": settings.seed, **trained.notes["info"]}
    logger.info("train: %s, final loss %s", work.node_id, info["final_train_loss"])
    card = trained.file(CARD_FILE).read_text(encoding="utf-8").partition("\n---\n")[2]
    return Outcome(trained.notes["counts"], info, card, settings.seed)


SPEC: Final = StageSpec(
    STAGE,
    VERSION,
    settings=train_settings,
    inputs=outside_inputs,
    units=units,
    maker=maker,
    finish=finish,
    apart=True,
)


def _spec(work: Work, attempt: Attempt, n_buckets: int, world_size: int) -> TrainSpec:
    from trims_core.training.spec import TrainSpec

    settings: TrainSettings = work.settings
    variant, train, moments = settings.variant, settings.train, None
    if "train" in work.parents:  # a further round
        before = trained_model(work.parents["train"]).folder
        train = train.model_copy(update={"init_adapter": str(before)})
        moments = before / MOMENTS_FILE if settings.carries_optimizer else None
    return TrainSpec(
        train=train,
        variant=variant,
        ends=settings.ends,
        student=settings.student,
        seed=settings.seed if settings.round is None else draw_seed(settings.seed, settings.round, "round"),
        deepspeed=settings.deepspeed,
        shards=_files(work, "buckets" if n_buckets else "tokens"),
        n_buckets=n_buckets,
        rollouts=_files(work, "rollouts"),
        rollout_grades=_files(work, "grades"),
        references=_files(work, "references", "tokens"),
        shown_prompts=_files(work, "prompts", "tokens"),
        answers=getattr(variant, "answers", "all"),
        moments=moments,
        keeps_moments=settings.carries_optimizer,
        folder=attempt.scratch.absolute(),
        adapter=attempt.path.absolute(),
        world_size=world_size,
        device=_device(settings.student.device),
        run_name=settings.run_name,
    )


def _files(work: Work, role: str, table: str | None = None) -> tuple[Path, ...]:
    """The tables of a parent, unit by unit; empty where there is no such parent.

    Args:
        table: what they are called; default: as the role.
    """
    parent = work.parents.get(role)
    if parent is None:
        return ()
    names = ("buckets-", ".parquet") if role == "buckets" else ("", f"/{table or role}.parquet")
    return tuple(path.absolute() for path in parent.files(*names))


def _describe(
    settings: TrainSettings, edges: Mapping[str, Any] | None, digests: Mapping[str, str], spec: TrainSpec
) -> Made:
    """Puts metrics and model card beside a finished adapter or checkpoint."""
    from trims_core.training.journal import MEASURED, read_metrics

    result = json.loads(spec.paths.result.read_bytes())
    rows = read_metrics(spec.paths.metrics)
    of_kept = [row for row in rows if row["step"] <= result["kept_step"]]
    finals = {f"{kind}_loss": _last(of_kept, kind) for kind in ("train", "eval")}
    finals["eval_end_loss"] = _last(of_kept, "eval", "end_loss")
    card = model_card(settings, edges, digests, result, finals)
    (spec.adapter / CARD_FILE).write_text(card, encoding="utf-8")
    # without times: the same training gives the same bytes
    timeless = [{name: value for name, value in row.items() if name not in MEASURED} for row in rows]
    times = [{name: row[name] for name in ("step", "kind", *MEASURED) if name in row} for row in rows]
    for name, kept in ((METRICS_FILE, timeless), (TIMES_FILE, times)):
        lines = "".join(json.dumps(row) + "\n" for row in kept)
        (spec.adapter / name).write_text(lines, encoding="utf-8")
    counts = result["counts"]
    n_in = counts["n_examples"] + counts["n_without_completion"] + counts.get("n_reference_too_long", 0)
    notes = {
        "counts": {"n_in": n_in, "n_out": counts["n_examples"], **counts},
        "info": {
            "steps": result["steps"],
            "kept_step": result["kept_step"],
            "final_train_loss": finals["train_loss"],
            "final_eval_loss": finals["eval_loss"],
            "final_eval_end_loss": finals["eval_end_loss"],
            "validation_ids": result["validation_ids"],
            "trainable_parameters": result["trainable_parameters"],
            "processes": spec.world_size,
            "train_seconds": rows[-1]["seconds"] if rows else 0.0,
            **_measures(rows),
        },
    }
    files = sorted(path.name for path in spec.adapter.iterdir())
    return Made(dict.fromkeys(files), notes, aside=[name for name in files if matches(name, _ASIDE)])


def _measures(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Means over the steps of what the method measures, if it does."""
    found = [row["measures"] for row in rows if "measures" in row]
    if not found:
        return {}
    return {"measures": {name: fmean(row[name] for row in found) for name in found[0]}}


def _edges(buckets: Artifact) -> dict[str, Any]:
    """What the buckets say of themselves. Raises: IncompleteArtifactError where their number is absent."""
    path = buckets.file("edges.json")
    edges: dict[str, Any] = json.loads(path.read_bytes())
    if not isinstance(edges.get("k"), int):
        raise IncompleteArtifactError(
            f"{path}: k is {edges.get('k')!r}, expected a number; use --refresh buckets"
        )
    return edges


def _device(wanted: str) -> str:
    """`cpu` or `cuda`; auto takes the GPU where there is one."""
    if wanted != "auto":
        return wanted.partition(":")[0]
    if not has_gpu():
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _last(rows: list[dict[str, Any]], kind: str, name: str = "loss") -> float | None:
    values = [row.get(name) for row in rows if row["kind"] == kind]
    return values[-1] if values else None
