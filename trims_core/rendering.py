"""Conversations and completions as token ids, the same way for teacher, student and decoding.

A sequence is always: the prompt with its generation header, the completion encoded alone, the end-of-turn
token. So a template never merges with, trims or alters the completion's bytes, and two tokenizers can be
compared on them. Offsets are end positions in the completion's UTF-8 bytes and come from the bytes of the
tokens themselves: tokens of byte-level tokenizers may split a character, where character offsets say nothing.

Covered: byte-level BPE (GPT-2, Qwen, GPT-NeoX, Llama 3), added tokens (runs of spaces, `<think>`), byte
fallback with `▁` for spaces (Llama 2, Gemma), NFC normalisers on text that is already NFC. Special tokens
written out in a completion are encoded as plain text.
Not covered: tokenizers that drop or change text (lower-casing, WordPiece): AlignmentError. Special tokens
written out in a prompt keep their meaning, as everywhere in the field.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from trims_core.errors import AlignmentError, ConfigError, CorpusError
from trims_core.hub import TOKENIZER_FILES, checkpoint_folder

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

Message = Mapping[str, str]

_SENTINEL: Final = "qzcompletionqz"
_BYTE_TOKEN: Final = re.compile(r"<0x([0-9A-Fa-f]{2})>")
# Llama 3 templates write today's date into the prompt unless they are given one; prompts must not age.
_TEMPLATE_DATE: Final = "26 Jul 2024"
# published as program files beside the checkpoint, which are never run; these of transformers encode alike
_SAME_AS: Final = {"DreamTokenizer": "Qwen2Tokenizer"}


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

    def with_end(self, end_id: int) -> EncodedRows:
        """With a token without bytes behind every row: the end of turn, which repeats the last offset."""
        n_rows = len(self.offset_R1) - 1
        offset_R1 = self.offset_R1 + np.arange(n_rows + 1)
        last_R = offset_R1[1:] - 1
        ids_T, byte_end_T = (np.full(int(offset_R1[-1]), end_id, np.int32) for _ in range(2))
        inner_T = np.ones(len(ids_T), np.bool_)
        inner_T[last_R] = False
        ids_T[inner_T], byte_end_T[inner_T] = self.ids_T, self.byte_end_T
        filled_R = np.diff(self.offset_R1) > 0
        byte_end_T[last_R] = 0
        byte_end_T[last_R[filled_R]] = byte_end_T[last_R[filled_R] - 1]
        return EncodedRows(ids_T, byte_end_T, offset_R1)


def load_tokenizer(model: str, revision: str | None = None) -> PreTrainedTokenizerFast:
    """The fast tokenizer of a checkpoint folder or hub name, exactly as its tokenizer.json describes it.

    Raises:
        ConfigError: no tokenizer there, or only a slow one without byte-exact encodings.
    """
    from transformers.tokenization_utils_tokenizers import PreTrainedTokenizerFast

    folder = checkpoint_folder(model, revision, TOKENIZER_FILES)
    try:
        if (folder / "tokenizer.json").is_file():
            return PreTrainedTokenizerFast.from_pretrained(str(folder))
        loaded = _without_remote_code(str(folder))
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"{model}: no tokenizer could be loaded ({_first_line(error)}); expected tokenizer.json, or"
            " vocab.json and merges.txt, in a checkpoint folder or hub model"
        ) from error
    if not isinstance(loaded, PreTrainedTokenizerFast):
        raise ConfigError(
            f"{model}: only a slow tokenizer ({type(loaded).__name__}); convert it to tokenizer.json"
        )
    return loaded


def _without_remote_code(folder: str) -> Any:
    import transformers
    from transformers.models.auto.tokenization_auto import get_tokenizer_config

    named = get_tokenizer_config(folder).get("tokenizer_class")
    if named in _SAME_AS:
        return getattr(transformers, _SAME_AS[named]).from_pretrained(folder)
    return transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)


class Renderer:
    """Prompts and completions as ids of one tokenizer. Safe to share between threads.

    Args:
        end_id: what ends a completion in place of the end of turn that the chat template shows.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, end_id: int | None = None) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = tokenizer
        # own copies: transformers switches padding and truncation of its backend on and off between calls
        described = tokenizer.backend_tokenizer.to_str()
        self._prompt_backend, self._text_backend = (Tokenizer.from_str(described) for _ in range(2))
        for backend in (self._prompt_backend, self._text_backend):
            backend.no_padding()
            backend.no_truncation()
        self._text_backend.encode_special_tokens = True
        self._token_bytes = _TokenBytes(self._text_backend)
        self._name = str(tokenizer.name_or_path or type(tokenizer).__name__)
        self.end_of_turn_id: int = self._find_end_of_turn() if end_id is None else end_id

    def prompt_ids(self, messages: Sequence[Message], name: str = "?") -> list[int]:
        """Ids of the conversation so far, generation header included.

        Raises:
            CorpusError: the chat template refuses the conversation (names example `name`).
        """
        return self.prompts([messages], [name])[0]

    def prompts(
        self, conversations: Sequence[Sequence[Message]], names: Sequence[str] = ()
    ) -> list[list[int]]:
        """`prompt_ids` of many conversations at once; `names` are the example ids for error messages."""
        texts = [
            self._render(messages, name, generation=True)
            for messages, name in zip(conversations, names or ["?"] * len(conversations), strict=True)
        ]
        return _ids_of(self._prompt_backend, texts)

    def completion(self, text: str, name: str = "?") -> Encoded:
        """Ids and byte offsets of a completion encoded alone, without its end-of-turn token.

        Raises:
            AlignmentError: the tokens' bytes are not the text's bytes (names example `name`).
        """
        return self.completions([text], [name])[0]

    def completions(self, texts: Sequence[str], names: Sequence[str] = ()) -> list[Encoded]:
        """`completion` of many texts at once; `names` are the example ids for error messages."""
        rows = self.completion_rows(texts, names)
        bounds = rows.offset_R1.tolist()
        return [
            Encoded(rows.ids_T[start:end].tolist(), rows.byte_end_T[start:end].tolist())
            for start, end in pairwise(bounds)
        ]

    def completion_rows(self, texts: Sequence[str], names: Sequence[str] = ()) -> EncodedRows:
        """`completions` without a Python object per token. Raises: AlignmentError, like `completion`."""
        ids = _ids_of(self._text_backend, list(texts))
        offset_R1 = np.cumsum([0, *map(len, ids)], dtype=np.int64)
        ids_T = np.fromiter(chain.from_iterable(ids), np.int32, int(offset_R1[-1]))
        covered = b"".join(map(self._token_bytes.__getitem__, chain.from_iterable(ids)))
        end_T1 = np.zeros(len(ids_T) + 1, np.int64)
        np.cumsum(self._token_bytes.lengths[ids_T], out=end_T1[1:])
        base_R1 = end_T1[offset_R1]
        byte_end_T = (end_T1[1:] - np.repeat(base_R1[:-1], np.diff(offset_R1))).astype(np.int32)
        wanted = [text.encode() for text in texts]
        sizes_R = np.array([len(one) for one in wanted], np.int64)
        if not np.array_equal(np.diff(base_R1), sizes_R) or covered != b"".join(wanted):
            for row, one in enumerate(wanted):
                found = covered[base_R1[row] : base_R1[row + 1]]
                if found == b" " + one:  # the space a SentencePiece-like tokenizer puts before the first word
                    own = byte_end_T[offset_R1[row] : offset_R1[row + 1]]
                    np.maximum(own - 1, 0, out=own)
                elif found != one:
                    raise AlignmentError(self._misaligned(one, found, names[row] if names else "?"))
        return EncodedRows(ids_T, byte_end_T, offset_R1)

    def _misaligned(self, wanted: bytes, covered: bytes, name: str) -> str:
        pairs = zip(wanted, covered, strict=False)
        at = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(wanted), len(covered)))
        window = slice(max(0, at - 10), at + 20)
        return (
            f"example {name!r}: tokenizer {self._name} changes the completion at byte {at}:"
            f" {wanted[window].decode(errors='replace')!r} becomes"
            f" {covered[window].decode(errors='replace')!r}. Expected tokens whose bytes are the text's;"
            " use a byte-level tokenizer without lower-casing or compatibility normalisation (NFKC), or"
            " remove these characters from the corpus"
        )

    def _render(self, messages: Sequence[Message], name: str, *, generation: bool) -> str:
        from jinja2 import TemplateError

        template = self._tokenizer.chat_template
        if not template:
            raise ConfigError(
                f"{self._name}: the tokenizer has no chat template; put chat_template.jinja beside its"
                " tokenizer.json, or use an instruction-tuned checkpoint"
            )
        extra: dict[str, Any] = {"date_string": _TEMPLATE_DATE} if "date_string" in str(template) else {}
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    [dict(message) for message in messages],
                    tokenize=False,
                    add_generation_prompt=generation,
                    **extra,
                )
            )
        except (TemplateError, TypeError) as error:
            roles = [message.get("role") for message in messages]
            raise CorpusError(
                f"example {name!r}: the chat template of {self._name} refuses the conversation"
                f" (roles {roles}): {_first_line(error)}. Change the example, or use another model's template"
            ) from error

    def _find_end_of_turn(self) -> int:
        """The first special token after a finished assistant turn; the EOS token where there is none."""
        finished = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": _SENTINEL}]
        _, found, tail = self._render(finished, "(end of turn)", generation=False).rpartition(_SENTINEL)
        special = self._special_ids()
        if found:
            for token_id in self._prompt_backend.encode(tail, add_special_tokens=False).ids:
                if token_id in special:
                    return int(token_id)
        if self._tokenizer.eos_token_id is None:
            raise ConfigError(
                f"{self._name}: no special token ends an assistant turn in the chat template, and there is no"
                " eos_token; set one in tokenizer_config.json"
            )
        return int(self._tokenizer.eos_token_id)

    def _special_ids(self) -> set[int]:
        added = self._prompt_backend.get_added_tokens_decoder()
        return {token_id for token_id, token in added.items() if token.special}


class _TokenBytes(dict[int, bytes]):
    """Token id → the bytes it stands for, worked out on first use.

    Source: the byte-to-character table is GPT-2's (Radford et al. 2019, encoder.py); `▁` and `<0xHH>` are
    SentencePiece's. Checked against the text itself at every encoding.
    """

    def __init__(self, backend: Tokenizer) -> None:
        super().__init__()
        self._backend = backend
        self._added = backend.get_added_tokens_decoder()
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
        if token_id in self._added:
            return str(self._added[token_id].content).encode()
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


def _ids_of(backend: Tokenizer, texts: list[str]) -> list[list[int]]:
    """Token ids of some texts, without the offsets into them, which nobody here reads."""
    return [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
