"""Weights in the official checkpoint layout: config.json, safetensors (with an index where sharded).

A folder holds one set of weights: each tensor is read from the file that the index names, and nothing else
counts. Covered: shards with further copies of tensors, shards of another save, heads stored beside the
embedding they are tied to, buffers of rotary positions. Not covered: bytes that were changed in place.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from torch import Tensor

from trims_core.errors import ConfigError
from trims_core.hub import PROGRAM_FILES, checkpoint_folder
from trims_core.students.config_json import rope_theta
from trims_core.students.family import Family
from trims_core.students.tensor_files import is_wide_float, read_tensors, tensor_names, write_tensors
from trims_core.students.tokenizer import save_tokenizer
from trims_core.text_files import DAMAGED, object_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

logger = logging.getLogger(__name__)

WEIGHTS_NAME: Final = "model.safetensors"
INDEX_NAME: Final = "model.safetensors.index.json"
MAX_SHARD_BYTES: Final = 5_000_000_000

_BUFFER: Final = re.compile(r"(.*\.)?inv_freq")
"""Made from config.json, not learned; old programs stored them."""
_EMBEDDING: Final = "model.embed_tokens.weight"
_HEAD: Final = "lm_head.weight"
Reader: TypeAlias = Callable[[Path, Collection[str] | None], Mapping[str, Tensor]]


def save_official(
    model: PreTrainedModel,
    family_config: Mapping[str, Any],
    tokenizer: PreTrainedTokenizerFast | None,
    out_dir: Path,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    weights: Mapping[str, Tensor] | None = None,
) -> None:
    """Writes a checkpoint in the official layout: config.json, safetensors (an index if sharded), tokenizer.

    Weights that the folder held before are removed first, however they were sharded.

    Args:
        model: the Hugging Face module inside, as a family makes it (an adapter already merged).
        family_config: the official config.json's content, e.g. `student.family.config`.
        tokenizer: saved beside the weights; None writes none.
        max_shard_bytes: weights beyond this go to a further file.
        weights: what is written in place of the model's own, by the names inside.

    Raises:
        ConfigError: the model was loaded in 4 bits, which the official layout does not hold; or the index of
            the weights that were there is damaged.
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
        for name, tensor in (model.state_dict() if weights is None else weights).items()
        if not (tied and name.startswith("lm_head"))
    }
    _remove_weights(out_dir)
    split = split_torch_state_dict_into_shards(state, max_shard_size=max_shard_bytes)
    for file_name, names in split.filename_to_tensors.items():
        write_tensors({name: state[name] for name in names}, out_dir / file_name)
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        _write_json(out_dir / INDEX_NAME, index)
    _write_json(out_dir / "config.json", _config_of(next(iter(state.values())).dtype, family_config))
    if tokenizer is not None:
        save_tokenizer(tokenizer, out_dir)


def copy_companions(model: str, revision: str | None, out_dir: Path) -> None:
    """Copies a checkpoint's generation_config.json and the program files that its config.json may name, for
    tools that run them."""
    folder = checkpoint_folder(model, revision, PROGRAM_FILES)
    for pattern in PROGRAM_FILES:
        for path in sorted(folder.glob(pattern)):
            shutil.copyfile(path, out_dir / path.name)


def _remove_weights(folder: Path) -> None:
    index = folder / INDEX_NAME
    for name in (WEIGHTS_NAME, *(_by_file(index) if index.is_file() else ()), INDEX_NAME):
        (folder / name).unlink(missing_ok=True)


def _config_of(weights_type: torch.dtype, family_config: Mapping[str, Any]) -> dict[str, Any]:
    """config.json with the type of the weights, and with `rope_theta` beside transformers 5's
    `rope_parameters`, which older programs do not read."""
    dtype = str(weights_type).removeprefix("torch.")
    said = {key: dtype for key in ("torch_dtype", "dtype") if family_config.get(key) is not None}
    theta = {"rope_theta": rope_theta(family_config)} if family_config.get("rope_parameters") else {}
    return {**family_config, **said, **theta}


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_weights(folder: Path, family: Family, read: Reader = read_tensors) -> dict[str, Tensor]:
    """The weights under the names used inside; complete and nothing else.

    Args:
        read: `tensors_without_values` checks files, names and shapes without the weights in memory.

    Raises:
        ConfigError: a file or a weight is missing, damaged, of another shape, or not of this family.
    """
    state: dict[str, Tensor] = {}
    origin: dict[str, Path] = {}
    for path, names in _files(folder).items():
        for official, tensor in read(path, names).items():
            if _BUFFER.fullmatch(official):
                continue
            name = _name_inside(family, official, path)
            state[name], origin[name] = tensor, path
    expected, tied = _expected_shapes(family)
    if tied:
        _drop_tied_head(state, origin)
    _refuse_other_names(state, expected, family, folder)
    for name, tensor in state.items():
        if tensor.shape != expected[name] or not is_wide_float(tensor):
            raise ConfigError(
                f"{origin[name]}: {family.official_name(name)} is of shape {list(tensor.shape)} and type"
                f" {str(tensor.dtype).removeprefix('torch.')}; config.json says {list(expected[name])}, and"
                f" expected are 16 bits or more of floating point. The weights are of another config.json."
                f" {DAMAGED}"
            )
    return state


