"""Completions as tokens with their bytes: where in a text's UTF-8 bytes every token ends."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_BYTE_TOKEN: Final = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@dataclass(frozen=True, slots=True)
class Encoded:
    """A completion's token ids and, per token, the end offset in the completion's UTF-8 bytes."""

    ids: list[int]
    byte_end: list[int]


@dataclass(frozen=True, slots=True)
class EncodedRows:
    """`Encoded` of R texts, flat: row r has the tokens from offset_R1[r] to offset_R1[r + 1]."""

    ids_T: npt.NDArray[np.int32]
    byte_end_T: npt.NDArray[np.int32]
    offset_R1: npt.NDArray[np.int64]

    @staticmethod
    def joined(parts: Sequence[EncodedRows]) -> EncodedRows:
        """The rows of some parts, at least one, behind each other."""
        lengths = np.concatenate([np.diff(part.offset_R1) for part in parts])
        return EncodedRows(
            np.concatenate([part.ids_T for part in parts]),
            np.concatenate([part.byte_end_T for part in parts]),
            np.cumsum([0, *lengths], dtype=np.int64),
        )

    def with_end(self, end_ids: Sequence[int]) -> EncodedRows:
        """With tokens without bytes behind every row: the end of turn, which repeats the last offset."""
        n_rows, n_end = len(self.offset_R1) - 1, len(end_ids)
        offset_R1 = self.offset_R1 + n_end * np.arange(n_rows + 1)
        end_RE = offset_R1[1:, None] - n_end + np.arange(n_end)
        ids_T, byte_end_T = (np.empty(int(offset_R1[-1]), np.int32) for _ in range(2))
        inner_T = np.ones(len(ids_T), np.bool_)
        inner_T[end_RE] = False
        ids_T[inner_T], byte_end_T[inner_T] = self.ids_T, self.byte_end_T
        ids_T[end_RE] = end_ids
        total_R = np.zeros(n_rows, np.int32)
        filled_R = np.diff(self.offset_R1) > 0
        total_R[filled_R] = self.byte_end_T[self.offset_R1[1:][filled_R] - 1]
        byte_end_T[end_RE] = total_R[:, None]
        return EncodedRows(ids_T, byte_end_T, offset_R1)


class TokenBytes(dict[int, bytes]):
    """Token id → the bytes it stands for, worked out on first use.

    Source: the byte-to-character table is GPT-2's (Radford et al. 2019, encoder.py); `▁` and `<0xHH>` are
    SentencePiece's. Checked against the text itself at every encoding.
    """

    def __init__(self, backend: Tokenizer) -> None:
        super().__init__()
        self._backend = backend
        self.added = backend.get_added_tokens_decoder()
        parts = f"{backend.pre_tokenizer} {backend.decoder}"
        self._byte_level = "ByteLevel" in parts
        self._byte_fallback = "ByteFallback" in parts or bool(getattr(backend.model, "byte_fallback", False))
        self._spaces_marked = "▁" in f"{parts} {backend.normalizer}"
        self._bytes_of_char = {char: byte for byte, char in enumerate(_gpt2_alphabet())}
        highest = max(backend.get_vocab(with_added_tokens=True).values(), default=-1)
        self.lengths: npt.NDArray[np.int64] = np.zeros(highest + 1, np.int64)
        """How many bytes each token has that was asked for, by its id."""

    def __missing__(self, token_id: int) -> bytes:
        value = self._bytes_of(token_id)
        self.lengths[token_id] = len(value)
        self[token_id] = value
        return value

    def _bytes_of(self, token_id: int) -> bytes:
        if token_id in self.added:
            return str(self.added[token_id].content).encode()
        token = str(self._backend.id_to_token(token_id))
        if self._byte_level and all(char in self._bytes_of_char for char in token):
            return bytes(self._bytes_of_char[char] for char in token)
        if self._byte_fallback and (match := _BYTE_TOKEN.fullmatch(token)):
            return bytes([int(match.group(1), 16)])
        return (token.replace("▁", " ") if self._spaces_marked else token).encode()


def _gpt2_alphabet() -> list[str]:
    """The character that stands for each byte: itself where printable, else the next free one from U+0100."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    spare = iter(range(0x100, 0x200))
    return [chr(byte) if byte in printable else chr(next(spare)) for byte in range(256)]
