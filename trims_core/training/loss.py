"""The masked diffusion loss: cross-entropy of hidden tokens, head and softmax on hidden positions only.

Shape legend: B sequences, L length, C positions, D hidden.
Source: LLaDA (arXiv 2502.09992) eq. 3 and guidelines; TRIMS (arXiv 2604.00666). The values of the three
normalisations equal those of dLLM's MDLM trainer (tests/training/test_loss.py).
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from trims_core.students import Family
from trims_core.training.head import head_cross_entropy

LossNorm = Literal["token", "sequence", "batch"]


def normalise(
    weight_BC: Tensor, n_supervised_B: Tensor, norm: LossNorm, *, n_supervised: int, n_sequences: int
) -> Tensor:
    """Token weights divided so that the weighted cross-entropies of a *global* batch sum to its loss.

    token: by the maskable tokens of the global batch; sequence: by the sequence's own number of them times
    the sequences; batch: by the sequences. Summed over all micro-batches and ranks; nothing else may divide.

    Args:
        n_supervised_B: maskable tokens of each sequence, supervised ends among them, dead columns not.
        n_supervised, n_sequences: of the whole global batch.
    """
    if norm == "token":
        return weight_BC / max(n_supervised, 1)
    if norm == "sequence":
        return weight_BC / (n_supervised_B.clamp(min=1)[:, None] * n_sequences)
    return weight_BC / n_sequences


class MaskedDenoiser(nn.Module):
    """A causal-LM-shaped student (PEFT or plain) with its loss: head and cross-entropy on masked positions.

    At training lengths the head over a 126k vocabulary costs as much as several layers and its float32
    logits more memory than the model's activations; only masked positions have a loss.
    """

    accepts_loss_kwargs = False

    def __init__(self, model: nn.Module, family: Family) -> None:
        super().__init__()
        self.model = model
        self.family = family

    @property
    def config(self) -> Any:
        """The student's configuration (Trainer and DeepSpeed read sizes from it)."""
        return self.model.config

    def forward(
        self,
        noisy_BL: Tensor,
        masked_BL: Tensor,
        target_BL: Tensor,
        weight_BL: Tensor,
        end_BL: Tensor,
        attention_BL: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Σ weight·CE over the masked positions, float32 scalar, and its part on supervised ends, which has
        no gradient; 0 with zero gradients where nothing is masked."""
        inner: Any = self.model
        causal = inner.get_base_model() if hasattr(inner, "get_base_model") else inner
        hidden_BLD = causal.base_model(
            input_ids=noisy_BL, attention_mask=attention_BL, use_cache=False
        ).last_hidden_state
        weight_M = weight_BL[masked_BL]
        loss, nll_M = head_cross_entropy(
            causal.get_output_embeddings(),
            self.family.align(hidden_BLD)[masked_BL],
            target_BL[masked_BL],
            weight_M,
        )
        return loss, (nll_M * weight_M * end_BL[masked_BL]).sum()


def denoising_loss(model: nn.Module, inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """This micro-batch's part of the global batch's loss, float32 scalar, and what of it lies on ends.

    Dropout draws from the micro-batch's own seed, so that a resumed or differently split run drops the same
    units; the global generators are put back afterwards.
    """
    noisy_BL: Tensor = inputs["noisy_BL"]
    devices = [noisy_BL.device] if noisy_BL.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(inputs["dropout_seed"])
        names = ("masked_BL", "target_BL", "weight_BL", "end_BL", "attention_BL")
        loss, end_loss = model(noisy_BL, *(inputs[name] for name in names))
    return loss, end_loss
