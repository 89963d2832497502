"""Students ready to use: the module, its family, its tokenizer.

Shape legend: B rows, L positions, V vocabulary.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from trims_core.config import DeviceMap
from trims_core.errors import ConfigError
from trims_core.hub import checkpoint_folder
from trims_core.students.adapter_config import ADAPTER_CONFIG_NAME, read_adapter_config
from trims_core.students.checkpoint import read_weights
from trims_core.students.family import Family, read_family
from trims_core.students.tokenizer import read_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

logger = logging.getLogger(__name__)


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
    def has_tokenizer(self) -> bool:
        """Whether the checkpoint came with one."""
        return self._tokenizer is not None

    @property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The tokenizer, with the mask token registered and the family's chat template.

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
        attention_mask: Tensor | None = None,
        cache: KeyValues | None = None,
    ) -> Tensor:
        """hidden_BQD after the last norm, each at the position it predicts; `head` makes logits of any rows.

        Args:
            ids_BQ: what is fed: whole sequences, or with a cache any columns of them.
            position_ids_BQ: positions; 0, 1, … where None.
            attention_mask: over all columns attended to, 1 for tokens, 0 for padding [B, L]; or what each fed
                position sees [B or 1, Q, L].
            cache: stores the fed columns' keys and values and answers with those of all columns.
        """
        network = _causal_lm(self.model).model
        if position_ids_BQ is None:
            position_ids_BQ = torch.arange(ids_BQ.shape[1], device=ids_BQ.device)[None]
        mask_B1QL = None
        if attention_mask is not None:
            mask_BQL = attention_mask.bool()
            if mask_BQL.dim() == 2:
                mask_BQL = mask_BQL[:, None].expand(-1, ids_BQ.shape[1], -1)
            mask_B1QL = mask_BQL[:, None]
        hidden_BQD = network.embed_tokens(ids_BQ)
        rotary = network.rotary_emb(hidden_BQD, position_ids=position_ids_BQ)
        for layer in network.layers:
            hidden_BQD = layer(
                hidden_BQD,
                attention_mask=mask_B1QL,
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
    device_map: DeviceMap | None = None,
    load_in_4bit: bool = False,
) -> Student:
    """The student of a checkpoint folder or hub name, in evaluation mode.

    Args:
        model: a folder in the official layout, or a hub name (downloaded, safetensors only, no remote code).
        dtype: a torch dtype's name, or "auto" for that of most weights.
        device: a torch device, or "auto" for the GPU if there is one.
        adapter: a PEFT folder saved under official module names; `merge_adapter` puts it into the weights.
        device_map: spreads the module over devices in place of `device`: "auto", another of accelerate's
            words, or Hugging Face module name -> device.
        load_in_4bit: quantise the linear layers to NF4; `dtype` is then that of the arithmetic.

    Raises:
        ConfigError: no such checkpoint, missing or unexpected weights, an unknown family or dtype, a map that
            leaves modules out, or a library that the options need is not installed.
    """
    if adapter is not None:
        read_adapter_config(adapter / ADAPTER_CONFIG_NAME)  # before gigabytes are read
    folder = checkpoint_folder(model, revision)
    described = read_family(folder, family)
    state = read_weights(folder, described)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    torch_dtype = _torch_dtype(dtype, state)
    module = _placed_module(described, state, torch_dtype, device, device_map, load_in_4bit)
    wrapped: Any = module
    if adapter is not None:
        # PEFT takes a third of a second to import
        from trims_core.students.adapters import load_adapter_official

        wrapped = load_adapter_official(module, adapter)
    wrapped.eval()
    # an adapter may have been trained under another attention
    return Student(wrapped, module.student_family, read_tokenizer(folder, described))


def _placed_module(
    family: Family,
    state: Mapping[str, Tensor],
    dtype: torch.dtype,
    device: str,
    device_map: DeviceMap | None,
    load_in_4bit: bool,
) -> PreTrainedModel:
    options: dict[str, Any] = {"dtype": dtype}
    if load_in_4bit:
        from transformers import BitsAndBytesConfig

        _require("bitsandbytes", "student.load_in_4bit")
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
        )
        device_map = device_map or {"": device}
    if device_map is None:
        return family.new_model(state, **options).to(device)
    _require("accelerate", "student.device_map")
    if isinstance(device_map, dict):
        _check_map(device_map, state)
    return family.new_model(state, device_map=device_map, **options)


def _check_map(device_map: Mapping[str, int | str], weight_names: Iterable[str]) -> None:
    """Raises ConfigError unless every weight has a device that holds it in memory."""
    homeless = [
        name
        for name in weight_names
        if not any(not module or name.startswith(f"{module}.") for module in device_map)
    ]
    if homeless or "disk" in device_map.values():
        wrong = f"no device for {homeless[0]}" if homeless else "weights on disk are not supported"
        raise ConfigError(
            f"student.device_map {dict(device_map)!r}: {wrong}; expected auto, or a device for every module:"
            " model.embed_tokens, model.layers.0, …, model.norm, lm_head"
        )


def _require(package: str, setting: str) -> None:
    if find_spec(package) is None:
        raise ConfigError(
            f"{setting} needs the package {package}, which is not installed: pip install {package}, or leave"
            " the setting out"
        )


def _torch_dtype(dtype: str, state: Mapping[str, Tensor]) -> torch.dtype:
    if dtype == "auto":
        n_of: Counter[torch.dtype] = Counter()
        for weight in state.values():
            n_of[weight.dtype] += weight.numel()
        return n_of.most_common(1)[0][0]
    found = getattr(torch, dtype, None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ConfigError(
            f"dtype {dtype!r} is no floating-point type; expected float32, bfloat16, float16 or auto"
        )
    return found
