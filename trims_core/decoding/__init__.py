"""The canvas loop of masked diffusion decoding, its reveal rules and caches; importing it imports torch."""

from trims_core.decoding.caches import CACHES, CachePolicy, DualCache, ExactCache, NoCache, PrefixCache
from trims_core.decoding.canvas import Decoded
from trims_core.decoding.dream_official import DreamSteps, DreamThreshold
from trims_core.decoding.engine import DecodeSettings, decode
from trims_core.decoding.eos_rules import Ass, Eoser
from trims_core.decoding.open_blocks import MultiBlock, Pipelined
from trims_core.decoding.parallel import decode_parallel, default_workers
from trims_core.decoding.proposals import Progress, Proposals
from trims_core.decoding.protocol import Denoiser
from trims_core.decoding.rules import (
    EntropyThreshold,
    Factor,
    RevealRule,
    Threshold,
    TopK,
    one_per_forward,
)
from trims_core.decoding.sampling import Sampling

__all__ = [
    "CACHES",
    "Ass",
    "CachePolicy",
    "DecodeSettings",
    "Decoded",
    "Denoiser",
    "DreamSteps",
    "DreamThreshold",
    "DualCache",
    "EntropyThreshold",
    "Eoser",
    "ExactCache",
    "Factor",
    "MultiBlock",
    "NoCache",
    "Pipelined",
    "PrefixCache",
    "Progress",
    "Proposals",
    "RevealRule",
    "Sampling",
    "Threshold",
    "TopK",
    "decode",
    "decode_parallel",
    "default_workers",
    "one_per_forward",
]
