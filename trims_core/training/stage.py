"""The stage `train`: one LoRA adapter per variant and seed, from the buckets artifact.

Imports nothing heavy: keys are computed on every run, training itself happens in child processes.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from trims_core._faults import fault_point
from trims_core.config import TrimsConfig, VariantConfig
from trims_core.errors import IncompleteArtifactError
from trims_core.fingerprint import Digests, Json
from trims_core.graph import Node
from trims_core.stage import Outcome, StageSpec, Work, stage_key
from trims_core.store import Artifact, StageKey
from trims_core.training.card import model_card
from trims_core.training.zero import deepspeed_settings
from trims_core.user_code import source_file

logger = logging.getLogger(__name__)

STAGE: Final = "train"
VERSION: Final = 2
_UNIT: Final = "adapter"
GPU_NODES: Final = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""Device files of which one exists where there is a GPU."""
_END_FIELDS: Final = ("pads", "pads_rho", "pads_p_high", "end_tokens", "end_weight", "hide_end_of_turn")
"""Settings of train that reach a variant as its ends."""
_TRAJECTORY: Final = {"order", "rho", "p_low", "p_high"}
_READ_WITH: Final[Mapping[str, set[str]]] = {
    "cart": {"cart_p"},
    "inverse_p": {"inverse_p_clip"},
    "bucket_profile": _TRAJECTORY,
}
"""Settings of a variant that only some loss weights read."""
_ADAPTER_FILES: Final = ("adapter_config.json", "adapter_model.safetensors", "README.md")


def variant_of(config: TrimsConfig, node: Node) -> tuple[VariantConfig, int]:
    """The variant and seed a node stands for."""
    return config.train.variants[str(node.params["variant"])], int(node.params["seed"])


def key(config: TrimsConfig, node: Node, parents: Mapping[str, Artifact], digests: Digests) -> StageKey:
    """What an adapter depends on: settings of its own variant, the buckets' bytes, the student's weights.

    The variant's name, the other variants and the launch topology are left out; so are settings that neither
    its method nor its loss weight nor its ends read.
    """
    variant, seed = variant_of(config, node)
    fields: dict[str, Json] = config.train.result_fields()
    del fields["variants"], fields["seeds"]
    fields["deepspeed"] = deepspeed_settings(config.train.deepspeed)
    fields["length_window"] = config.train.window
    if config.train.max_steps is not None:
        del fields["epochs"]
    for name in _END_FIELDS:
        del fields[name]
    fields["ends"] = config.train.ends_of(variant).result_fields()
    own = variant.result_fields()
    read = {"method", "loss_weight"} | _READ_WITH.get(variant.loss_weight, set())
    if variant.method == "trims":
        read |= _TRAJECTORY
    if variant.masks is not None:
        read |= {"masks"}
    own = {name: value for name, value in own.items() if name in read}
    student = config.student.result_fields()
    fields |= {name: student[name] for name in student if name not in ("model", "revision")}
    fields |= {"variant": own, "seed": seed}
    inputs = {"student": digests.checkpoint(config.student.model, config.student.revision)}
    if variant.masks is not None:
        where = f"train.variants.{node.params['variant']}.masks"
        inputs["masks"] = digests.file(source_file(variant.masks, where))
    return stage_key(STAGE, VERSION, fields, parents, inputs)


def produce(work: Work) -> Outcome:
    """Train (or continue training) the adapter and record it.

    Raises:
        TrainingError: it diverged, the checkpoint belongs to another topology, or a process died.
    """
    if not work.staging.is_done(_UNIT):
        _train(work)
    noted: dict[str, Any] = dict(work.staging.unit(_UNIT))
    info = noted["info"]
    logger.info("train: %s, final loss %s", work.node.id, info["final_train_loss"])
    return Outcome(noted["counts"], info, noted["card"], info["seed"])