def _files(folder: Path) -> dict[Path, set[str] | None]:
    """The weight files, and the tensors that each is read for (None: all)."""
    index, single = folder / INDEX_NAME, folder / WEIGHTS_NAME
    if not index.is_file():
        wanted: dict[str, set[str] | None] = {WEIGHTS_NAME: None}
    else:
        wanted = dict(sorted(_by_file(index).items()))
        if single.is_file() and WEIGHTS_NAME not in wanted:
            raise ConfigError(
                f"{folder}: both {WEIGHTS_NAME} and {INDEX_NAME}, which names others"
                f" ({next(iter(wanted))}, …); expected one set of weights. Remove the one that is old"
            )
    absent = [name for name in wanted if not (folder / name).is_file()]
    if absent:
        raise ConfigError(
            f"{folder}: weight files {', '.join(absent)} are missing; expected safetensors weights"
        )
    return {folder / name: names for name, names in wanted.items()}


def _by_file(index: Path) -> dict[str, set[str]]:
    """File name -> tensors, as an index says. Tensors of its files that it does not know are told of."""
    places = object_of(index, "the index of sharded weights").get("weight_map")
    if not isinstance(places, dict) or not places:
        raise ConfigError(f"{index}: no weight_map; expected tensor name -> file name. {DAMAGED}")
    wanted: dict[str, set[str]] = {}
    for name, file in places.items():
        if not isinstance(file, str) or not file or Path(file).name != file:
            raise ConfigError(f"{index}: {name} is in {file!r}; expected the name of a file beside it")
        wanted.setdefault(file, set()).add(name)
    for file in wanted:
        path = index.with_name(file)
        unknown = [name for name in tensor_names(path) if name not in places] if path.is_file() else []
        if unknown:
            logger.warning(
                "%s: %d tensors that the index does not name are left out, e.g. %s",
                path,
                len(unknown),
                unknown[0],
            )
    return wanted


def _name_inside(family: Family, official: str, path: Path) -> str:
    try:
        return family.hf_name(official)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _expected_shapes(family: Family) -> tuple[dict[str, torch.Size], bool]:
    """Name inside -> shape of every stored weight, and whether the head is the embedding."""
    with torch.device("meta"):
        model = family.new_model()
    tied = bool(model.config.tie_word_embeddings)
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    return {name: shape for name, shape in shapes.items() if not (tied and name == _HEAD)}, tied


def _drop_tied_head(state: dict[str, Tensor], origin: Mapping[str, Path]) -> None:
    """Remove a head that is a copy of the embedding it is tied to; where only it is stored, it is that."""
    if _HEAD not in state:
        return
    head = state.pop(_HEAD)
    embedding = state.setdefault(_EMBEDDING, head)
    if not head.is_meta and not torch.equal(head, embedding):
        raise ConfigError(
            f"{origin[_HEAD]}: the stored head differs from the embedding, and config.json says that they are"
            " one (weight_tying or tie_word_embeddings); set it to false if the head has weights of its own"
        )


def _refuse_other_names(
    state: Mapping[str, Tensor], expected: Mapping[str, torch.Size], family: Family, folder: Path
) -> None:
    missing, unexpected = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    if missing or unexpected:
        shown = [family.official_name(name) for name in (missing or unexpected)][:5]
        raise ConfigError(
            f"{folder}: {len(missing)} weights missing and {len(unexpected)} unexpected, e.g."
            f" {', '.join(shown)}; expected a complete {family.name} checkpoint of {family.n_layers} layers"
        )
