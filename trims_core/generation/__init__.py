"""Answers from a student: options by name, conversations, text. Importing this imports no torch."""

from typing import TYPE_CHECKING, Any

from trims_core.generation.options import GenerateOptions

if TYPE_CHECKING:
    from trims_core.generation.assistant import Answer, Assistant
    from trims_core.generation.conversation import Conversation

__all__ = ["Answer", "Assistant", "Conversation", "GenerateOptions"]

_LAZY = {"Answer": "assistant", "Assistant": "assistant", "Conversation": "conversation"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
