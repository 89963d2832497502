"""From the sweep's settings to the decoder's: the reveal rule of a cell and its cache.

Importing this module imports torch.
"""

from __future__ import annotations

from trims_core.decoding import CACHES, DecodeSettings, Sampling
from trims_core.decoding.from_settings import rule_at, sampling_without_tokens
from trims_core.errors import ConfigError
from trims_core.sweep.cells import grid
from trims_core.sweep.settings import CellSettings, SweepSettings, cell_settings


def decode_settings(chosen: CellSettings, sampling: Sampling) -> DecodeSettings:
    """How a cell is decoded."""
    return DecodeSettings(
        rule=rule_at(
            chosen.rule,
            chosen.threshold,
            chosen.gen_length,
            add=chosen.pipeline_add if chosen.rule == "pipelined" else chosen.multi_block_add,
            activate=chosen.pipeline_activate,
            steps=chosen.dream_steps,
            gamma_min=chosen.gamma_min,
        ),
        gen_length=chosen.gen_length,
        block_length=chosen.block_length,
        stop_at_end=chosen.stop_at_end,
        batch_size=chosen.batch_size,
        cache=CACHES[chosen.cache],
        sampling=sampling,
        stop_strings=chosen.stop_strings,
    )


def check_settings(chosen: SweepSettings) -> None:
    """Raises ConfigError where a cell's settings are not defined, naming the cell; needs no student."""
    for cell in grid(chosen):
        decoding = cell_settings(chosen, cell.task, cell.cache, cell.threshold)
        try:
            decode_settings(decoding, sampling_without_tokens(decoding.sampling)).check()
        except ConfigError as error:
            raise ConfigError(f"sweep, {cell.text()}: {error}") from error
