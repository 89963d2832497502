"""Profiles: everything a benchmark's number depends on beside the weights, by name (`gsm8k@d3llm-cot0`).

A profile is a YAML file, in `benchmarks/profiles/` or of the user's own: the words put to the student, how
its answer is decoded, and who judges it. Placeholders such as `{{question}}` stand for what a problem brings
(its facts); all other braces are text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from trims_core.decoding_sections import SamplingConfig, undefined_pairs
from trims_core.errors import ConfigError, nearest_name
from trims_core.paths import path_given
from trims_core.points import CacheName
from trims_core.sections import BY_DIGEST, OPERATIONAL, Section, as_tuple
from trims_core.text_files import text_of
from trims_core.yaml_text import yaml_of

FOLDER: Final = Path(__file__).with_name("benchmarks") / "profiles"
_SUFFIXES: Final = (".yaml", ".yml")
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
    """What the student's answer has already begun with; it is shown to the student and is not graded."""

    @property
    def placeholders(self) -> tuple[str, ...]:
        """What a problem's facts have to fill, each once."""
        return tuple(dict.fromkeys(_PLACEHOLDER.findall(self.question + self.answer_prefix)))

    def prefix(self, facts: Mapping[str, str], place: str) -> str:
        """What the answer to a problem has already begun with. Raises: ConfigError, as `messages`."""
        return _filled(self.answer_prefix, facts, place)

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
    skip: Annotated[int, Field(ge=0)] = 0
    """The first so many rows are not asked, since the prompt shows them as examples."""
    gen_length: Annotated[int, Field(ge=1)]
    block_length: Annotated[int, Field(ge=1)]
    stop_strings: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(as_tuple)] = ()
    sampling: SamplingConfig = SamplingConfig()
    stop_at_end: bool = True
    """A sequence is finished once an end token and everything before it are revealed."""
    cache: Annotated[CacheName, OPERATIONAL] = "none"
    """That of the published numbers; the sweep's own is what counts, and another one is told."""
    decoded: Annotated[str | None, OPERATIONAL] = None
    """By which rules and with how many forwards its numbers are published; a sweep sets its own."""
    graders: Annotated[tuple[str, ...], BeforeValidator(as_tuple), Field(min_length=1), BY_DIGEST]
    """Who judges, the one that tables name first; in keys of grades by name and version."""
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


def get_profile(name: str) -> Profile:
    """The profile of this name, or in this YAML file: what holds a `/` or ends in `.yaml` is a path.

    Raises:
        ConfigError: there is none, or its file is wrong.
    """
    if "/" in name or name.endswith(_SUFFIXES):
        expected = "a profile's YAML file, or one of the names of `trims benchmarks`"
        return _profile_in(text_of(Path(path_given(name, "profile")), expected), name)
    if name not in profile_names():
        raise ConfigError(f"profile {name!r} is not known; {nearest_name(name, profile_names())}")
    profile = _profile_in((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"), name)
    if not name.startswith(profile.benchmark):
        raise ConfigError(f"profile {name}: its benchmark is {profile.benchmark}; expected that of its name")
    return profile


@lru_cache
def _profile_in(text: str, name: str) -> Profile:
    """The profile that a YAML text says. Raises: ConfigError with every wrong key."""
    raw = yaml_of(text, f"profile {name}")
    if not isinstance(raw, dict):
        raise ConfigError(
            f"profile {name}: expected keys such as benchmark and prompt, found {type(raw).__name__}"
        )
    try:
        return Profile.model_validate(raw)
    except ValidationError as error:
        wrong = "; ".join(_explain(problem) for problem in error.errors())
        raise ConfigError(f"profile {name}: {wrong} (docs/evaluation.md lists the keys)") from error


def _explain(problem: ErrorDetails) -> str:
    place = ".".join(map(str, problem["loc"])) or "the whole"
    if problem["type"] != "extra_forbidden":
        return f"{place}: {problem['msg']}"
    inside: dict[object, type[Section]] = {"prompt": PromptText, "sampling": SamplingConfig}
    *outer, key = problem["loc"]
    section = inside.get(outer[0], Profile) if outer else Profile
    return f"{place}: not a key; {nearest_name(str(key), section.model_fields)}"


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
