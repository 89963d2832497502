"""What the rollouts of a student may read, and of that what one unit reads: keys are made of these alone."""

from __future__ import annotations

from typing import Annotated

from trims_core.block_causal import check_exact_cache
from trims_core.config import StudentConfig, TrimsConfig
from trims_core.decoding_sections import RolloutsConfig, SamplingConfig
from trims_core.graph import Node, rollouts_of, round_variant
from trims_core.keyed import draw_seed
from trims_core.points import READS_GAMMA, CacheName, RuleName
from trims_core.sections import LATER, OPERATIONAL, Section


class Decoding(Section):
    """What all answers have in common."""

    rule: RuleName | None
    """None: one token per forward."""
    threshold: float | None
    gamma_min: Annotated[float | None, LATER] = None
    """Where the rule reads one."""
    cache: CacheName
    gen_length: int
    block_length: int
    stop_at_end: bool
    batch_size: Annotated[int, OPERATIONAL]
    student: StudentConfig
    """Without its template: prompts come as tokens."""


class RoundPrompts(Section):
    """Which prompts a round takes: the next ones of a stream of all, shuffled again each time it ends."""

    seed: int
    round: int
    count: int


class RolloutsSettings(Decoding):
    """All that the rollouts of a student read."""

    sampling: SamplingConfig
    """Of the samples, with what temperature 0 does not read at its default."""
    temperatures: tuple[float, ...]
    """One per answer."""
    limit: int | None
    prompts: Annotated[RoundPrompts | None, LATER] = None
    """None: all up to the limit, in their order."""
    grader: Annotated[str | None, OPERATIONAL]
    """Looked at before anything is decoded, so that a name that is wrong costs nothing."""
    rewards: Annotated[tuple[str, ...], OPERATIONAL] = ()
    """Likewise."""


class UnitSettings(Decoding):
    """All that decoding one answer to each of some prompts reads."""

    sampling: SamplingConfig
    """At its own temperature."""
    rollout: int
    """The answer's number, by which noise is drawn."""


def settings(config: TrimsConfig, node: Node) -> RolloutsSettings:
    """From the sections student and rollouts; of a round, from its variant's.

    Raises:
        ConfigError: the student is a local one that the exact cache is not defined for.
    """
    chosen, prompts = rollouts_of(config, node), None
    sampling = _read_by_some(chosen)
    if "round" in node.params:
        seed, number = int(node.params["seed"]), int(node.params["round"])
        prompts = RoundPrompts(seed=seed, round=number, count=round_variant(config, node).prompts)
        sampling = sampling.model_copy(update={"seed": draw_seed(seed, number, "rollouts", "round")})
    if chosen.cache == "exact":
        check_exact_cache(config.student.model, "rollouts")
    rule = None if chosen.threshold is None else chosen.rule
    return RolloutsSettings(
        rule=rule,
        threshold=chosen.threshold,
        gamma_min=None if rule not in READS_GAMMA else chosen.gamma_min,
        cache=chosen.cache,
        gen_length=chosen.gen_length,
        block_length=chosen.read_block_length,
        stop_at_end=chosen.stop_at_end,
        batch_size=chosen.batch_size,
        student=config.student.without_template(),
        sampling=sampling,
        temperatures=chosen.temperatures,
        limit=chosen.limit,
        prompts=prompts,
        grader=chosen.grader,
        rewards=tuple(chosen.rewards or ()),
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
