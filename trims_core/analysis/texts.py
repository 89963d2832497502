"""A student's tokens as text, as the sweep shows its answers, with the bytes that each token stands for.

Special tokens, end tokens and [MASK] have no text. A character of which some bytes are missing is left out
until they are there: a byte-level token may hold half of one. A text ends before the first stop string.

Importing this module imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from trims_core.decoding.engine import before_stop
from trims_core.students import Family
from trims_core.token_bytes import TokenBytes

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True)
class Shown:
    """The text of some tokens, and which of them have a part in it."""

    text: str
    places: list[int]
    """Of the tokens with bytes in the text, from left to right."""
    byte_end: list[int]
    """Where each of these ends in the text's UTF-8 bytes; the last one at its end."""


class StudentTexts:
    """Args: stop_strings: an answer ends before the first of them."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, family: Family, stop_strings: Sequence[str]
    ) -> None:
        backend = self._backend = tokenizer.backend_tokenizer
        special = {number for number, token in backend.get_added_tokens_decoder().items() if token.special}
        self.end_ids = family.end_ids
        self._silent = special | family.end_ids | {family.mask_id}
        self._stop_strings = stop_strings
        self._bytes = TokenBytes(backend)

    def text(self, ids: Sequence[int]) -> str:
        """The text of some tokens, one behind the other, whatever stood between them."""
        return self.shown(ids).text

    def up_to_end(self, ids: Sequence[int]) -> str:
        """The text before the first end token."""
        end = next((place for place, one in enumerate(ids) if one in self.end_ids), len(ids))
        return self.text(ids[:end])

    def shown(self, ids: Sequence[int]) -> Shown:
        """The text with its bytes."""
        parts = [self._part(one) for one in ids]
        whole = b"".join(parts)
        kept_B = _whole_characters(whole)
        text = before_stop(whole.decode(errors="ignore"), self._stop_strings)
        size = len(text.encode())
        end_B1 = np.concatenate([[0], np.cumsum(kept_B)])
        end_T = np.minimum(end_B1[np.cumsum([len(part) for part in parts], dtype=np.int64)], size)
        places = np.flatnonzero(np.diff(end_T, prepend=0) > 0)
        return Shown(text, places.tolist(), end_T[places].tolist())

    def _part(self, token_id: int) -> bytes:
        """A token's bytes; none of ids that the embedding has a row for and the tokenizer no token."""
        if token_id in self._silent or self._backend.id_to_token(token_id) is None:
            return b""
        return self._bytes[token_id]


def _whole_characters(data: bytes) -> npt.NDArray[np.bool_]:
    """bool, per byte: whether it is part of a whole character."""
    kept, start = np.ones(len(data), np.bool_), 0
    while start < len(data):
        try:
            data[start:].decode()
            break
        except UnicodeDecodeError as error:
            kept[start + error.start : start + error.end] = False
            start += error.end
    return kept
