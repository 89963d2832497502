"""The canvas loop of masked diffusion decoding and its reveal rules; importing it imports torch."""

from trims_core.decoding.engine import Decoded, DecodeSettings, Denoiser, decode
from trims_core.decoding.parallel import decode_parallel, default_workers
from trims_core.decoding.proposals import Proposals
from trims_core.decoding.rules import RevealRule, Threshold, TopK, one_per_forward

__all__ = [
    "DecodeSettings",
    "Decoded",
    "Denoiser",
    "Proposals",
    "RevealRule",
    "Threshold",
    "TopK",
    "decode",
    "decode_parallel",
    "default_workers",
    "one_per_forward",
]
