"""Conversations and completions as token ids, the same way for teacher, student and decoding.

A sequence is always: the prompt up to where a finished turn's answer begins (`chat_template.py`), the
completion encoded alone, the end of turn. So a template never merges with, trims or alters the completion's
bytes, and two tokenizers can be compared on them. Where the template puts one space before an answer, the
space is encoded with the answer, as part of its first token, and has no byte. Offsets are end positions in
the completion's UTF-8 bytes and come from the bytes of the tokens themselves: tokens of byte-level tokenizers
may split a character, where character offsets say nothing.

Covered: byte-level BPE (GPT-2, Qwen, GPT-NeoX, Llama 3), added tokens (runs of spaces, `<think>`), byte
fallback with `▁` for spaces (Llama 2, Gemma), NFC normalisers on text that is already NFC. Special tokens
written out in a completion are encoded as plain text.
Not covered: tokenizers that drop or change text (lower-casing, WordPiece): their rows are refused. Special
tokens written out in a prompt keep their meaning, as everywhere in the field.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from trims_core.chat_template import ChatTemplate, Form, Message, RefusedByTemplateError, Sample, first_line
from trims_core.config import TemplateConfig
from trims_core.errors import AlignmentError, ConfigError, CorpusError
from trims_core.hub import TOKENIZER_FILES, checkpoint_folder
from trims_core.token_bytes import Encoded, EncodedRows, TokenBytes

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

TEMPLATE_REFUSES: Final = "template_refuses"
TOKENIZER_CHANGES_TEXT: Final = "tokenizer_changes_text"
_NAMED: Final = 20
# published as program files beside the checkpoint, which are never run; these of transformers encode alike
_SAME_AS: Final = {"DreamTokenizer": "Qwen2Tokenizer"}


@dataclass(frozen=True)
class Refusal:
    """Why a row cannot be read."""

    reason: str
    """TEMPLATE_REFUSES or TOKENIZER_CHANGES_TEXT."""
    detail: str


@dataclass(frozen=True)
class RenderedRows:
    """Some examples as tokens. A refused row has no prompt, and an end of turn alone for a target."""

    prompts: list[list[int]]
    targets: EncodedRows
    """Completions and ends of turn."""
    refused: dict[int, Refusal]
    """By the row's place."""
    prompt_texts: list[str] = field(repr=False)
    forms: list[Form] = field(repr=False)
    """What became of each row's generation header."""


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
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{model}: no tokenizer could be loaded ({first_line(error)}); expected tokenizer.json, or"
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
        template: file, keywords and date of the chat template; default: the checkpoint's template alone.
        section: where these stand in the config, for messages.
        end_id: what ends a completion in place of the end of turn that the chat template shows.
        decoded: the prompts are decoded from too, where the kind of an answer is not known: rows whose prompt
            is not the generation header are refused.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        template: TemplateConfig | None = None,
        section: str = "scores",
        *,
        end_id: int | None = None,
        decoded: bool = False,
    ) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = tokenizer
        # own copies: transformers switches padding and truncation of its backend on and off between calls
        described = tokenizer.backend_tokenizer.to_str()
        self._prompt_backend, self._text_backend = (Tokenizer.from_str(described) for _ in range(2))
        for backend in (self._prompt_backend, self._text_backend):
            backend.no_padding()
            backend.no_truncation()
        self._text_backend.encode_special_tokens = True
        self._token_bytes = TokenBytes(self._text_backend)
        self._template = ChatTemplate(tokenizer, template, section)
        self._decoded = decoded
        self._name = str(tokenizer.name_or_path or type(tokenizer).__name__)
        self._spaces_first = self._text_of(_ids_of(self._text_backend, ["a"])[0]) == b" a"
        """Whether the tokenizer puts a space before every text, as SentencePiece-like ones do."""
        self.end_ids: tuple[int, ...] = self._find_end() if end_id is None else (end_id,)
        """The end of turn: what the template shows behind a finished turn, usually one token."""

    @property
    def end_text(self) -> str:
        """The end of turn as text."""
        return str(self._tokenizer.decode(list(self.end_ids), clean_up_tokenization_spaces=False))

    @property
    def template_source(self) -> str:
        """The chat template itself."""
        return self._template.source

    def own_system(self) -> str:
        """As `ChatTemplate.own_system`. Raises: ConfigError: the chat template shows no system message."""
        return self._template.own_system()

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
        return self.text_ids(self.prompt_texts(conversations, names))

    def prompt_texts(
        self, conversations: Sequence[Sequence[Message]], names: Sequence[str] = ()
    ) -> list[str]:
        """Conversations with the header that asks for an answer, as `prompts` encodes them.

        Raises:
            CorpusError: the chat template refuses a conversation.
        """
        texts, refused = [], {}
        for row, messages in enumerate(conversations):
            try:
                texts.append(self._template.header(messages))
            except RefusedByTemplateError as error:
                refused[row] = Refusal(TEMPLATE_REFUSES, str(error))
        if refused:
            raise CorpusError(
                f"{_named(refused, names)}: the chat template of {self._template.name} refuses"
                f" {next(iter(refused.values())).detail}. Change what it refuses, or use another template"
            )
        return texts

    def begun_text(self, messages: Sequence[Message]) -> str:
        """The conversation up to an answer that is already begun: the last message.

        Raises:
            CorpusError: the chat template refuses the conversation.
        """
        *before, answer = messages
        (header,) = self.prompt_texts([before])
        try:
            return self._template.form(before, answer["content"]).prompt(header) + answer["content"]
        except RefusedByTemplateError as error:
            raise CorpusError(
                f"an answer begun with {answer['content'][:40]!r}: the chat template of"
                f" {self._template.name} refuses {error}. Leave the beginning out, or use another template"
            ) from error

    def open_text(self, messages: Sequence[Message], answer_prefix: str, *, chat: bool) -> str:
        """What an answer goes on from that has begun so; without `chat` the one message is the whole text.

        Raises:
            CorpusError: the chat template refuses the conversation.
        """
        if not chat:
            return messages[0]["content"] + answer_prefix
        return self.begun_text((*messages, {"role": "assistant", "content": answer_prefix}))

    def text_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of texts that are prompts as they stand: special tokens keep their meaning, none is added."""
        return _ids_of(self._prompt_backend, list(texts))

    def rows(
        self,
        conversations: Sequence[Sequence[Message]],
        completions: Sequence[str],
    ) -> RenderedRows:
        """Examples as tokens: prompts up to where a finished turn's answer begins, answers, ends of turn."""
        texts, forms, refused = [], [], {}
        for row, (messages, completion) in enumerate(zip(conversations, completions, strict=True)):
            text, form = "", Form()
            try:
                form = self._template.form(messages, completion)
                text = form.prompt(self._template.header(messages))
                self._check_decoded(form, completion)
            except RefusedByTemplateError as error:
                refused[row] = Refusal(TEMPLATE_REFUSES, f"{self._template.name}: {error}")
                text, form = "", Form()
            texts.append(text)
            forms.append(form)
        return self._rows(texts, forms, completions, refused)

    def rows_behind(self, prompt_texts: Sequence[str], completions: Sequence[str]) -> RenderedRows:
        """Like `rows`, of prompts that are texts already: special tokens in them keep their meaning."""
        return self._rows(list(prompt_texts), [Form() for _ in prompt_texts], completions, {})

    def _rows(
        self, texts: list[str], forms: list[Form], completions: Sequence[str], refused: dict[int, Refusal]
    ) -> RenderedRows:
        spaced = [form.inserted.endswith(" ") and not form.inserted.endswith("  ") for form in forms]
        wanted = ["" if row in refused else text for row, text in enumerate(completions)]
        targets, changed = self._encode(wanted, spaced)
        if changed:
            refused |= {row: Refusal(TOKENIZER_CHANGES_TEXT, detail) for row, detail in changed.items()}
            wanted = ["" if row in refused else text for row, text in enumerate(completions)]
            targets, _ = self._encode(wanted, spaced)
        prompts = _ids_of(
            self._prompt_backend,
            [text[:-1] if space else text for text, space in zip(texts, spaced, strict=True)],
        )
        for row in refused:
            prompts[row] = []
        return RenderedRows(prompts, targets.with_end(self.end_ids), refused, texts, forms)

    def completion(self, text: str, name: str = "?") -> Encoded:
        """Ids and byte offsets of a completion encoded alone, without its end of turn.

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
        rows, changed = self._encode(texts, [False] * len(texts))
        if changed:
            raise AlignmentError(f"{_named(changed, names)}: {next(iter(changed.values()))}")
        return rows

    def _encode(self, texts: Sequence[str], spaced: Sequence[bool]) -> tuple[EncodedRows, dict[int, str]]:
        """Completions as tokens, and by its place why a text is changed.

        Args:
            spaced: whether a space belongs before each text; it is then part of the first token.
        """
        adds = [space and not self._spaces_first for space in spaced]
        given = [f" {text}" if add and text else text for text, add in zip(texts, adds, strict=True)]
        ids = _ids_of(self._text_backend, given)
        offset_R1 = np.cumsum([0, *map(len, ids)], dtype=np.int64)
        ids_T = np.fromiter(chain.from_iterable(ids), np.int32, int(offset_R1[-1]))
        covered = self._text_of(chain.from_iterable(ids))
        end_T1 = np.zeros(len(ids_T) + 1, np.int64)
        np.cumsum(self._token_bytes.lengths[ids_T], out=end_T1[1:])
        base_R1 = end_T1[offset_R1]
        byte_end_T = (end_T1[1:] - np.repeat(base_R1[:-1], np.diff(offset_R1))).astype(np.int32)
        wanted = [text.encode() for text in texts]
        sizes_R = np.array([len(one) for one in wanted], np.int64)
        changed: dict[int, str] = {}
        if not np.array_equal(np.diff(base_R1), sizes_R) or covered != b"".join(wanted):
            for row, one in enumerate(wanted):
                found = covered[base_R1[row] : base_R1[row + 1]]
                if found == b" " + one:  # the space before the first word, a SentencePiece-like one's or ours
                    own = byte_end_T[offset_R1[row] : offset_R1[row + 1]]
                    np.maximum(own - 1, 0, out=own)
                elif found != one:
                    changed[row] = self._change(one, found)
        return EncodedRows(ids_T, byte_end_T, offset_R1), changed

    def _text_of(self, ids: Iterable[int]) -> bytes:
        return b"".join(map(self._token_bytes.__getitem__, ids))

    def _change(self, wanted: bytes, covered: bytes) -> str:
        """Where tokens leave their text, and how. A space before the first word is none of it."""
        if covered.startswith(b" ") and not wanted.startswith(b" "):
            covered = covered[1:]
        pairs = zip(wanted, covered, strict=False)
        at = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(wanted), len(covered)))
        window = slice(max(0, at - 10), at + 20)
        return (
            f"tokenizer {self._name} changes the completion at byte {at}:"
            f" {wanted[window].decode(errors='replace')!r} becomes"
            f" {covered[window].decode(errors='replace')!r}. Expected tokens whose bytes are the text's;"
            " use a byte-level tokenizer without lower-casing or compatibility normalisation (NFKC), or"
            " remove these characters from the corpus"
        )

    def _check_decoded(self, form: Form, completion: str) -> None:
        """Raises RefusedByTemplateError where decoding would begin with another prompt than training did."""
        same = not form.dropped and form.inserted in ("", " ")  # the space is the answer's
        brought = form.dropped.strip() and completion.lstrip().startswith(form.dropped.strip())
        if self._decoded and not same and (form.inserted or not brought):
            raise RefusedByTemplateError(
                f"a finished turn has its header {form}, and an answer is decoded behind the header as it is;"
                " expected a header that a finished turn begins with. Set keywords that make it so, or change"
                f" {self._template.section}.template_file"
            )

    def _find_end(self) -> tuple[int, ...]:
        """What stands behind a finished turn, up to an added token if there is one; the EOS token where
        nothing but white space does.

        Raises:
            ConfigError: nothing ends a turn, or plain text does that cannot be told from the next header.
        """
        sample = self._template.sample
        ids = self._ids_behind_text(sample.tail)
        ends_at = next((place for place, one in enumerate(ids) if self._is_marker(one)), None)
        eos = self._tokenizer.eos_token_id
        if ends_at is not None:
            if not self._is_next_header(ids[: ends_at + 1], sample):
                return tuple(ids[: ends_at + 1])
        elif sample.tail.strip():
            if sample.gap is not None:
                raise ConfigError(
                    f"{self._template.name}: {sample.tail!r} stands behind a finished turn, where its end"
                    " cannot be told from the header of the next; expected a chat template that honours"
                    f" add_generation_prompt. Correct it, or set {self._template.section}.template_file"
                )
            return tuple(self._ids_behind_text(sample.tail.rstrip()))
        if eos is None:
            raise ConfigError(
                f"{self._name}: nothing ends an assistant turn in the chat template, and there is no"
                " eos_token; set one in tokenizer_config.json"
            )
        return (int(eos),)

    def _is_next_header(self, ids: list[int], sample: Sample) -> bool:
        """Whether a first marker behind a finished turn opens the next one, and nothing ends this one."""
        ends = (self._tokenizer.eos_token_id, self._tokenizer.bos_token_id)
        opening = _ids_of(self._prompt_backend, [sample.opening])[0]
        opens_all = len(ids) == 1 and ids[0] == next((one for one in opening if one not in ends), None)
        # where a header is always there, an end is what a question behind the answer leaves of it
        return opens_all or (sample.gap is not None and self._ids_behind_text(sample.gap)[: len(ids)] != ids)

    def _ids_behind_text(self, text: str) -> list[int]:
        """Ids of a text that follows a word: without the space that some tokenizers put before every text."""
        word, both = _ids_of(self._prompt_backend, ["a", f"a{text}"])
        return both[len(word) :] if both[: len(word)] == word else _ids_of(self._prompt_backend, [text])[0]

    def _is_marker(self, token_id: int) -> bool:
        """Whether an id is an added token's; the runs of spaces in some vocabularies mark nothing."""
        added = self._token_bytes.added.get(token_id)
        return added is not None and bool(str(added.content).strip())


def _ids_of(backend: Tokenizer, texts: list[str]) -> list[list[int]]:
    """Token ids of some texts, without the offsets into them, which nobody here reads."""
    return [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]


def _named(rows: Collection[int], names: Sequence[str]) -> str:
    """The examples at some places, by name where they have one."""
    shown = [repr(names[row]) if names else f"number {row + 1}" for row in sorted(rows)]
    more = f" and {len(shown) - _NAMED} more" if len(shown) > _NAMED else ""
    return ("example " if len(shown) == 1 else "examples ") + ", ".join(shown[:_NAMED]) + more
