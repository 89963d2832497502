"""What each field of a message means here: used, refused by name, or counted as not read.

`content` is the text. Reasoning beside it (`reasoning_content`, `thinking`) follows `corpus.reasoning`.
Marks of what is trained on (`weight`, `loss`, `trainable`) decide about the last turn: 0 leaves the row out.
What would change the conversation in a way that is not rendered here makes the row unusable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from trims_core.raw_rows import UnusableRowError, kind_of, says_something
from trims_core.raw_rows.fields import checked_text

ROLES: Final = ("system", "user", "assistant")
REASONING: Final = ("reasoning_content", "reasoning", "thinking", "thought", "thoughts")
TRAINED: Final = (
    *("weight", "loss", "loss_weight", "loss_scale", "loss_mask"),
    *("trainable", "train", "training"),
)
_NO_TOOLS: Final = "tool calls are not supported; delete the row"
_TEXT_ONLY: Final = "only text is read; delete the row"
_REFUSED: Final[Mapping[str, str]] = {
    **dict.fromkeys(("tool_calls", "function_call", "tool_call_id", "tool_responses"), _NO_TOOLS),
    **dict.fromkeys(("tools", "functions"), _NO_TOOLS),
    "name": "names of speakers are not rendered; write it into the content, or delete it",
    **dict.fromkeys(("image", "images", "audio", "audios", "video", "videos"), _TEXT_ONLY),
    **dict.fromkeys(("channel", "recipient"), "channels are not rendered; delete the row"),
    **dict.fromkeys(("train_detail", "training_detail"), "answers are trained on whole; delete the row"),
    **dict.fromkeys(("prefix", "partial"), "answers that are only begun are not supported; delete the row"),
}
"""Fields that a template may render, or that say that the content is not the message."""
REFUSED_IN_ROWS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("tools", "functions"), _NO_TOOLS),
    "chat_template_kwargs": "templates get the same arguments for all rows; delete it, or split the data set",
}
"""Columns beside a conversation that would change what a template makes of it."""
_SYSTEM: Final = ("system", "system_prompt", "system_message")
REFUSED_BESIDE_MESSAGES: Final = dict.fromkeys(
    _SYSTEM, "make it the first turn, of role system; or rename the column if it is something else"
)
_PART_OF_PROMPT: Final = "write it into the prompt, or rename the column if it is something else"
REFUSED_BESIDE_PAIRS: Final[Mapping[str, Mapping[str, str]]] = {
    "": dict.fromkeys(
        _SYSTEM, "use conversations, whose first turn it is; or rename the column if it is something else"
    ),
    "instruction": dict.fromkeys(("input", "context", "history"), _PART_OF_PROMPT),
}
"""Prompt column ("": any) -> columns that belong to the prompt too, as in Alpaca's and Dolly's rows."""
OF_THE_ANSWER: Final = (*REASONING, "weight", "trainable", "train", "training")
"""Fields of an answer that may stand beside the conversation too. A `loss` there is a measurement."""


@dataclass(frozen=True)
class Turn:
    """One message."""

    role: str
    content: str
    reasoning: str | None = None
    trained: bool | None = None
    """None: it does not say."""
    unread: tuple[str, ...] = ()
    """Fields with a value that mean nothing here."""

    @property
    def message(self) -> dict[str, str]:
        """As templates get it."""
        return {"role": self.role, "content": self.content}


def turns_of(value: Any, column: str) -> list[Turn]:
    """The turns of a conversation that ends in an answer.

    Raises:
        UnusableRowError: wrong types or roles, no answer, or a field that is refused.
    """
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise UnusableRowError(
            f"{column!r} is {kind_of(value)}",
            "expected a list of {role, content}, at least a user and an assistant",
        )
    turns = [_turn(message, number) for number, message in enumerate(value, start=1)]
    roles = [turn.role for turn in turns]
    if "assistant" not in roles:
        raise UnusableRowError(f"no assistant turn (roles {roles})", "the last turn must be the answer")
    if roles[-1] != "assistant":
        raise UnusableRowError(
            f"a {roles[-1]} turn after the last assistant turn", "delete what follows the answer"
        )
    if "user" not in roles[:-1]:
        raise UnusableRowError("no user turn before the answer", "add the question it answers")
    if "system" in roles[1:]:
        raise UnusableRowError("a system turn that is not the first", "move it to the front")
    return turns


def check_row(values: Mapping[str, Any], refused: Mapping[str, str]) -> None:
    """Raises UnusableRowError where a column has a value that would change the conversation."""
    for name, remedy in refused.items():
        if says_something(values.get(name)):
            raise UnusableRowError(f"{name!r} is {kind_of(values[name])}", remedy)


def _turn(message: Any, number: int) -> Turn:
    if not isinstance(message, Mapping) or "role" not in message or "content" not in message:
        found = f"keys {', '.join(map(str, message))}" if isinstance(message, Mapping) else kind_of(message)
        raise UnusableRowError(f"turn {number} has {found}", "expected role and content")
    role = message["role"]
    if role not in ROLES:
        raise UnusableRowError(f"turn {number} has the role {role!r}", f"expected {', '.join(ROLES)}")
    for name, remedy in _REFUSED.items():
        if says_something(message.get(name)):
            raise UnusableRowError(f"turn {number} has {name!r}: {kind_of(message[name])}", remedy)
    known = {"role", "content", *REASONING, *TRAINED}
    return Turn(
        role,
        checked_text(message["content"], f"the content of turn {number}"),
        _reasoning(message, number),
        _trained(message, number),
        tuple(
            str(name).encode(errors="backslashreplace").decode()
            for name in message
            if name not in known and _is_filled_in(message[name])
        ),
    )


def _is_filled_in(value: Any) -> bool:
    """Whether a field that means nothing here has a value; 0 and false are values."""
    return isinstance(value, bool | int | float) or says_something(value)


def _reasoning(message: Mapping[str, Any], number: int) -> str | None:
    given = {name: message[name] for name in REASONING if says_something(message.get(name))}
    for name, value in given.items():
        checked_text(value, f"{name!r} of turn {number}")
        if message["role"] != "assistant":
            raise UnusableRowError(f"turn {number}, of the {message['role']}, has {name!r}", "delete it")
    if len(set(given.values())) > 1:
        names = " and ".join(map(repr, given))
        raise UnusableRowError(f"{names} of turn {number} differ", "keep one of them")
    return next(iter(given.values()), None)


def _trained(message: Mapping[str, Any], number: int) -> bool | None:
    given = {name: message[name] for name in TRAINED if message.get(name) is not None}
    for name, value in given.items():
        if not isinstance(value, bool | int | float) or value not in (0, 1):
            raise UnusableRowError(
                f"turn {number} has {name!r}: {kind_of(value)}",
                "expected 0 or 1, true or false; other weights are not supported",
            )
        if value and message["role"] != "assistant":
            raise UnusableRowError(
                f"turn {number}, of the {message['role']}, has {name!r}: {kind_of(value)}",
                "only answers are trained on; delete the mark",
            )
    if len(set(map(bool, given.values()))) > 1:
        raise UnusableRowError(
            f"{' and '.join(map(repr, given))} of turn {number} differ", "keep one of them"
        )
    return next(map(bool, given.values()), None)