def _train(work: Work) -> None:
    from trims_core.training.launch import count_processes, run_training
    from trims_core.training.plan import accumulation_steps
    from trims_core.training.spec import TrainSpec

    config = work.config
    variant, seed = variant_of(config, work.node)
    buckets = work.parents["buckets"]
    world_size = count_processes(config.train.launch)
    accumulation_steps(config.train, world_size)  # refuses a batch that does not divide, before any start
    spec = TrainSpec(
        train=config.train,
        variant=variant,
        student=config.student,
        seed=seed,
        shards=tuple(path.absolute() for path in buckets.files("buckets-", ".parquet")),
        n_buckets=_n_buckets(buckets),
        folder=work.staging.scratch.absolute(),
        adapter=(work.staging.path / "adapter").absolute(),
        world_size=world_size,
        device=_device(config.student.device),
        run_name=f"{config.name}/{work.node.params['variant']}-s{seed}",
    )
    if not spec.paths.result.exists():
        shutil.rmtree(spec.adapter, ignore_errors=True)
        run_training(spec, config.train.launch, work.progress)
    fault_point("train.before_record")
    _record(work, spec, variant, seed)


def _record(work: Work, spec: Any, variant: VariantConfig, seed: int) -> None:
    """Put metrics and model card beside the adapter and make the whole durable as one unit."""
    from trims_core.training.journal import read_metrics

    result = json.loads(spec.paths.result.read_bytes())
    rows = read_metrics(spec.paths.metrics)
    finals = {f"{kind}_loss": _last(rows, kind) for kind in ("train", "eval")}
    finals["eval_end_loss"] = _last(rows, "eval", "end_loss")
    digests = {
        "student": work.staging.key.inputs["student"],
        "buckets": work.parents["buckets"].content_digest,
    }
    card = model_card(work.config, variant, seed, digests, result, finals)
    (spec.adapter / "README.md").write_text(card, encoding="utf-8")
    # without times: the same training gives the same bytes
    timeless = [{name: value for name, value in row.items() if name != "seconds"} for row in rows]
    lines = "".join(json.dumps(row) + "\n" for row in timeless)
    (work.staging.path / "metrics.jsonl").write_text(lines, encoding="utf-8")
    counts = result["counts"]
    n_in = counts["n_examples"] + counts["n_without_completion"]
    noted = {
        "counts": {"n_in": n_in, "n_out": counts["n_examples"], **counts},
        "info": {
            "variant": work.node.params["variant"],
            "seed": seed,
            "steps": result["steps"],
            "final_train_loss": finals["train_loss"],
            "final_eval_loss": finals["eval_loss"],
            "final_eval_end_loss": finals["eval_end_loss"],
            "validation_ids": result["validation_ids"],
            "trainable_parameters": result["trainable_parameters"],
            "processes": spec.world_size,
            "train_seconds": rows[-1]["seconds"] if rows else 0.0,
        },
        "card": card.partition("\n---\n")[2].strip(),
    }
    files = {f"adapter/{name}": None for name in _ADAPTER_FILES} | {"metrics.jsonl": None}
    work.staging.record(_UNIT, files, noted)


def _n_buckets(buckets: Artifact) -> int:
    path = buckets.file("edges.json")
    n_buckets = json.loads(path.read_bytes()).get("k")
    if not isinstance(n_buckets, int):
        raise IncompleteArtifactError(f"{path}: k is {n_buckets!r}, expected a number; use --refresh buckets")
    return n_buckets


def _device(wanted: str) -> str:
    """`cpu` or `cuda`; auto takes the GPU where there is one."""
    if wanted != "auto":
        return wanted.partition(":")[0]
    if not any(Path(node).exists() for node in GPU_NODES):
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _last(rows: list[dict[str, Any]], kind: str, name: str = "loss") -> float | None:
    values = [row.get(name) for row in rows if row["kind"] == kind]
    return values[-1] if values else None


SPEC: Final = StageSpec(STAGE, VERSION, key, produce)
