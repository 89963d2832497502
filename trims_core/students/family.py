"""What a student family is: token ids, names of weights and modules, and where its predictions stand.

A family says everything that differs between checkpoints of masked diffusion models: which ids mask a
position and end an answer, how the published ("official") module names map to the Hugging Face modules
used inside, and whether the logits of a position are found at that position. Reading a family looks at
small JSON files only; no torch.

Covered: LLaDA (names of its own) and Dream (Hugging Face's names, predictions one position to the right).
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

from trims_core.block_causal import BLOCK_CAUSAL
from trims_core.errors import ConfigError
from trims_core.paths import located
from trims_core.students.adapter_config import ADAPTER_CONFIG_NAME
from trims_core.students.config_json import refuse_ids_beyond
from trims_core.text_files import DAMAGED, object_of

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

LoraTargets = str | Sequence[str]


@dataclass(frozen=True)
class Family(ABC):
    """One checkpoint's family: ids, sizes and names. `config` is the checkpoint's own config.json."""

    name: ClassVar[str]
    chat_template: ClassVar[str]
    mask_token: ClassVar[str]
    hf_classes: ClassVar[tuple[str, str]]
    """Names in transformers: the configuration's class and the causal LM's, run without its causal mask."""
    lookback: ClassVar[int] = 0
    """How many positions to the left of a position its prediction is read: 1 where logits are shifted."""

    mask_id: int
    eos_id: int
    """End of sequence; the first one where config.json lists several."""
    eot_id: int | None
    """End of turn; None where the checkpoint has no tokenizer that names it."""
    vocab_size: int
    """Rows of the embedding, which may exceed the tokenizer's entries."""
    context_length: int
    n_layers: int
    config: Mapping[str, Any] = field(repr=False)
    more_end_ids: tuple[int, ...] = ()
    """Further ends of sequence that config.json lists."""

    @property
    def block_causal_length(self) -> int | None:
        """Positions of a block where attention is block-causal (block_causal.py); None: all see all."""
        length: int | None = self.config.get(BLOCK_CAUSAL)
        return length

    def attending_in_blocks(self, length: int | None) -> Self:
        """The same with another attention; whoever writes `config` writes it down."""
        others = {key: value for key, value in self.config.items() if key != BLOCK_CAUSAL}
        return replace(self, config=others if length is None else {**others, BLOCK_CAUSAL: length})

    @property
    def end_ids(self) -> frozenset[int]:
        """Ids that end an answer."""
        return frozenset(i for i in (self.eos_id, self.eot_id, *self.more_end_ids) if i is not None)

    def refuse_ids_beyond_the_embedding(self, source: str) -> None:
        """Raises ConfigError for a token id of config.json or the tokenizer that has no row there."""
        ids = {
            "mask_token_id": self.mask_id,
            "eos_token_id": (self.eos_id, *self.more_end_ids),
            "eot_token_id": self.eot_id,
            "pad_token_id": self.config.get("pad_token_id"),
        }
        refuse_ids_beyond(self.vocab_size, ids, source)

    @classmethod
    @abstractmethod
    def read(cls, config: Mapping[str, Any], special_ids: Mapping[str, int], source: str) -> Family:
        """The family of a checkpoint, from its config.json and its tokenizer's special tokens."""

    @abstractmethod
    def hf_config(self) -> dict[str, Any]:
        """The keyword arguments of the Hugging Face configuration with this shape, `is_causal` off."""

    def new_model(self, state: Mapping[str, Tensor] | None = None, **options: Any) -> PreTrainedModel:
        """A Hugging Face module of this shape that attends in both directions; freshly initialised without
        `state`, the weights under Hugging Face names. Its attribute `student_family` is this family."""
        import transformers

        config_class, model_class = (getattr(transformers, name) for name in self.hf_classes)
        config = config_class(**self.hf_config())
        model: PreTrainedModel = (
            model_class._from_config(config, **options)
            if state is None
            else model_class.from_pretrained(None, config=config, state_dict=dict(state), **options)
        )
        model.student_family = self
        return model

    def official_name(self, hf_name: str) -> str:
        """The published name of a module or weight; anything before `model.` or `lm_head` is kept."""
        return hf_name

    def hf_name(self, official_name: str) -> str:
        """The name used inside of a published module or weight name."""
        return official_name

    @property
    @abstractmethod
    def linear_leaves(self) -> Mapping[str, tuple[str, str]]:
        """Official leaf name -> (Hugging Face leaf path in a layer, kind "attention" or "mlp"); no head."""

    @property
    @abstractmethod
    def layer_patterns(self) -> tuple[str, str]:
        """Regular expressions of a layer's name: official and Hugging Face."""

    def align(self, outputs_BLX: Tensor) -> Tensor:
        """Outputs (hidden states or logits) moved to the positions they predict; the first `lookback`
        positions keep their own."""
        if not self.lookback:
            return outputs_BLX
        import torch

        return torch.cat((outputs_BLX[:, : self.lookback], outputs_BLX[:, : -self.lookback]), dim=1)

    def lora_targets(self, names: LoraTargets = "all-linear") -> str:
        """A regular expression for PEFT's `target_modules`, on Hugging Face names; never the head.

        Args:
            names: "all-linear", "attention", "mlp", or module names, official or Hugging Face ones.

        Raises:
            ConfigError: a name matches nothing; the message lists what exists.
        """
        _, layer = self.layer_patterns
        paths = [self.linear_leaves[leaf][0] for leaf in self._chosen_leaves(names)]
        return _targets_pattern(layer, paths)

    def official_targets_of(self, modules: Sequence[str]) -> str | list[str]:
        """PEFT's `target_modules` that match exactly these published module names: a regular expression
        where they are the same modules in every layer, else their list."""
        layer, _ = self.layer_patterns
        found = [re.fullmatch(rf"{layer}\.(?P<leaf>.+)", module) for module in modules]
        named = {match["leaf"] for match in found if match is not None}
        leaves = [leaf for leaf in self.linear_leaves if leaf in named]
        same_everywhere = None not in found and len(modules) == self.n_layers * len(leaves)
        return _targets_pattern(layer, leaves) if same_everywhere else list(modules)

    def _chosen_leaves(self, names: LoraTargets) -> list[str]:
        requested = [names] if isinstance(names, str) else list(names)
        chosen: set[str] = set()
        unknown: list[str] = []
        for name in requested:
            found = [leaf for leaf in self.linear_leaves if self._is_called(leaf, name)]
            chosen.update(found)
            if not found:
                unknown.append(name)
        if unknown or not chosen:
            last_parts = [path.rpartition(".")[2] for path, _ in self.linear_leaves.values()]
            existing = dict.fromkeys([*self.linear_leaves, *last_parts])
            raise ConfigError(
                f"LoRA targets {unknown or requested} match no linear module of the {self.name} student;"
                f" expected all-linear, attention, mlp, or any of {', '.join(existing)}. The head is never"
                " wrapped."
            )
        return [leaf for leaf in self.linear_leaves if leaf in chosen]

    def _is_called(self, leaf: str, name: str) -> bool:
        path, kind = self.linear_leaves[leaf]
        return name in ("all-linear", kind, leaf, path, path.rpartition(".")[2])


