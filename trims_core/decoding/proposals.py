"""What the model proposes for the masked positions of each sequence's current block.

Shapes: B sequences in the batch, G canvas positions, N candidates of all sequences together, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from trims_core.errors import SweepError


@dataclass(frozen=True)
class Proposals:
    """One forward's answer: the most probable token of every candidate position and its probability.

    A reveal rule reads this and nothing else, so another rule needs no change of the canvas loop.
    """

    candidate_BG: torch.Tensor
    """bool: masked and before the end of the sequence's current block; at least one per sequence."""
    token_BG: torch.Tensor
    """int64: most probable token, never [MASK]; 0 where not a candidate."""
    confidence_BG: torch.Tensor
    """float32: softmax probability of that token; −inf where not a candidate."""
    block_step_B: torch.Tensor
    """int64: forwards the sequence has already spent on its current block."""
    block_length: int

    @property
    def n_blocks(self) -> int:
        """Blocks of the canvas."""
        return self.candidate_BG.shape[1] // self.block_length


def propose(
    logits_BGV: torch.Tensor,
    candidate_BG: torch.Tensor,
    block_step_B: torch.Tensor,
    block_length: int,
    mask_id: int,
) -> Proposals:
    """The proposals of one forward; looks at the logits of candidate positions only.

    The probability is that of the softmax over the whole vocabulary, by float32 log-sum-exp. [MASK] keeps its
    share of it, as in the published programs, but is never the proposal.

    Raises:
        SweepError: a candidate's logits are not finite (NaN, +inf, or −inf for every token).
    """
    logits_NV = logits_BGV[candidate_BG].float()
    log_total_N = torch.logsumexp(logits_NV, dim=-1)
    logits_NV[:, mask_id] = -torch.inf
    best_N, token_N = logits_NV.max(dim=-1)
    confidence_N = torch.exp(best_N - log_total_N)
    n_bad = int((~torch.isfinite(confidence_N)).sum())
    if n_bad:
        raise SweepError(
            f"the student gave non-finite logits at {n_bad} of {confidence_N.numel()} masked positions;"
            " expected finite numbers. Its checkpoint or adapter is damaged, or its dtype too narrow:"
            " check the training log, or set student.dtype: float32"
        )
    token_BG = torch.zeros_like(candidate_BG, dtype=torch.int64)
    token_BG[candidate_BG] = token_N
    confidence_BG = torch.full_like(candidate_BG, -torch.inf, dtype=torch.float32)
    confidence_BG[candidate_BG] = confidence_N
    return Proposals(candidate_BG, token_BG, confidence_BG, block_step_B, block_length)
