"""What decoding needs of a student.

Shapes: B sequences, Q fed columns, L all columns, D hidden, V vocabulary.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch

from trims_core.decoding.caches import KeyValueStore


class Denoiser(Protocol):
    """A masked diffusion model."""

    @property
    def model(self) -> torch.nn.Module:
        """The network; its first parameter tells the device."""

    @property
    def family(self) -> Any:
        """Of its attributes mask_id, eos_id, end_ids, lookback, vocab_size, and block_causal_length where it
        has one, are read: students.Family."""

    def hidden(
        self,
        ids_BQ: torch.Tensor,
        position_ids_BQ: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        cache: KeyValueStore | None = None,
    ) -> torch.Tensor:
        """hidden_BQD, each at the position it predicts.

        Args:
            attention_mask: bool, the columns that are seen: by all that is fed [B, L], or by each fed one
                [B or 1, Q, L], which only a block-causal student is asked for. None: all.
        """

    def head(self, hidden_XD: torch.Tensor) -> torch.Tensor:
        """logits_XV of some hidden states."""
