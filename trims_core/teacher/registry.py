"""The teacher a config names."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import cast

from trims_core.config import ScoresConfig
from trims_core.errors import ConfigError
from trims_core.teacher.identity import split_class_path
from trims_core.teacher.limits import Limits
from trims_core.teacher.protocol import Teacher


def make_teacher(config: ScoresConfig, limits: Limits, scratch: Path) -> Teacher:
    """A teacher that has not been started. `scratch` is where it may leave logs.

    Raises:
        ConfigError: unknown name, or options it does not take.
    """
    if config.teacher == "vllm":
        from trims_core.teacher.vllm_teacher import VllmTeacher

        return VllmTeacher(config, limits, scratch)
    if config.teacher == "transformers":
        if config.options:
            raise ConfigError(
                f"scores.options: teacher transformers takes none; remove {', '.join(sorted(config.options))}"
            )
        from trims_core.teacher.transformers_teacher import TransformersTeacher

        return TransformersTeacher(config)
    return _users_teacher(config)


def _users_teacher(config: ScoresConfig) -> Teacher:
    module_name, class_name = split_class_path(config.teacher)
    try:
        made = getattr(importlib.import_module(module_name), class_name)(config, **config.options)
    except (ImportError, AttributeError, TypeError) as error:
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
