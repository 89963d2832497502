"""Who the teacher is: enough to tell whether scores made earlier are still its scores. Loads no model."""

from __future__ import annotations

import importlib.util
from typing import Final

from trims_core.config import ScoresConfig
from trims_core.errors import ConfigError
from trims_core.fingerprint import Digests, Json

BUILT_IN: Final = ("vllm", "transformers", "student", "unigram")


def teacher_identity(config: ScoresConfig, digests: Digests) -> dict[str, str]:
    """Kind, checkpoint and tokenizer (digest of local files or hub commit), and code of a user's class.

    Raises:
        ConfigError: the model or the user's module does not exist, or the hub cannot be reached.
    """
    identity = {
        "teacher": config.teacher,
        "checkpoint": digests.checkpoint(config.model, config.revision),
        "tokenizer": digests.tokenizer(config.model, config.revision),
    }
    if config.teacher not in BUILT_IN:
        identity["code"] = digests.file(_source_file(config.teacher))
    return identity


def result_settings(config: ScoresConfig) -> dict[str, Json]:
    """The settings that change scores; the model itself counts by identity, wherever it lies."""
    fields = config.result_fields()
    return {name: fields[name] for name in fields if name not in ("model", "revision")}


def split_class_path(teacher: str) -> tuple[str, str]:
    """Module and class of `package.module:Class`. Raises: ConfigError for any other word."""
    module, colon, name = teacher.partition(":")
    if not (module and colon and name.isidentifier()):
        known = ", ".join(BUILT_IN)
        raise ConfigError(f"scores.teacher: {teacher!r}; expected {known} or your own package.module:Class")
    return module, name


def _source_file(teacher: str) -> str:
    module, _ = split_class_path(teacher)
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError as error:
        raise ConfigError(f"scores.teacher: {teacher}: {error}; is it installed or on PYTHONPATH?") from error
    if spec is None or spec.origin is None:
        raise ConfigError(f"scores.teacher: no module {module!r}; is it installed or on PYTHONPATH?")
    return spec.origin
