"""One raw row → one checked example: the conversation before the answer, and the answer.

The completion is NFC-normalised and stripped once, here; every later stage sees the same bytes. Messages are
kept as given. Roles are system, user and assistant; the last assistant turn is the completion.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from trims_core.config import CorpusConfig
from trims_core.corpus.problems import UnusableRowError
from trims_core.corpus.sources import RawRow
from trims_core.fingerprint import sha256_json

ROLES: Final = ("system", "user", "assistant")
_ID_DIGITS: Final = 32
_TOOL_KEYS: Final = ("tool_calls", "function_call")

Message = dict[str, str]


@dataclass(frozen=True, slots=True)
class Example:
    """A conversation up to the answer, and the answer."""

    id: str
    messages: list[Message]
    completion: str
    source: str
    normalised: bool
    """Whether NFC or stripping changed the completion."""
    content_digest: str
    """Of the normalised text, whatever the id is."""


def to_example(row: RawRow, config: CorpusConfig) -> Example:
    """The example a row holds.

    Raises:
        UnusableRowError: wrong types or roles, no answer, an empty one, text that is not Unicode.
    """
    if config.prompt_column is not None and config.completion_column is not None:
        messages = [{"role": "user", "content": _text(row.values, config.prompt_column)}]
        raw_completion = _text(row.values, config.completion_column)
    else:
        messages, raw_completion = _split_conversation(row.values, config.messages_column)
    if config.system_prompt is not None and messages[0]["role"] != "system":
        messages = [{"role": "system", "content": config.system_prompt}, *messages]
    completion = normalise(raw_completion)
    if not completion:
        raise UnusableRowError("the completion is empty", "write an answer or delete the row")
    given = _given_id(row.values, config.id_column)
    digest = content_digest(messages, completion)
    return Example(
        id=digest if given is None else given,
        messages=messages,
        completion=completion,
        source=row.source,
        normalised=completion != raw_completion,
        content_digest=digest,
    )


def normalise(text: str) -> str:
    """NFC, without white space at both ends."""
    return unicodedata.normalize("NFC", text).strip()


def content_digest(messages: Sequence[Mapping[str, str]], completion: str) -> str:
    """Hex id of an example's normalised content; the id where the input gives none."""
    turns = [[message["role"], normalise(message["content"])] for message in messages]
    return sha256_json([turns, completion])[:_ID_DIGITS]


def _split_conversation(values: Mapping[str, Any], column: str) -> tuple[list[Message], str]:
    turns = _column(values, column)
    if not isinstance(turns, Sequence) or isinstance(turns, str) or not turns:
        raise UnusableRowError(
            f"{column!r} is {_kind(turns)}",
            "expected a list of {role, content}, at least a user and an assistant",
        )
    messages = [_message(turn, number) for number, turn in enumerate(turns, start=1)]
    roles = [message["role"] for message in messages]
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
    return messages[:-1], messages[-1]["content"]


def _message(turn: Any, number: int) -> Message:
    if not isinstance(turn, Mapping) or "role" not in turn or "content" not in turn:
        found = f"keys {', '.join(map(str, turn))}" if isinstance(turn, Mapping) else _kind(turn)
        raise UnusableRowError(f"turn {number} has {found}", "expected role and content")
    role = turn["role"]
    if role not in ROLES:
        raise UnusableRowError(f"turn {number} has the role {role!r}", f"expected {', '.join(ROLES)}")
    if any(turn.get(key) for key in _TOOL_KEYS):
        raise UnusableRowError(f"turn {number} calls a tool", "tool calls are not supported; delete the row")
    return {"role": role, "content": _checked(turn["content"], f"the content of turn {number}")}


def _text(values: Mapping[str, Any], column: str) -> str:
    return _checked(_column(values, column), repr(column))


def _checked(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise UnusableRowError(f"{name} is {_kind(value)}", "expected text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UnusableRowError(f"{name} holds half a surrogate pair", "write the character itself") from None
    return value


def _column(values: Mapping[str, Any], column: str) -> Any:
    if column not in values:
        raise UnusableRowError(
            f"no column {column!r} (found {', '.join(map(str, values)) or 'nothing'})",
            "set corpus.messages_column, or prompt_column and completion_column",
        )
    return values[column]


def _given_id(values: Mapping[str, Any], column: str) -> str | None:
    value = values.get(column)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise UnusableRowError(f"the id in {column!r} is {_kind(value)}", "expected text or a whole number")
    text = _checked(str(value), f"the id in {column!r}")
    if not text.strip():
        raise UnusableRowError(f"the id in {column!r} is empty", "give one, or drop the column")
    return text


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 40 else text[:40] + '…'}"