def _targets_pattern(layer: str, leaves: Sequence[str]) -> str:
    return layer + r"\.(" + "|".join(re.escape(leaf) for leaf in leaves) + ")"


def families() -> dict[str, type[Family]]:
    """Known families by the `model_type` of their config.json in lower case, which is their name too."""
    from trims_core.students.dream import DreamFamily
    from trims_core.students.llada import LladaFamily

    return {family.name: family for family in (DreamFamily, LladaFamily)}


def find_mask_id(
    config: Mapping[str, Any], special_ids: Mapping[str, int], mask_token: str, source: str
) -> int:
    """The id of [MASK], from config.json or the tokenizer's special tokens.

    Raises:
        ConfigError: neither knows it.
    """
    mask_id = config.get("mask_token_id")
    found = special_ids.get(mask_token) if mask_id is None else int(mask_id)
    if found is None:
        raise ConfigError(
            f"{source}: mask_token_id missing and no {mask_token} in the tokenizer; add mask_token_id"
        )
    return found


def read_family(model_dir: str | Path, family: str = "auto") -> Family:
    """The family of a checkpoint folder, from config.json and the tokenizer's files; imports no torch.

    Args:
        model_dir: a folder with config.json.
        family: the family to insist on, or "auto" for what config.json says.

    Raises:
        ConfigError: no readable config.json there, a family that is not known, or a network or ids that it
            does not have.
    """
    folder = Path(model_dir)
    path = folder / "config.json"
    if not path.exists() and (folder / ADAPTER_CONFIG_NAME).is_file():
        raise ConfigError(
            f"{located(folder)}: holds an adapter; expected a student checkpoint. Name the student that it"
            " belongs to, and this folder as its adapter"
        )
    config = object_of(path, "the folder of a student checkpoint with config.json")
    known = families()
    model_type = config.get("model_type") if family == "auto" else family
    found = known.get(str(model_type).lower())
    if found is None:
        raise ConfigError(
            f"{path}: model_type {model_type!r} is no known student family; known:"
            f" {', '.join(sorted(known))}. Set student.family if config.json is wrong."
        )
    return found.read(config, _special_ids(folder), str(path))


def _special_ids(folder: Path) -> dict[str, int]:
    """Added tokens of the tokenizer by their text; empty without tokenizer files."""
    ids: dict[str, int] = {}
    for name, read in _ADDED_TOKENS.items():
        path = folder / name
        if not path.is_file():
            continue
        found = object_of(path, "a tokenizer's file")
        try:
            ids.update({str(text): int(number) for text, number in read(found)})
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"{path}: its added tokens cannot be read ({type(error).__name__}: {error}); expected a"
                f" tokenizer's file. {DAMAGED}"
            ) from error
    return ids


_ADDED_TOKENS: Final[Mapping[str, Callable[[dict[str, Any]], Iterable[tuple[str, Any]]]]] = {
    "added_tokens.json": lambda found: found.items(),
    "tokenizer_config.json": lambda found: (
        (entry["content"], key) for key, entry in (found.get("added_tokens_decoder") or {}).items()
    ),
    "tokenizer.json": lambda found: (
        (entry["content"], entry["id"]) for entry in found.get("added_tokens") or []
    ),
}
"""A file of a tokenizer -> the text and id of the tokens added there; later files win."""
