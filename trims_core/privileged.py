"""Conversations in which the right answer stands: what a privileged teacher reads.

Source: the protocol of TAD (arXiv 2605.09536; program at 5e2aaf8). Facts of it: the answer follows the words
`Reference Answer: ` in a system message, behind a blank line where there is such a message already. As
released the teacher is given an empty answer, and the student's own question has the solution behind it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal

Message = Mapping[str, str]
Privilege = Literal["reference", "solution", "empty-reference"]
"""reference: a system message has the answer. solution: the question has it. empty-reference: the question
has it, and a system message should have it and does not."""
_WORDS: Final = "Reference Answer: "


def privileged(
    privilege: Privilege, messages: Sequence[Message], answer: str, own_system: str
) -> list[Message]:
    """The conversation with the answer put into it.

    Args:
        own_system: what the chat template says as system where a conversation does not.
    """
    if privilege == "reference":
        return _with_reference(messages, answer, own_system)
    asked = [*messages[:-1], _followed(messages[-1], f"\n{_WORDS}{answer}")]
    return asked if privilege == "solution" else _with_reference(asked, "", own_system)


def shows(privilege: Privilege, text: str, answer: str) -> bool:
    """Whether the answer got into a rendered prompt: templates may drop a message, or alter its text."""
    words = _WORDS.strip()
    if privilege == "empty-reference":
        return text.count(words) >= 2 and answer in text
    return f"{_WORDS}{answer}" in text


def _with_reference(messages: Sequence[Message], answer: str, own_system: str) -> list[Message]:
    """Behind the first system message's text; in one of its own in front where there is none."""
    place = next((at for at, message in enumerate(messages) if message["role"] == "system"), None)
    if place is None:
        return _with_reference([{"role": "system", "content": own_system}, *messages], answer, own_system)
    gap = "\n\n" if messages[place]["content"] else ""
    told = _followed(messages[place], f"{gap}{_WORDS}{answer}")
    return [*messages[:place], told, *messages[place + 1 :]]


def _followed(message: Message, text: str) -> Message:
    return {**message, "content": message["content"] + text}
