"""The student in training: what of its predictions a loss needs, for the scored positions of a canvas alone.

Shape legend: B sequences, L length, D hidden, M scored positions of a canvas, row by row.
At training lengths the head over a 126k vocabulary costs as much as several layers and its float32 logits
more memory than the model's activations; only scored positions have a loss.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from trims_core.block_causal import sees
from trims_core.students import Family
from trims_core.training.head import head_cross_entropy
from trims_core.training.rows import Rows, head_rows
from trims_core.training.sequences import Batch, Canvas, View


class Denoiser(nn.Module):
    """A causal-LM-shaped student (PEFT or plain) that gives what a loss needs instead of logits.

    Every pass goes through `forward`, because DeepSpeed's engine prepares weights and gradients there.
    """

    def __init__(self, model: nn.Module, family: Family, *, keeps_start: bool = False) -> None:
        super().__init__()
        self.model = model
        self.family = family
        trained = [weight for weight in model.parameters() if weight.requires_grad] if keeps_start else []
        self._start = [(weight, weight.detach().clone()) for weight in trained]

    @contextmanager
    def at_start(self) -> Iterator[None]:
        """Inside, the weights are those that training began with: no gradient, and not under ZeRO-3."""
        now = [weight.data for weight, _ in self._start]
        try:
            for weight, start in self._start:
                weight.data = start.to(weight.device, weight.dtype)
            yield
        finally:
            for (weight, _), data in zip(self._start, now, strict=True):
                weight.data = data

    @property
    def config(self) -> Any:
        """The student's configuration (DeepSpeed reads sizes from it)."""
        return self.model.config

    def forward(
        self,
        view: View,
        target_BL: Tensor,
        attention_BL: Tensor | None,
        weight_BL: Tensor | None = None,
        temperatures: Sequence[float] = (),
        *,
        reference: bool = False,
        reference_temperature: float = 1.0,
        with_adapter: bool = True,
    ) -> Any:
        """With weights: (Σ weight·CE, CE_M without gradient). Without: Rows, all differentiable. The
        reference attends in both directions whatever the canvas says."""
        inner: Any = self.model
        causal = inner.get_base_model() if hasattr(inner, "get_base_model") else inner
        head, at_BL = causal.get_output_embeddings(), view.scored_BL
        with nullcontext() if with_adapter else inner.disable_adapter():
            hidden_MD = self._hidden(causal, view, attention_BL)
        target_M = target_BL[at_BL]
        if weight_BL is not None:
            return head_cross_entropy(head, hidden_MD, target_M, weight_BL[at_BL])
        reference_MD = None
        if reference:
            with torch.no_grad(), inner.disable_adapter():
                seen = view.reference or Canvas(view.noisy_BL, at_BL, attention_BL)
                read = replace(view, noisy_BL=seen.noisy_BL, scored_BL=seen.scored_BL, block_BL=None)
                reference_MD = self._hidden(causal, read, seen.attention_BL)
        return head_rows(
            head,
            hidden_MD,
            target_M,
            temperatures,
            reference_MD,
            reference_temperature=reference_temperature,
        )

    def _hidden(self, causal: Any, view: View, attention_BL: Tensor | None) -> Tensor:
        """Last hidden states of the scored positions [M, D]."""
        mask = attention_BL if view.block_BL is None else _seen(view.block_BL, attention_BL)
        hidden_BLD = causal.base_model(
            input_ids=view.noisy_BL, attention_mask=mask, use_cache=False
        ).last_hidden_state
        aligned_BLD = self.family.align(hidden_BLD) if view.aligned else hidden_BLD
        return aligned_BLD[view.scored_BL]


def _seen(block_BL: Tensor, attention_BL: Tensor | None) -> Tensor:
    """bool [B, 1, L, L]: which columns each position sees in a block-causal student, dead ones never."""
    seen_BLL = sees(block_BL, block_BL)
    return (seen_BLL if attention_BL is None else seen_BLL & attention_BL.bool()[:, None])[:, None]


class TrainedStudent:
    """The student as methods see it.

    Args:
        engine: what is called: the denoiser, or an engine around it.
    """

    def __init__(self, engine: nn.Module, denoiser: Denoiser) -> None:
        self._engine = engine
        self._denoiser = denoiser

    @property
    def mask_id(self) -> int:
        """[MASK]."""
        return self._denoiser.family.mask_id

    def cross_entropy(self, batch: Batch, view: View, weight_BL: Tensor) -> tuple[Tensor, Tensor]:
        """Σ weight·CE over the scored positions, float32 scalar (0 with zero gradients where there are none),
        and CE_M in nats, which has no gradient."""
        with _dropout(view):
            loss, nll_M = self._engine(view, batch.target_BL, batch.attention_BL, weight_BL)
        return loss, nll_M

    def rows(
        self,
        batch: Batch,
        view: View,
        temperatures: Sequence[float] = (),
        *,
        reference: bool = False,
        reference_temperature: float = 1.0,
    ) -> Rows:
        """What is predicted at each scored position; gradients flow from all of it.

        Args:
            temperatures: at which entropies are wanted.
            reference: whether the divergence from the student without its adapter is wanted, which reads the
                same canvas unless the view has another for it.
            reference_temperature: of both distributions in that divergence.
        """
        with _dropout(view):
            rows: Rows = self._engine(
                view,
                batch.target_BL,
                batch.attention_BL,
                None,
                temperatures,
                reference=reference,
                reference_temperature=reference_temperature,
            )
        return rows

    def reference_nll(self, batch: Batch, view: View) -> Tensor:
        """−log p of the target at each scored position under the student without its adapter: float32 [M], in
        nats, no gradient."""
        with torch.no_grad():
            rows: Rows = self._engine(view, batch.target_BL, batch.attention_BL, with_adapter=False)
        return rows.nll_M

    def start_nll(self, batch: Batch, view: View) -> Tensor:
        """The same under the weights that training began with, with dropout of its own."""
        drawn = replace(view, dropout_seed=view.dropout_seed ^ 1)
        with torch.no_grad(), self._denoiser.at_start(), _dropout(drawn):
            rows: Rows = self._engine(view, batch.target_BL, batch.attention_BL)
        return rows.nll_M

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Passes inside have neither gradient nor dropout."""
        was_training = self._denoiser.training
        self._engine.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self._engine.train(was_training)


@contextmanager
def _dropout(view: View) -> Iterator[None]:
    """Dropout draws from the canvas's own seed; the global generators are put back afterwards."""
    device = view.noisy_BL.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(view.dropout_seed)
        yield
