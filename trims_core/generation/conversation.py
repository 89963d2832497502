"""Several turns with a student, its history rendered by the student's own template. Imports no torch."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from trims_core.chat_template import Message
from trims_core.generation.options import GenerateOptions

if TYPE_CHECKING:
    from trims_core.decoding.engine import Watch
    from trims_core.generation.assistant import Answer, Assistant


class Conversation:
    """What was said so far; a turn that fails or is interrupted leaves it as it was."""

    def __init__(
        self, assistant: Assistant, options: GenerateOptions | None = None, system: str | None = None
    ) -> None:
        self.assistant = assistant
        self.options = options or GenerateOptions()
        self.system = system
        self.messages: list[Message] = []
        self.answers: list[Answer] = []
        self.reset()

    def reset(self) -> None:
        """Forget every turn; the system prompt stays."""
        self.messages = [] if self.system is None else [{"role": "system", "content": self.system}]
        self.answers = []

    def ask(self, text: str, watch: Watch | None = None) -> Answer:
        """The student's next turn.

        Raises:
            ConfigError: the conversation does not fit the context any more, or options that are undefined.
        """
        asked = [*self.messages, {"role": "user", "content": text}]
        options = replace(self.options, seed=self.options.seed + len(self.answers))
        answer = self.assistant.answers([asked], options, watch)[0]
        self.messages = [*asked, {"role": "assistant", "content": answer.text}]
        self.answers.append(answer)
        return answer
