"""What a training tells while it runs: rows of metrics.jsonl, its progress, and the trackers' curves.

All of it is written by rank 0; the other ranks' reporters say nothing.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Mapping
from typing import Any, Final

import torch

from trims_core.training.flops import Speed
from trims_core.training.journal import MetricsLog, ProgressFile
from trims_core.training.loggers import Trackers
from trims_core.training.sequences import Totals

_MIB: Final = 2**20


class Reporter:
    """One rank's reports.

    Args:
        metrics, progress, trackers: None for ranks that say nothing.
        speed: what a processed token costs, to compute the share of the hardware's peak that is used.
    """

    def __init__(
        self,
        n_steps: int,
        device: torch.device,
        metrics: MetricsLog | None,
        progress: ProgressFile | None,
        trackers: Trackers | None,
        speed: Speed,
    ) -> None:
        self._n_steps, self._device = n_steps, device
        self._metrics, self._progress, self._trackers = metrics, progress, trackers
        self._speed = speed
        self._last = time.monotonic()

    def step(
        self,
        step: int,
        loss: float,
        parts: Mapping[str, float],
        measures: Mapping[str, float],
        lr: float,
        norm: float | None,
        totals: Totals,
    ) -> None:
        """One optimizer step.

        Args:
            parts: what the loss is the sum of, by name. measures: what else the method tells of it.
            norm: None where the update was skipped.
        """
        row = {
            "loss": loss,
            "lr": lr,
            "grad_norm": norm,
            "masked_fraction": totals["n_masked_content"] / max(totals["n_content"], 1.0),
            "end_loss_share": parts.get("ends", 0.0) / loss if loss else 0.0,
            "dead_columns": totals["n_dead"] / totals["n_columns"],
            "parts": dict(parts),
            **({"measures": dict(measures)} if measures else {}),
        }
        self._write(step, "train", row, self._measured(totals))
        self.say(step, f"step {step} of {self._n_steps}, loss {loss:.3f}")
        self.begin_step()

    def validated(self, step: int, loss: float, end_loss: float | None) -> None:
        """One validation: nats per token of content, and of the ends behind it."""
        self._write(step, "eval", {"loss": loss, "end_loss": end_loss}, {})
        self.begin_step()

    def begin_step(self) -> None:
        """What follows is measured from here on: validating and saving are no part of a step."""
        self._last = time.monotonic()

    def say(self, step: int, note: str, *, always: bool = False) -> None:
        """Where the run is."""
        if self._progress is not None:
            self._progress.tell(step, self._n_steps, note, always=always)

    def close(self) -> None:
        """No more reports."""
        if self._metrics is not None:
            self._metrics.close()
        if self._trackers is not None:
            self._trackers.close()

    def _measured(self, totals: Totals) -> dict[str, float | None]:
        """What depends on the machine and the moment; journal.MEASURED names it."""
        seconds = time.monotonic() - self._last
        n_tokens = totals["n_columns"] - totals["n_dead"]
        if self._device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(self._device)
        else:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return {
            "tokens_per_second": round(n_tokens / seconds, 1),
            "peak_memory_mib": round(peak / _MIB, 1),
            "mfu": self._speed.mfu(n_tokens / seconds, self._device),
        }

    def _write(self, step: int, kind: str, row: Mapping[str, Any], measured: Mapping[str, Any]) -> None:
        if self._metrics is not None:
            self._metrics.append(step, kind, **row, **measured)
        if self._trackers is not None:
            self._trackers.log(step, kind, {**row, **measured})
