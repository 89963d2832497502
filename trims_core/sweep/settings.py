"""What a model's sweep may read, and of that what decoding one cell reads: keys are made of these alone."""

from __future__ import annotations

from typing import Annotated, Any

from trims_core.block_causal import check_exact_cache
from trims_core.config import StudentConfig, TrimsConfig
from trims_core.decoding_sections import SamplingConfig
from trims_core.generation.named_rules import RULES
from trims_core.graph import Node
from trims_core.points import NO_BLOCKS, READS_GAMMA, WITHOUT_ERROR, CacheName, RuleName
from trims_core.profiles import Profile
from trims_core.sections import LATER, OPERATIONAL, Name, Section
from trims_core.students.merging import MERGE_RULE
from trims_core.sweep_sections import SweepConfig, TaskConfig, TaskDecoding


class Decoding(Section):
    """What all cells of a model have in common. What the rule or the sampling does not read is not there."""

    sampling: SamplingConfig
    """At temperature 0 with the default seed and confidence."""
    stop_strings: tuple[str, ...]
    gen_length: int
    block_length: int
    stop_at_end: bool
    batch_size: Annotated[int, OPERATIONAL]
    student: StudentConfig
    system_prompt: str | None
    merge_rule: int | None = None
    """By which version of the rule an adapter is merged; None where there is none, or sums are in float32."""

    def result_fields(self) -> dict[str, Any]:
        """Without a rule that is not used."""
        fields = super().result_fields()
        return {name: fields[name] for name in fields if name != "merge_rule" or fields[name] is not None}


class SweepSettings(Decoding):
    """All that the sweep of one model reads."""

    tasks: dict[Name, TaskConfig]
    profiles: Annotated[dict[Name, Profile] | None, LATER] = None
    """Of the tasks that have one, as it stands: a changed one decodes again."""
    decodings: Annotated[dict[Name, TaskDecoding], OPERATIONAL]
    """Of every task; what they are made from stands in the tasks, their profiles and here."""
    rule: RuleName
    thresholds: tuple[float, ...]
    """Each once."""
    caches: tuple[CacheName, ...]
    """Each once, the main one first."""
    multi_block_add: float | None = None
    dream_steps: int | None = None
    pipeline_add: Annotated[float | None, LATER] = None
    pipeline_activate: Annotated[float | None, LATER] = None
    gamma_min: Annotated[float | None, LATER] = None
    check_problems: Annotated[int, LATER] = 0


class CellSettings(Decoding):
    """All that decoding a cell's prompts reads: not the task's name, not the other cells."""

    cache: CacheName
    rule: RuleName | None = None
    """None: one token per forward, whatever the other cells' rule."""
    threshold: float | None = None
    multi_block_add: float | None = None
    dream_steps: int | None = None
    pipeline_add: Annotated[float | None, LATER] = None
    pipeline_activate: Annotated[float | None, LATER] = None
    gamma_min: Annotated[float | None, LATER] = None
    first_number: int = 0
    """The first prompt's number, by which noise is drawn; 0 where none is."""
    alone: Annotated[bool, LATER] = False
    """Decoded one at a time, on one thread: a check."""


def settings(config: TrimsConfig, node: Node) -> SweepSettings:
    """Of a node: the untuned student is swept with further caches.

    Raises:
        ConfigError: the untuned student is a local one that the exact cache is not defined for.
    """
    tuned = node.params["variant"] is not None
    adapted = tuned and config.train.lora is not None
    if not tuned and "exact" in config.sweep.caches(tuned=False):
        check_exact_cache(config.student.model, "sweep (untuned: true)")
    return sweep_settings(
        config.sweep, config.student, config.corpus.system_prompt, tuned=tuned, adapted=adapted
    )


def sweep_settings(
    sweep: SweepConfig,
    student: StudentConfig,
    system_prompt: str | None,
    *,
    tuned: bool,
    adapted: bool | None = None,
) -> SweepSettings:
    """The settings of a tuned student's sweep, or of the untuned one's.

    Args:
        adapted: whether it has an adapter; default: if it is tuned.
    """
    adapted = tuned if adapted is None else adapted
    return SweepSettings(
        tasks=sweep.tasks,
        profiles={name: found for name, task in sweep.tasks.items() if (found := task.protocol)} or None,
        decodings={name: sweep.decoding(name) for name in sweep.tasks},
        rule=sweep.rule,
        thresholds=tuple(dict.fromkeys(sweep.thresholds)),
        caches=sweep.caches(tuned=tuned),
        multi_block_add=sweep.multi_block_add if sweep.rule == "multi_block" else None,
        dream_steps=sweep.dream_steps if sweep.rule == "dream_official" else None,
        pipeline_add=sweep.pipeline_add if sweep.rule == "pipelined" else None,
        pipeline_activate=sweep.pipeline_activate if sweep.rule == "pipelined" else None,
        gamma_min=_gamma_min(sweep),
        sampling=sweep.sampling.as_read(),
        stop_strings=sweep.stop_strings,
        gen_length=sweep.gen_length,
        block_length=sweep.block_length,
        stop_at_end=sweep.stop_at_end,
        batch_size=sweep.batch_size,
        check_problems=sweep.check_problems,
        student=student,
        system_prompt=system_prompt,
        merge_rule=MERGE_RULE if adapted and student.dtype != "float32" else None,
    )


def _gamma_min(sweep: SweepConfig) -> float | None:
    """The one that is read, the published one where none is set."""
    if sweep.rule not in READS_GAMMA:
        return None
    return RULES[sweep.rule].reads["gamma_min"] if sweep.gamma_min is None else sweep.gamma_min


def cell_settings(
    chosen: SweepSettings, task: str, cache: CacheName, threshold: float | None, first_number: int = 0
) -> CellSettings:
    """Of a cell's prompts from some number on. A threshold of None is the point with one token per forward,
    which no rule's settings touch."""
    common = {name: getattr(chosen, name) for name in Decoding.model_fields}
    common |= chosen.decodings[task]._asdict()
    common["sampling"] = common["sampling"].as_read()
    if task in (chosen.profiles or ()):
        common["system_prompt"] = None  # the profile's stands in its messages
    if common["sampling"].temperature > 0:
        common["first_number"] = first_number
    if threshold is not None:
        of_rule = ("rule", "multi_block_add", "pipeline_add", "pipeline_activate", "gamma_min")
        common |= {"threshold": threshold, **{name: getattr(chosen, name) for name in of_rule}}
        # the quota of the published loop does not hold with what only approximates
        common["dream_steps"] = chosen.dream_steps if cache in WITHOUT_ERROR else None
        if chosen.rule in NO_BLOCKS:
            common["block_length"] = common["gen_length"]
    return CellSettings(cache=cache, **common)
