"""What decoding needs of a student.

Shapes: B sequences, Q fed columns, L all columns, D hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol

import torch

from trims_core.decoding.caches import KeyValueStore


class TokenIds(Protocol):
    """What decoding needs to know of a model family."""

    @property
    def mask_id(self) -> int:
        """[MASK]."""

    @property
    def eos_id(self) -> int:
        """The end of a sequence, also the padding behind it."""

    @property
    def end_ids(self) -> Collection[int]:
        """Every token that ends an answer."""

    @property
    def lookback(self) -> int:
        """How many positions to the left of a position its prediction is read."""

    @property
    def vocab_size(self) -> int:
        """Rows of the head."""


class Denoiser(Protocol):
    """A masked diffusion model."""

    @property
    def model(self) -> torch.nn.Module:
        """The network; its first parameter tells the device."""

    @property
    def family(self) -> Any:
        """Has the attributes of TokenIds."""

    def hidden(
        self,
        ids_BQ: torch.Tensor,
        position_ids_BQ: torch.Tensor | None = None,
        attention_mask_BL: torch.Tensor | None = None,
        cache: KeyValueStore | None = None,
    ) -> torch.Tensor:
        """hidden_BQD, each at the position it predicts."""

    def head(self, hidden_XD: torch.Tensor) -> torch.Tensor:
        """logits_XV of some hidden states."""
