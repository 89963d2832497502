"""The teacher a config names, and its tokenizer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from trims_core.config import ScoresConfig, is_secret
from trims_core.errors import ConfigError
from trims_core.teacher.identity import BUILT_IN
from trims_core.teacher.limits import Limits
from trims_core.teacher.protocol import Teacher
from trims_core.user_code import load

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_WITHOUT_OPTIONS: Final = ("transformers", "student", "unigram")


def make_teacher(config: ScoresConfig, limits: Limits, scratch: Path) -> Teacher:
    """A teacher that has not been started. `scratch` is where it may leave logs.

    Raises:
        ConfigError: unknown name, options it does not take, or a secret that the environment lacks.
    """
    config = _with_secrets(config)
    if config.teacher == "vllm":
        from trims_core.teacher.vllm_teacher import VllmTeacher

        return VllmTeacher(config, limits, scratch)
    if config.teacher in _WITHOUT_OPTIONS:
        if config.options:
            raise ConfigError(
                f"scores.options: teacher {config.teacher} takes none;"
                f" remove {', '.join(sorted(config.options))}"
            )
        return _teacher_without_options(config)
    return _users_teacher(config)


def make_tokenizer(config: ScoresConfig) -> PreTrainedTokenizerFast:
    """The tokenizer whose tokens are scored: the checkpoint's own; for teacher student with the template of
    its family, as in training and decoding.

    Raises:
        ConfigError: no tokenizer there, or for teacher student no masked diffusion checkpoint.
    """
    if config.teacher == "student":
        from trims_core.students import load_student_tokenizer

        try:
            return load_student_tokenizer(config.model, config.revision)[0]
        except ConfigError as error:
            raise ConfigError(
                f"scores.model: teacher student needs a masked diffusion checkpoint, usually that of"
                f" student.model; {error}"
            ) from error
    from trims_core.rendering import load_tokenizer

    return load_tokenizer(config.model, config.revision)


def _with_secrets(config: ScoresConfig) -> ScoresConfig:
    """The settings with {env: NAME} replaced by what the environment holds; they go to the teacher only."""
    options = dict(config.options)
    for name, value in options.items():
        if is_secret(value):
            if value["env"] not in os.environ:
                raise ConfigError(
                    f"scores.options.{name}: the environment variable {value['env']} is not set; set it for"
                    " this command"
                )
            options[name] = os.environ[value["env"]]
    return config.model_copy(update={"options": options})


def observes_corpus(config: ScoresConfig) -> bool:
    """Whether the teacher is shown the whole corpus first, so that its scores depend on all of it."""
    if config.teacher in BUILT_IN:
        return config.teacher == "unigram"
    return hasattr(load(config.teacher, "scores.teacher"), "observe")


def _teacher_without_options(config: ScoresConfig) -> Teacher:
    if config.teacher == "unigram":
        from trims_core.teacher.unigram_teacher import UnigramTeacher

        return UnigramTeacher()
    if config.teacher == "student":
        from trims_core.teacher.student_teacher import StudentTeacher

        return StudentTeacher(config)
    from trims_core.teacher.transformers_teacher import TransformersTeacher

    return TransformersTeacher(config)


def _users_teacher(config: ScoresConfig) -> Teacher:
    teacher = load(config.teacher, "scores.teacher")
    try:
        made = teacher(config, **config.options)
    except TypeError as error:
        raise ConfigError(
            f"scores.teacher: {config.teacher} cannot be made ({type(error).__name__}: {error});"
            f" expected a class that takes (config, **options), here with options {sorted(config.options)}"
        ) from error
    missing = [name for name in ("start", "score", "close") if not callable(getattr(made, name, None))]
    if missing:
        raise ConfigError(
            f"scores.teacher: {config.teacher} has no method {missing[0]}(); see teacher/protocol.py"
        )
    return cast(Teacher, made)
