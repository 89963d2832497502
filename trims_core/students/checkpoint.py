"""Weights in the official checkpoint layout: config.json, safetensors (with an index where sharded)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import load_file, save_file
from torch import Tensor

from trims_core.errors import ConfigError
from trims_core.students.family import Family

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

INDEX_NAME = "model.safetensors.index.json"
MAX_SHARD_BYTES = 5_000_000_000


def save_official(
    model: PreTrainedModel,
    family_config: Mapping[str, Any],
    tokenizer: PreTrainedTokenizerFast | None,
    out_dir: Path,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> None:
    """Writes a checkpoint in the official layout: config.json, safetensors (an index if sharded), tokenizer.

    Args:
        model: the Hugging Face module inside, as a family makes it (an adapter already merged).
        family_config: the official config.json's content, e.g. `student.family.config`.
        tokenizer: saved beside the weights; None writes none.
        max_shard_bytes: weights beyond this go to a further file.

    Raises:
        ConfigError: the model was loaded in 4 bits, which the official layout does not hold.
    """
    if getattr(model, "is_loaded_in_4bit", False):
        raise ConfigError(
            f"{out_dir}: the student was loaded in 4 bits, which cannot be written in the official layout;"
            " load it again without load_in_4bit"
        )
    described: Family = model.student_family
    out_dir.mkdir(parents=True, exist_ok=True)
    tied = model.config.tie_word_embeddings
    state = {
        described.official_name(name): tensor.detach().cpu().contiguous()
        for name, tensor in model.state_dict().items()
        if not (tied and name.startswith("lm_head"))
    }
    split = split_torch_state_dict_into_shards(state, max_shard_size=max_shard_bytes)
    for file_name, names in split.filename_to_tensors.items():
        save_file({name: state[name] for name in names}, str(out_dir / file_name), metadata={"format": "pt"})
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        _write_json(out_dir / INDEX_NAME, index)
    _write_json(out_dir / "config.json", dict(family_config))
    if tokenizer is not None:
        tokenizer.save_pretrained(str(out_dir), save_jinja_files=False)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_weights(folder: Path, family: Family) -> dict[str, Tensor]:
    """The weights under the names used inside; complete and nothing else.

    Raises:
        ConfigError: a file or a weight is missing, or a weight is not of this family.
    """
    index = folder / INDEX_NAME
    if index.is_file():
        files = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    else:
        files = ["model.safetensors"]
    absent = [name for name in files if not (folder / name).is_file()]
    if absent:
        raise ConfigError(
            f"{folder}: weight files {', '.join(absent)} are missing; expected safetensors weights"
        )
    state: dict[str, Tensor] = {}
    for name in files:
        state.update({family.hf_name(key): value for key, value in load_file(str(folder / name)).items()})
    expected = _expected_names(family)
    missing, unexpected = sorted(expected - state.keys()), sorted(state.keys() - expected)
    if missing or unexpected:
        shown = [family.official_name(name) for name in (missing or unexpected)][:5]
        raise ConfigError(
            f"{folder}: {len(missing)} weights missing and {len(unexpected)} unexpected, e.g."
            f" {', '.join(shown)}; expected a complete {family.name} checkpoint of {family.n_layers} layers"
        )
    return state


def _expected_names(family: Family) -> set[str]:
    with torch.device("meta"):
        model = family.new_model()
    tied = model.config.tie_word_embeddings
    return {name for name in model.state_dict() if not (tied and name.startswith("lm_head"))}
