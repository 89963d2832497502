"""Settings of evaluation: the problems, how they are asked and decoded, and at which points."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final, NamedTuple, Self

from pydantic import BeforeValidator, Field, model_validator

from trims_core.decoding_sections import SamplingConfig, undefined_pairs
from trims_core.points import MEANINGS, CacheName, RuleName
from trims_core.profiles import Profile, get_profile
from trims_core.sections import BY_DIGEST, LATER, OPERATIONAL, Fraction, Name, Paths, Section, as_tuple

StopStrings = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(as_tuple)]


class TaskDecoding(NamedTuple):
    """What a task says of its decoding, after its profile and the sweep were asked."""

    gen_length: int
    block_length: int
    stop_strings: tuple[str, ...]
    sampling: SamplingConfig
    stop_at_end: bool


BY_TASK: Final = TaskDecoding._fields


class TaskConfig(Section):
    """One benchmark: its problems, how they are asked, decoded and graded.

    What is set here wins over the profile, and is told beside every number; the profile wins over the sweep.
    """

    profile: Annotated[str | None, LATER] = None
    """A named protocol (`trims benchmarks` lists them), in place of `benchmark`."""
    benchmark: str | None = None
    """What kind of rows (`gsm8k`; `qa` for any with a question and an answer), asked as they stand; in place
    of `profile`."""
    path: Annotated[Paths | None, BY_DIGEST] = None
    hub: Annotated[str | None, BY_DIGEST] = None
    hub_config: Annotated[str | None, BY_DIGEST] = None
    split: Annotated[str, BY_DIGEST] = "test"
    revision: Annotated[str | None, BY_DIGEST] = None
    limit: Annotated[int, Field(ge=1)] | None = None
    """The first so many problems; default: all."""
    graders: Annotated[tuple[str, ...] | None, Field(min_length=1), BeforeValidator(as_tuple), BY_DIGEST] = (
        None
    )
    """Who judges, the one that tables name first (docs/evaluation.md); default: the profile's, or the
    benchmark's. They enter the keys of grades by name and version: naming others decodes nothing."""
    question: Annotated[str | None, LATER] = None
    """The column of the question; read with benchmark: qa (default: question)."""
    answer: Annotated[str | None, LATER] = None
    """The column of the answer; read with benchmark: qa (default: answer)."""
    gen_length: Annotated[Annotated[int, Field(ge=1)] | None, LATER] = None
    block_length: Annotated[Annotated[int, Field(ge=1)] | None, LATER] = None
    stop_strings: Annotated[StopStrings | None, LATER] = None
    sampling: Annotated[SamplingConfig | None, LATER] = None
    stop_at_end: Annotated[bool | None, LATER] = None

    @property
    def protocol(self) -> Profile | None:
        """The profile. Raises: ConfigError: there is none of this name."""
        return None if self.profile is None else get_profile(self.profile)

    @property
    def benchmark_name(self) -> str:
        """That of the profile, or its own."""
        return self.benchmark or get_profile(str(self.profile)).benchmark

    @model_validator(mode="after")
    def _one_protocol(self) -> Self:
        if (self.profile is None) == (self.benchmark is None):
            both = "both are set" if self.profile else "neither is set"
            raise ValueError(
                f"profile and benchmark: {both}; set one, such as profile: gsm8k@d3llm-cot0, or benchmark:"
                " gsm8k"
            )
        from trims_core.benchmarks.tasks import problems_with

        if problems := problems_with(self):
            raise ValueError("; ".join(problems))
        return self


