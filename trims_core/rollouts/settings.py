"""What the rollouts of a student may read, and of that what one unit reads: keys are made of these alone."""

from __future__ import annotations

from typing import Annotated

from trims_core.block_causal import check_exact_cache
from trims_core.config import StudentConfig, TrimsConfig
from trims_core.decoding_sections import RolloutsConfig, SamplingConfig
from trims_core.graph import Node
from trims_core.points import CacheName, RuleName
from trims_core.sections import OPERATIONAL, Section


class Decoding(Section):
    """What all answers have in common."""

    rule: RuleName | None
    """None: one token per forward."""
    threshold: float | None
    cache: CacheName
    gen_length: int
    block_length: int
    stop_at_end: bool
    batch_size: Annotated[int, OPERATIONAL]
    student: StudentConfig
    """Without its template: prompts come as tokens."""


class RolloutsSettings(Decoding):
    """All that the rollouts of a student read."""

    sampling: SamplingConfig
    """Of the samples, with what temperature 0 does not read at its default."""
    temperatures: tuple[float, ...]
    """One per answer."""
    limit: int | None
    grader: Annotated[str, OPERATIONAL]
    """Looked at before anything is decoded, so that a name that is wrong costs nothing."""


class UnitSettings(Decoding):
    """All that decoding one answer to each of some prompts reads."""

    sampling: SamplingConfig
    """At its own temperature."""
    rollout: int
    """The answer's number, by which noise is drawn."""


def settings(config: TrimsConfig, _node: Node | None = None) -> RolloutsSettings:
    """From the sections rollouts and student.

    Raises:
        ConfigError: the student is a local one that the exact cache is not defined for.
    """
    chosen = config.given_rollouts
    if chosen.cache == "exact":
        check_exact_cache(config.student.model, "rollouts")
    return RolloutsSettings(
        rule=None if chosen.threshold is None else chosen.rule,
        threshold=chosen.threshold,
        cache=chosen.cache,
        gen_length=chosen.gen_length,
        block_length=chosen.block_length,
        stop_at_end=chosen.stop_at_end,
        batch_size=chosen.batch_size,
        student=config.student.without_template(),
        sampling=_read_by_some(chosen),
        temperatures=chosen.temperatures,
        limit=chosen.limit,
        grader=chosen.grader,
    )


def unit_settings(chosen: RolloutsSettings, rollout: int) -> UnitSettings:
    """Of the answers of one number."""
    common = {name: getattr(chosen, name) for name in Decoding.model_fields}
    at = chosen.sampling.model_copy(update={"temperature": chosen.temperatures[rollout]})
    return UnitSettings(**common, sampling=at.as_read(), rollout=rollout)


def draw_name(prompt_id: str, rollout: int) -> str:
    """What the noise of an answer is drawn by, besides the seed: its prompt and its number, nothing else."""
    return f"{prompt_id}#{rollout}"


def _read_by_some(chosen: RolloutsConfig) -> SamplingConfig:
    """The sampling; seed and the like at their default where no answer has a temperature."""
    return chosen.sampling if any(chosen.temperatures) else chosen.sampling.as_read()
