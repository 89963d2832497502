"""The grades stage: of a model's sweep, or of the rollouts that methods are trained on.

A unit holds the grades of one unit of samples. Nothing is decoded here: another right answer or a corrected
grader gives new grades for the same samples.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, Final

from trims_core.config import TrimsConfig
from trims_core.grades import of_rollouts, of_sweeps
from trims_core.graph import ROLLOUT_GRADES, Node, rollouts_of
from trims_core.sections import Section
from trims_core.stage import StageSpec

VERSION: Final = 1


def _kind(settings: Any) -> ModuleType:
    """The module with the grades that these settings are for."""
    return of_rollouts if isinstance(settings, of_rollouts.Settings) else of_sweeps


def _settings(config: TrimsConfig, node: Node) -> Section:
    if node.id == ROLLOUT_GRADES or "round" in node.params:
        return of_rollouts.settings(rollouts_of(config, node))
    return of_sweeps.settings(config)


SPEC: Final = StageSpec(
    "grades",
    VERSION,
    settings=_settings,
    inputs=lambda chosen, digests: _kind(chosen).inputs(chosen, digests),
    units=lambda work, _facts: _kind(work.settings).units(work),
    maker=lambda work, _facts, waiting, done: _kind(work.settings).maker(work, waiting, done),
    finish=lambda work, _facts, done: _kind(work.settings).finish(work, done),
)
