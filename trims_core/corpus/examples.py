"""One raw row → one checked example: the conversation before the answer, and the answer.

The completion is normalised once, here; every later stage sees the same bytes. Messages are kept as given.
Roles are system, user and assistant; the last assistant turn is the completion.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from trims_core.config import CorpusConfig
from trims_core.corpus.turns import (
    OF_THE_ANSWER,
    REFUSED_BESIDE_MESSAGES,
    REFUSED_BESIDE_PAIRS,
    REFUSED_IN_ROWS,
    Turn,
    check_row,
    turns_of,
)
from trims_core.fingerprint import sha256_json
from trims_core.raw_rows import Columns, Row, UnusableRowError, id_in, text_in
from trims_core.raw_rows.fields import field_in

_ID_DIGITS: Final = 32
_NO_COLUMN: Final = "set corpus.messages_column, or prompt_column and completion_column"
_THINK: Final = "<think>"

Message = dict[str, str]


@dataclass(frozen=True, slots=True)
class Example:
    """A conversation up to the answer, and the answer."""

    id: str
    messages: list[Message]
    completion: str
    source: str
    normalised: bool
    """Whether normalising changed the completion."""
    content_digest: str
    """Of the normalised text, whatever the id is."""
    n_reasoning_dropped: int = 0
    """Turns whose reasoning is in no text."""
    unread: tuple[str, ...] = ()
    """Fields of its messages that were filled in and mean nothing here."""


def columns_of(config: CorpusConfig) -> Columns:
    """What is read of a row."""
    also = (config.id_column, *REFUSED_IN_ROWS, *OF_THE_ANSWER)
    if config.prompt_column is not None and config.completion_column is not None:
        pair = (config.prompt_column, config.completion_column)
        return Columns(pair, (*also, *_refused_beside(pair)))
    return Columns((config.messages_column,), (*also, *REFUSED_BESIDE_MESSAGES))


def _refused_beside(pair: tuple[str, str]) -> dict[str, str]:
    """Columns beside a prompt and its answer that would be part of the prompt."""
    refused = {**REFUSED_BESIDE_PAIRS[""], **REFUSED_BESIDE_PAIRS.get(pair[0], {})}
    return {name: remedy for name, remedy in refused.items() if name not in pair}


def to_example(row: Row, config: CorpusConfig) -> Example | None:
    """The example a row holds; None where the row says that its answer is not to be trained on.

    Raises:
        UnusableRowError: wrong types or roles, no answer, an empty one, text that is not Unicode, or fields
            that would change the conversation in a way that is not supported.
    """
    turns = _turns(row, config)
    if turns[-1].trained is False:
        return None
    n_dropped = _n_reasoning_dropped(turns, config)
    raw_completion = _answer(turns[-1], config)
    messages = [turn.message for turn in turns[:-1]]
    if config.system_prompt is not None and messages[0]["role"] != "system":
        messages = [{"role": "system", "content": config.system_prompt}, *messages]
    completion = normalise(raw_completion)
    if not completion:
        raise UnusableRowError("the completion is empty", "write an answer or delete the row")
    given = id_in(row.values, config.id_column)
    digest = content_digest(messages, completion)
    return Example(
        id=digest if given is None else given,
        messages=messages,
        completion=completion,
        source=row.source,
        normalised=completion != raw_completion,
        content_digest=digest,
        n_reasoning_dropped=n_dropped,
        unread=tuple(name for turn in turns for name in turn.unread),
    )


def normalise(text: str) -> str:
    """NFC, without blank lines in front and white space behind; the first line keeps its indentation."""
    text = unicodedata.normalize("NFC", text).rstrip()
    in_front = text[: len(text) - len(text.lstrip())]
    return text[max(in_front.rfind("\n"), in_front.rfind("\r")) + 1 :]


def content_digest(messages: Sequence[Mapping[str, str]], completion: str) -> str:
    """Hex id of an example's normalised content; the id where the input gives none."""
    turns = [
        [message["role"], unicodedata.normalize("NFC", message["content"]).strip()] for message in messages
    ]
    return sha256_json([turns, completion])[:_ID_DIGITS]


def _turns(row: Row, config: CorpusConfig) -> list[Turn]:
    check_row(row.values, REFUSED_IN_ROWS)
    if config.prompt_column is not None and config.completion_column is not None:
        pair = (config.prompt_column, config.completion_column)
        prompt, completion = (text_in(row.values, column, _NO_COLUMN) for column in pair)
        check_row(row.values, _refused_beside(pair))
        answer = {"role": "assistant", "content": completion, **_of_the_answer(row, pair)}
        return turns_of([{"role": "user", "content": prompt}, answer], "pair")
    check_row(row.values, REFUSED_BESIDE_MESSAGES)
    column = config.messages_column
    turns = field_in(row.values, column, _NO_COLUMN)
    beside = _of_the_answer(row, (column,))
    if beside and isinstance(turns, list) and turns and isinstance(turns[-1], Mapping):
        turns = [*turns[:-1], {**beside, **turns[-1]}]
    return turns_of(turns, column)


def _of_the_answer(row: Row, read: Collection[str]) -> dict[str, object]:
    """What stands beside a conversation and says something of its answer."""
    return {name: row.values[name] for name in OF_THE_ANSWER if name in row.values and name not in read}


def _n_reasoning_dropped(turns: Sequence[Turn], config: CorpusConfig) -> int:
    """How many turns lose their reasoning. Raises: UnusableRowError where the settings do not say so."""
    reasoning = [number for number, turn in enumerate(turns, start=1) if turn.reasoning]
    if reasoning and config.reasoning == "refuse":
        raise UnusableRowError(
            f"turn {reasoning[-1]} has its reasoning beside its content",
            "set corpus.reasoning: think to make it part of the answer, or drop to leave it out",
        )
    return sum(number < len(turns) or config.reasoning == "drop" for number in reasoning)


def _answer(turn: Turn, config: CorpusConfig) -> str:
    """The last turn's text, its reasoning in front where that is wanted."""
    if not turn.reasoning or config.reasoning != "think":
        return turn.content
    if turn.content.lstrip().startswith(_THINK):
        raise UnusableRowError(
            f"the answer begins with {_THINK} and has its reasoning beside it too",
            "delete one of them, or set corpus.reasoning: drop",
        )
    reasoning, content = turn.reasoning.strip("\n"), turn.content.lstrip("\n")
    return f"{_THINK}\n{reasoning}\n</think>\n\n{content}"
