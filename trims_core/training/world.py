"""The processes of one training, as each of them sees the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class World:
    """This process among all of them. All ranks call the same methods in the same order."""

    rank: int
    size: int
    device: torch.device

    def sum(self, values: Mapping[str, float]) -> dict[str, float]:
        """The values' sums over all ranks, in float64; every rank has the same names."""
        if self.size == 1:
            return dict(values)
        summed = torch.tensor(list(values.values()), dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(summed)
        return dict(zip(values, summed.tolist(), strict=True))

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on at least one rank."""
        return self.sum({"flag": float(flag)})["flag"] > 0

    def wait(self) -> None:
        """Until all ranks are here."""
        if self.size > 1:
            torch.distributed.barrier()
