"""Students read from and written to their official checkpoint layout.

Shape legend: B rows, L positions, V vocabulary.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from huggingface_hub import snapshot_download, split_torch_state_dict_into_shards
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from safetensors.torch import load_file, save_file
from torch import Tensor

from trims_core.errors import ConfigError
from trims_core.rendering import load_tokenizer
from trims_core.students.adapters import load_adapter_official
from trims_core.students.family import Family, read_family

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

logger = logging.getLogger(__name__)

INDEX_NAME = "model.safetensors.index.json"
MAX_SHARD_BYTES = 5_000_000_000
_HUB_FILES = ["*.json", "*.safetensors", "*.jinja", "*.txt"]


class KeyValues(Protocol):
    """Keys and values of earlier forwards, in the form the attention layers ask for them."""

    def update(self, keys_BHQD: Tensor, values_BHQD: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """Store one layer's fresh keys and values; returns those of all columns, [B, H, L, D] each."""


@dataclass
class Student:
    """A loaded masked diffusion model: `model` is a Hugging Face module, perhaps wrapped by PEFT."""

    model: Any
    family: Family
    _tokenizer: PreTrainedTokenizerFast | None = field(default=None, repr=False)

    @property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The tokenizer, with mask and end tokens registered and the family's chat template.

        Raises:
            ConfigError: the checkpoint came without tokenizer files.
        """
        if self._tokenizer is None:
            raise ConfigError(
                "this student checkpoint has no tokenizer.json; put its tokenizer beside its weights"
            )
        return self._tokenizer

    def forward(
        self, ids_BL: Tensor, attention_mask_BL: Tensor | None = None, position_ids_BL: Tensor | None = None
    ) -> Tensor:
        """logits_BLV, each at the position it predicts.

        Args:
            ids_BL: token ids, masked positions as `family.mask_id`.
            attention_mask_BL: 1 for tokens, 0 for padding, which no position attends to.
            position_ids_BL: positions; counted over the unpadded tokens where a mask is given without them.
        """
        if attention_mask_BL is not None and position_ids_BL is None:
            position_ids_BL = (attention_mask_BL.long().cumsum(1) - 1).clamp(min=0)
        return self.head(self.hidden(ids_BL, position_ids_BL, attention_mask_BL))

    def hidden(
        self,
        ids_BQ: Tensor,
        position_ids_BQ: Tensor | None = None,
        attention_mask_BL: Tensor | None = None,
        cache: KeyValues | None = None,
    ) -> Tensor:
        """hidden_BQD after the last norm, each at the position it predicts; `head` makes logits of any rows.

        Args:
            ids_BQ: what is fed: whole sequences, or with a cache any columns of them.
            position_ids_BQ: positions; 0, 1, … where None.
            attention_mask_BL: 1 for tokens, 0 for padding, over all columns attended to.
            cache: stores the fed columns' keys and values and answers with those of all columns.
        """
        network = _causal_lm(self.model).model
        if position_ids_BQ is None:
            position_ids_BQ = torch.arange(ids_BQ.shape[1], device=ids_BQ.device)[None]
        mask_B11L = None if attention_mask_BL is None else attention_mask_BL.bool()[:, None, None, :]
        if mask_B11L is not None:
            mask_B11L = mask_B11L.expand(-1, 1, ids_BQ.shape[1], -1)
        hidden_BQD = network.embed_tokens(ids_BQ)
        rotary = network.rotary_emb(hidden_BQD, position_ids=position_ids_BQ)
        for layer in network.layers:
            hidden_BQD = layer(
                hidden_BQD,
                attention_mask=mask_B11L,
                position_embeddings=rotary,
                past_key_values=cache,
                is_causal=False,
            )
        return self.family.align(network.norm(hidden_BQD))

    def head(self, hidden_XD: Tensor) -> Tensor:
        """logits_XV of some hidden states."""
        logits_XV: Tensor = _causal_lm(self.model).get_output_embeddings()(hidden_XD)
        return logits_XV


def _causal_lm(model: Any) -> Any:
    """The Hugging Face causal-LM module, out of PEFT's wrapper if there is one."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def load_student(
    model: str,
    *,
    revision: str | None = None,
    dtype: str = "float32",
    device: str = "cpu",
    adapter: Path | None = None,
    family: str = "auto",
) -> Student:
    """The student of a checkpoint folder or hub name, in evaluation mode.

    Args:
        model: a folder in the official layout, or a hub name (downloaded, safetensors only, no remote code).
        dtype: a torch dtype's name, or "auto" for that of the weights.
        device: a torch device, or "auto" for the GPU if there is one.
        adapter: a PEFT folder saved under official module names.

    Raises:
        ConfigError: no such checkpoint, missing or unexpected weights, an unknown family or dtype.
    """
    folder = _checkpoint_folder(model, revision)
    described = read_family(folder, family)
    state = _hf_state(folder, described)
    torch_dtype = _torch_dtype(dtype, state)
    module = described.new_model(state, dtype=torch_dtype)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    module.to(device)
    module.student_family = described
    wrapped = load_adapter_official(module, adapter) if adapter is not None else module
    wrapped.eval()
    return Student(wrapped, described, _student_tokenizer(folder, described))


def save_official(
    model: PreTrainedModel,
    family_config: Mapping[str, Any],
    tokenizer: PreTrainedTokenizerFast | None,
    out_dir: Path,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    family: Family | None = None,
) -> None:
    """Writes a checkpoint in the official layout: config.json, safetensors (an index if sharded), tokenizer.

    Args:
        model: the Hugging Face module inside (an adapter already merged).
        family_config: the official config.json's content, e.g. `student.family.config`.
        tokenizer: saved beside the weights; None writes none.
        max_shard_bytes: weights beyond this go to a further file.
        family: only needed for a model that `load_student` did not load.
    """
    described = family or model.student_family
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


def _checkpoint_folder(model: str, revision: str | None) -> Path:
    folder = Path(model)
    if folder.is_dir():
        return folder
    looks_local = model.startswith((".", "/", "~")) or model.count("/") != 1
    if looks_local:
        raise ConfigError(
            f"{model}: no such folder; expected a student checkpoint's folder or a hub name OWNER/NAME"
        )
    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=_HUB_FILES))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(
            f"{model}: neither a folder here nor a hub model that could be fetched ({first_line});"
            " check the name, the network and HF_HUB_OFFLINE"
        ) from error


def _hf_state(folder: Path, family: Family) -> dict[str, Tensor]:
    """The weights under the names used inside; official and complete, or an error."""
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


def _torch_dtype(dtype: str, state: Mapping[str, Tensor]) -> torch.dtype:
    if dtype == "auto":
        return next(iter(state.values())).dtype
    found = getattr(torch, dtype, None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ConfigError(
            f"dtype {dtype!r} is no floating-point type; expected float32, bfloat16, float16 or auto"
        )
    return found


def _student_tokenizer(folder: Path, family: Family) -> PreTrainedTokenizerFast | None:
    if not (folder / "tokenizer.json").is_file():
        return None
    tokenizer = load_tokenizer(str(folder))
    tokenizer.mask_token = family.mask_token
    tokenizer.chat_template = family.chat_template
    if tokenizer.mask_token_id != family.mask_id:
        raise ConfigError(
            f"{folder}: the tokenizer gives {family.mask_token} the id {tokenizer.mask_token_id}, config.json"
            f" says {family.mask_id}; the tokenizer belongs to another checkpoint"
        )
    return tokenizer
