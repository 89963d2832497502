"""One of every reveal rule, for a canvas of 16 positions."""

from __future__ import annotations

from trims_core.decoding import (
    Ass,
    DreamSteps,
    DreamThreshold,
    EntropyThreshold,
    Eoser,
    Factor,
    MultiBlock,
    Pipelined,
    RevealRule,
    Threshold,
    TopK,
)

RULES: dict[str, RevealRule] = {
    "topk": TopK(8),
    "threshold": Threshold(0.35),
    "factor": Factor(0.8),
    "factor_compat": Factor(0.8, compat=True),
    "entropy": EntropyThreshold(1.5),
    "multi_block": MultiBlock(1.5, 0.5),
    "pipelined": Pipelined(0.35, 0.5),
    "eoser": Eoser(TopK(8)),
    "ass": Ass(2),
    "eoser_ass": Eoser(Ass(2), 0.01),
    "dream_steps": DreamSteps(8),
    "dream_threshold": DreamThreshold(0.35, 8),
}
