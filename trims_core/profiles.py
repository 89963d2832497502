"""Profiles: everything a benchmark's number depends on beside the weights, by name (`gsm8k@d3llm-cot0`).

A profile is a YAML file in `benchmarks/profiles/`: the words put to the student, how its answer is decoded,
and who judges it. Placeholders such as `{{question}}` stand for what a problem brings (its facts); all other
braces are text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from trims_core.decoding_sections import SamplingConfig, undefined_pairs
from trims_core.errors import ConfigError, nearest_name
from trims_core.points import CacheName
from trims_core.sections import OPERATIONAL, Section, as_tuple
from trims_core.yaml_text import yaml_of

FOLDER: Final = Path(__file__).with_name("benchmarks") / "profiles"
_PLACEHOLDER: Final = re.compile(r"\{\{(\w+)\}\}")

Messages = tuple[dict[str, str], ...]


class PromptText(Section):
    """The words put to the student."""

    chat: bool = True
    """A conversation in the student's chat template; else plain text, which the answer goes on."""
    system: str | None = None
    before: str = ""
    """In front of the first example or question."""
    question: str
    """How a problem is asked, its examples alike."""
    answer: str = ""
    """How an example is answered."""
    delimiter: str = " "
    """Between an example's question and its answer; read with shots_as: text."""
    between: str = "\n\n"
    """Between examples, and before the question; read with shots_as: text."""
    shots: tuple[dict[str, str], ...] = ()
    """The facts of each example."""
    shots_as: Literal["text", "turns"] = "text"
    """Examples stand in front of the question, or are earlier turns of the conversation."""
    answer_prefix: str = ""
    """What the student's answer has already begun with."""

    def messages(self, facts: Mapping[str, str], place: str) -> Messages:
        """The conversation that a problem is asked in; without `chat` its one message is the whole text.

        Raises:
            ConfigError: a placeholder that the facts do not fill; names it and `place`.
        """
        asked = _filled(self.question, facts, place)
        pairs = [
            (_filled(self.question, shot, place), _filled(self.answer, shot, place)) for shot in self.shots
        ]
        start = () if self.system is None else ({"role": "system", "content": self.system},)
        if self.shots_as == "text":
            examples = [f"{question}{self.delimiter}{answer}" for question, answer in pairs]
            text = self.before + self.between.join([*examples, asked])
            return (*start, {"role": "user", "content": text})
        questions = [question for question, _ in pairs] + [asked]
        turns = [{"role": "user", "content": self.before + questions[0]}]
        for (_, answer), following in zip(pairs, questions[1:], strict=True):
            turns += [{"role": "assistant", "content": answer}, {"role": "user", "content": following}]
        return (*start, *turns)

    @model_validator(mode="after")
    def _defined(self) -> Self:
        if not self.chat and (self.system is not None or self.shots_as == "turns"):
            raise ValueError("chat: false with a system prompt or turns: plain text has neither")
        if self.shots and not self.answer:
            raise ValueError("shots without answer: say how an example is answered")
        return self


class Profile(Section):
    """One protocol of one benchmark."""

    benchmark: str
    """Whose rows, and of what kind."""
    source: Annotated[str, Field(min_length=1), OPERATIONAL]
    """The program and file that the protocol is stated in, its version and licence."""
    unknown: Annotated[str | None, OPERATIONAL] = None
    """Which part of the published protocol is not known, or not followed."""
    prompt: PromptText
    gen_length: Annotated[int, Field(ge=1)]
    block_length: Annotated[int, Field(ge=1)]
    stop_strings: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(as_tuple)] = ()
    sampling: SamplingConfig = SamplingConfig()
    stop_at_end: bool = True
    """A sequence is finished once an end token and everything before it are revealed."""
    cache: Annotated[CacheName, OPERATIONAL] = "none"
    """That of the published numbers; the sweep's own is what counts, and another one is told."""
    graders: Annotated[tuple[str, ...], BeforeValidator(as_tuple), Field(min_length=1)]
    """Who judges, the one that tables name first."""
    samples: Annotated[str, OPERATIONAL]
    """The problems that numbers are published on: split and how many."""
    n_samples: Annotated[int, Field(ge=1), OPERATIONAL]

    @model_validator(mode="after")
    def _defined(self) -> Self:
        problems = [*undefined_pairs(None, (), (), self.sampling, self.gen_length, self.block_length)]
        if problems:
            raise ValueError("; ".join(problems))
        return self


@lru_cache
def profile_names() -> tuple[str, ...]:
    """All that there are, `benchmark@profile`, by name."""
    return tuple(sorted(path.stem for path in FOLDER.iterdir() if path.suffix == ".yaml"))


@lru_cache
def get_profile(name: str) -> Profile:
    """The profile of this name.

    Raises:
        ConfigError: there is none, or its file is wrong.
    """
    if name not in profile_names():
        raise ConfigError(f"profile {name!r} is not known; {nearest_name(name, profile_names())}")
    path = FOLDER / f"{name}.yaml"
    try:
        profile = Profile.model_validate(yaml_of(path.read_text(encoding="utf-8"), path.name))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ConfigError(f"profile {name}, {place or 'the whole'}: {first['msg']}") from error
    if profile.benchmark != name.partition("@")[0] and not name.startswith(f"{profile.benchmark}"):
        raise ConfigError(f"profile {name}: its benchmark is {profile.benchmark}; expected that of its name")
    return profile


def _filled(template: str, facts: Mapping[str, str], place: str) -> str:
    """The text with its placeholders filled."""

    def fact(found: re.Match[str]) -> str:
        name = found.group(1)
        if name not in facts:
            raise ConfigError(
                f"{place}: nothing fills {{{{{name}}}}}; there are {', '.join(facts) or 'none'}"
            )
        return facts[name]

    return _PLACEHOLDER.sub(fact, template)
