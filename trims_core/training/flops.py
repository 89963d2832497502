"""Model FLOPs utilisation: which share of the hardware's peak the student's own matrix products are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch

PEAKS: Final = {
    "H100": 989e12,
    "H200": 989e12,
    "B200": 2250e12,
    "A100": 312e12,
    "L40S": 362e12,
    "A10": 125e12,
}
"""Dense bfloat16 FLOP/s by a part of the device's name."""
PEAKS_FLOAT32: Final = {"H100": 67e12, "H200": 67e12, "A100": 19.5e12}


@dataclass(frozen=True)
class Speed:
    """What one attended token of one sequence costs.

    flops_per_token: matrix products of all of a method's passes, recomputed activations not among them.
    """

    flops_per_token: float
    world_size: int
    dtype: str

    def mfu(self, tokens_per_second: float, device: torch.device) -> float | None:
        """In [0, 1]; None on CPUs and on devices whose peak is not known.

        Args:
            tokens_per_second: of all ranks together.
        """
        if device.type != "cuda":
            return None
        name, peaks = torch.cuda.get_device_name(device), PEAKS_FLOAT32 if self.dtype == "float32" else PEAKS
        peak = next((flops for part, flops in peaks.items() if part in name), None)
        if peak is None:
            return None
        return round(tokens_per_second * self.flops_per_token / (peak * self.world_size), 4)


def flops_per_token(n_linear: int, n_adapters: int | None, n_passes: int, n_learned: int) -> float:
    """2 per weight and pass forwards; as much backwards to the inputs; as much again for trained weights.

    Attention's own products are left out: at training lengths they are a few percent. The head counts for
    every token, though only scored ones go through it.

    Args:
        n_linear: weights of the linear modules and the head.
        n_adapters: weights of adapters beside them; None: they are trained themselves.
        n_passes: forwards; n_learned: those that are followed by a backward pass.
    """
    n_trained = n_linear if n_adapters is None else n_adapters
    own = 2.0 * n_linear * (n_passes + n_learned) + 2.0 * n_trained * n_learned
    return own if n_adapters is None else own + 2.0 * n_adapters * (n_passes + n_learned)