class SweepConfig(Section):
    """Decoding at several thresholds; a point with one token per forward is always added."""

    tasks: dict[Name, TaskConfig] = Field(min_length=1)
    rule: RuleName = "threshold"
    """The reveal rule that `thresholds` belong to: a confidence (threshold, pipelined, dream_official), a
    factor (factor, factor_compat), an entropy in nats (entropy, multi_block), or a number of forwards (steps,
    eoser, ass, eoser_ass; the last two take ⌊log2 gen_length⌋ and no other)."""
    thresholds: Annotated[tuple[float, ...], BeforeValidator(as_tuple), Field(min_length=1)] = (
        0.9,
        0.8,
        0.7,
        0.6,
        0.5,
    )
    multi_block_add: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Revealed share of the newest block from which on the next is worked on; read with rule: multi_block."""
    dream_steps: Annotated[int, Field(ge=1)] | None = None
    """gen_length / dream_steps is the quota per forward (default: 32, as published); read with rule:
    dream_official and cache: none."""
    pipeline_add: Annotated[float, Field(gt=0, le=1)] = 0.7
    """The same for rule: pipelined; a program's published values go by task, 0.1 to 0.9."""
    pipeline_activate: Annotated[float, Field(ge=0, le=1)] = 0.95
    """Revealed share of a block from which on the next reveals at least one position per forward; read with
    rule: pipelined."""
    gamma_min: Annotated[Fraction | None, LATER] = None
    """What the confidence of end tokens is first multiplied by (default: as published for decoding, 0.4 with
    eoser, 0.01 with eoser_ass); read with these."""
    cache: CacheName = "none"
    """Keys and values kept between forwards: none (exact), those before the block (prefix), or on both sides
    of it (dual), which both approximate, or all that is final (exact: for block-causal students alone, which
    method d2f trains). All methods are compared with this one."""
    compare_caches: Annotated[tuple[CacheName, ...], BeforeValidator(as_tuple)] = ()
    """Further caches with which the untuned student alone is swept, for the report's grid."""
    sampling: SamplingConfig = SamplingConfig()
    stop_strings: StopStrings = ()
    """An answer ends before the first of them."""
    gen_length: Annotated[int, Field(ge=1)] = 256
    block_length: Annotated[int, Field(ge=1)] = 32
    stop_at_end: bool = True
    """A sequence is finished once an end token and everything before it are revealed."""
    untuned: bool = True
    """Sweep the student as it was before training too."""
    batch_size: Annotated[int, Field(ge=1), OPERATIONAL] = 16
    check_problems: Annotated[int, Field(ge=0, le=200), LATER] = 0
    """The first so many problems of each task are decoded once more, one at a time, at the first threshold:
    how many answers batching changes, and the latency of one."""

    unsafe_no_sandbox: Annotated[bool, OPERATIONAL] = False
    """Programs that a student wrote run as you, with your files and your network, and every number says so;
    read by HumanEval and MBPP."""

    def decoding(self, task: str) -> TaskDecoding:
        """How a task is decoded: by itself, its profile, or what all tasks have in common."""
        chosen = self.tasks[task]

        def said(name: str) -> Any:
            found = getattr(chosen, name)
            return getattr(chosen.protocol or self, name) if found is None else found

        return TaskDecoding(*map(said, BY_TASK))

    def departures(self, task: str) -> dict[str, str]:
        """Where a task's numbers are not its profile's, by setting: `gen_length 64 (profile: 256)`."""
        chosen = self.tasks[task]
        protocol = chosen.protocol
        if protocol is None:
            return {}
        found = {**self.decoding(task)._asdict(), "cache": self.cache}
        if chosen.graders:
            found["graders"] = chosen.graders
        texts = {
            name: f"{name} {_shown(value)} (profile: {_shown(getattr(protocol, name))})"
            for name, value in found.items()
            if value != getattr(protocol, name)
        }
        n = chosen.limit
        if n is not None and n < protocol.n_samples:
            texts["limit"] = f"the first {n} problems (profile: {protocol.n_samples})"
        return texts

    def caches(self, *, tuned: bool) -> tuple[CacheName, ...]:
        """The caches a model is swept with, each once, `cache` first."""
        return (self.cache,) if tuned else tuple(dict.fromkeys((self.cache, *self.compare_caches)))

    @model_validator(mode="after")
    def _defined(self) -> Self:
        caches = self.caches(tuned=False)
        wrong = self._wrong_thresholds()
        points = () if wrong else self.thresholds
        common = TaskDecoding(*(getattr(self, name) for name in BY_TASK))
        decodings = [common, *map(self.decoding, self.tasks)]
        undefined = dict.fromkeys(
            text
            for one in decodings
            for text in undefined_pairs(
                self.rule, points, caches, one.sampling, one.gen_length, one.block_length
            )
        )
        problems = [*wrong, *undefined, *self._unread()]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _unread(self) -> Iterator[str]:
        """What is set for all tasks and a profile decides."""
        for task, chosen in self.tasks.items():
            if chosen.profile is None:
                continue
            for name in BY_TASK:
                is_set = getattr(self, name) != type(self).model_fields[name].default
                if is_set and getattr(chosen, name) is None:
                    yield (
                        f"{name} with task {task}: its profile {chosen.profile} says how it is decoded; set"
                        f" tasks.{task}.{name} to depart from it, or leave {name} out"
                    )

    def _wrong_thresholds(self) -> list[str]:
        meaning = MEANINGS[self.rule]
        if self.rule != "threshold" and "thresholds" not in self.model_fields_set:
            return [f"rule {self.rule} without thresholds: set them, the default ones are rule threshold's"]
        wrong = [f"{value:g}" for value in self.thresholds if not meaning.holds(value)]
        if wrong:
            return [f"thresholds {', '.join(wrong)} with rule {self.rule}: expected {meaning.expected}"]
        return []


def _shown(value: object) -> str:
    if isinstance(value, SamplingConfig):
        default = SamplingConfig()
        given = {name: getattr(value, name) for name in sorted(SamplingConfig.model_fields)}
        changed = [f"{name} {one}" for name, one in given.items() if one != getattr(default, name)]
        return ", ".join(changed) or "temperature 0"
    if isinstance(value, tuple):
        return ", ".join(map(repr, value)) or "none"
    return str(value)
