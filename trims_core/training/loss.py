"""The masked diffusion loss: cross-entropy of hidden tokens, head and softmax on hidden positions only.

Shape legend: B sequences, L length, C positions, M masked positions of a micro-batch, D hidden, V vocabulary.
Source: LLaDA (arXiv 2502.09992) eq. 3 and guidelines; TRIMS (arXiv 2604.00666). The values of the three
normalisations equal those of dLLM's MDLM trainer (tests/training/test_loss.py).
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

LossNorm = Literal["token", "sequence", "batch"]


def normalise(
    weight_BC: Tensor, n_supervised_B: Tensor, norm: LossNorm, *, n_supervised: int, n_sequences: int
) -> Tensor:
    """Token weights divided so that the weighted cross-entropies of a *global* batch sum to its loss.

    token: by the maskable tokens of the global batch; sequence: by the sequence's own number of them times
    the sequences; batch: by the sequences. Summed over all micro-batches and ranks; nothing else may divide.

    Args:
        n_supervised_B: maskable tokens of each sequence.
        n_supervised, n_sequences: of the whole global batch.
    """
    if norm == "token":
        return weight_BC / max(n_supervised, 1)
    if norm == "sequence":
        return weight_BC / (n_supervised_B.clamp(min=1)[:, None] * n_sequences)
    return weight_BC / n_sequences


def weighted_cross_entropy(logits_MV: Tensor, target_M: Tensor, weight_M: Tensor) -> Tensor:
    """Σ weight·CE over masked positions, float32 scalar; 0 with zero gradients where nothing is masked."""
    nll_M = functional.cross_entropy(logits_MV.float(), target_M, reduction="none")
    return (nll_M * weight_M.float()).sum()


class MaskedDenoiser(nn.Module):
    """A causal-LM-shaped student (PEFT or plain) that computes logits at chosen positions only.

    At training lengths the head over a 126k vocabulary costs as much as several layers and its float32
    logits more memory than the model's activations; only masked positions have a loss.
    """

    accepts_loss_kwargs = False

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    @property
    def config(self) -> Any:
        """The student's configuration (Trainer and DeepSpeed read sizes from it)."""
        return self.model.config

    def forward(self, noisy_BL: Tensor, masked_BL: Tensor, attention_BL: Tensor | None = None) -> Tensor:
        """Logits aligned to the masked positions, [M, V], rows in the order of `masked_BL.nonzero()`."""
        inner: Any = self.model
        causal = inner.get_base_model() if hasattr(inner, "get_base_model") else inner
        hidden_BLD = causal.base_model(
            input_ids=noisy_BL, attention_mask=attention_BL, use_cache=False
        ).last_hidden_state
        logits_MV: Tensor = causal.get_output_embeddings()(hidden_BLD[masked_BL])
        return logits_MV


def denoising_loss(model: nn.Module, inputs: dict[str, Any]) -> Tensor:
    """This micro-batch's part of the global batch's loss, float32 scalar.

    Dropout draws from the micro-batch's own seed, so that a resumed or differently split run drops the same
    units; the global generators are put back afterwards.
    """
    noisy_BL: Tensor = inputs["noisy_BL"]
    masked_BL: Tensor = inputs["masked_BL"]
    devices = [noisy_BL.device] if noisy_BL.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(inputs["dropout_seed"])
        logits_MV = model(noisy_BL, masked_BL, inputs["attention_BL"])
    return weighted_cross_entropy(logits_MV, inputs["target_BL"][masked_BL], inputs["weight_BL"][masked_BL])
