"""Students whose logits are known: scripted, noisy and hostile ones, and a small real transformer.

Shapes: B sequences, L positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from trims_core.students.loading import Student

VOCABULARY = 32
MASK = 31
END = 30
FAMILY = SimpleNamespace(
    mask_id=MASK,
    eos_id=END,
    end_ids=frozenset({END}),
    context_length=512,
    lookback=0,
    vocab_size=VOCABULARY,
)

LogitsOf = Callable[[torch.Tensor], torch.Tensor]


class FakeStudent:
    """Gives the logits of a function of the ids; remembers the shape of every forward."""

    def __init__(self, logits_of: LogitsOf) -> None:
        self.model = torch.nn.Linear(1, 1)
        self.family = FAMILY
        self.shapes: list[tuple[int, int]] = []
        self._logits_of = logits_of

    def hidden(
        self,
        ids_BQ: torch.Tensor,
        position_ids_BQ: torch.Tensor | None = None,
        attention_mask_BL: torch.Tensor | None = None,
        cache: object = None,
    ) -> torch.Tensor:
        """The logits themselves."""
        self.shapes.append((ids_BQ.shape[0], ids_BQ.shape[1]))
        return self._logits_of(ids_BQ)

    def head(self, hidden_XD: torch.Tensor) -> torch.Tensor:
        return hidden_XD.clone()


def scripted(tokens: list[int], confident: list[float] | None = None) -> FakeStudent:
    """Always proposes these tokens for the canvas; `confident` are the logits they stand out with."""
    heights = confident or [20.0] * len(tokens)

    def logits_of(ids_BL: torch.Tensor) -> torch.Tensor:
        logits_BLV = torch.zeros(*ids_BL.shape, VOCABULARY)
        for place, (token, height) in enumerate(zip(tokens, heights, strict=True)):
            logits_BLV[:, ids_BL.shape[1] - len(tokens) + place, token] = height
        return logits_BLV

    return FakeStudent(logits_of)


def noisy(seed: int, scale: float = 3.0) -> FakeStudent:
    """Random logits, new ones at every forward."""
    generator = torch.Generator().manual_seed(seed)
    return FakeStudent(lambda ids_BL: scale * torch.randn(*ids_BL.shape, VOCABULARY, generator=generator))


class TinyTransformer(Student):
    """A random two-layer student that attends in both directions; remembers the shape of every forward."""

    def __init__(self, seed: int = 0, lookback: int = 0) -> None:
        config = LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=512,
            initializer_range=0.35,
            is_causal=False,
            use_cache=False,
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = LlamaForCausalLM(config).eval()
        super().__init__(model, _family(lookback))
        self.shapes: list[tuple[int, int]] = []

    def hidden(self, ids_BQ: torch.Tensor, *context: object) -> torch.Tensor:
        self.shapes.append((ids_BQ.shape[0], ids_BQ.shape[1]))
        return super().hidden(ids_BQ, *context)


def _family(lookback: int) -> Any:
    family = SimpleNamespace(**vars(FAMILY))
    family.lookback = lookback
    family.align = lambda x: torch.cat((x[:, :lookback], x[:, : x.shape[1] - lookback]), dim=1)
    return family
