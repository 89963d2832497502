"""Who the teacher is: enough to tell whether scores made earlier are still its scores. Loads no model."""

from __future__ import annotations

from typing import Final

from trims_core.chat_template import template_inputs
from trims_core.config import ScoresConfig
from trims_core.fingerprint import Digests
from trims_core.user_code import source_digest

BUILT_IN: Final = ("vllm", "transformers", "student", "unigram")


def teacher_identity(config: ScoresConfig, digests: Digests) -> dict[str, str]:
    """Kind, digests of checkpoint, tokenizer and template file, and of the code of a user's class.

    Raises:
        ConfigError: the model or the user's module does not exist, or the hub cannot be reached.
    """
    identity = {
        "teacher": config.teacher,
        "checkpoint": digests.checkpoint(config.model, config.revision),
        "tokenizer": digests.tokenizer(config.model, config.revision),
        **template_inputs(config, digests),
    }
    if config.teacher not in BUILT_IN:
        identity["code"] = source_digest(config.teacher, "scores.teacher", digests, ", ".join(BUILT_IN))
    return identity
