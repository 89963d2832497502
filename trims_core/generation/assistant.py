"""A student that answers conversations: template in, canvas decoded, text out.

Shapes: none; everything here is about one or several conversations, the tensors are in trims_core.decoding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trims_core.chat_template import Message
from trims_core.config import TemplateConfig
from trims_core.decoding import Decoded, DecodeSettings, decode
from trims_core.decoding.engine import Watch, texts_of
from trims_core.errors import ConfigError, InputError
from trims_core.generation.canvas_settings import settings_for
from trims_core.generation.named_rules import BLOCK_LENGTH
from trims_core.generation.options import GEN_LENGTH, GenerateOptions
from trims_core.hub import checkpoint_folder
from trims_core.paths import path_given
from trims_core.plain_values import half_characters
from trims_core.rendering import Renderer
from trims_core.students import Student, load_student, merge_adapter
from trims_core.text_files import object_of


@dataclass(frozen=True)
class Answer:
    """A text and how it came about."""

    text: str
    """Without the end token, and without a stop string and what follows it."""
    decoded: Decoded
    """The canvas: token ids, step of reveal, confidence and entropy of every position."""
    settings: DecodeSettings
    """What was decoded with; defaults filled in."""
    n_prompt: int
    """Tokens of the prompt."""

    @property
    def n_tokens(self) -> int:
        """Tokens up to and including the first end token (or the one that completes a stop string)."""
        return self.decoded.n_tokens

    @property
    def n_forwards(self) -> int:
        """Model calls this answer took part in."""
        return self.decoded.n_forwards

    @property
    def seconds(self) -> float:
        """This answer's share of the decoding time."""
        return self.decoded.seconds

    @property
    def tokens_per_forward(self) -> float:
        """TPF of this answer."""
        return self.n_tokens / self.n_forwards

    @property
    def tokens_per_second(self) -> float:
        """Of decoding alone; in a batch the answer's share of the batch's speed."""
        return self.n_tokens / self.seconds


class Assistant:
    """A loaded student with its chat template.

    Args:
        student: with a tokenizer.
        gen_length: canvas where the options name none; lowered by whole blocks to what the context leaves
            behind a prompt.
        template: file, keywords and date of the chat template; default: the family's template alone.
    """

    def __init__(
        self, student: Student, gen_length: int = GEN_LENGTH, template: TemplateConfig | None = None
    ) -> None:
        self.student = student
        self.renderer = Renderer(student.tokenizer, template, "student")
        self._gen_length = gen_length

    @classmethod
    def load(
        cls,
        model: str,
        adapter: str | Path | None = None,
        *,
        revision: str | None = None,
        dtype: str = "auto",
        device: str = "auto",
        load_in_4bit: bool = False,
        template: TemplateConfig | None = None,
    ) -> Assistant:
        """The assistant of a checkpoint folder or hub name.

        Args:
            adapter: a PEFT folder under the official module names.
            dtype: auto for that of the weights on a GPU and float32 on a CPU.
            device: auto for the GPU if there is one.
            template: file, keywords and date of the chat template.

        Raises:
            ConfigError: no such checkpoint or adapter, no tokenizer, or a library that is missing.
        """
        import torch

        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if dtype == "auto" and torch.device(device).type == "cpu":
            dtype = "float32"
        folder = checkpoint_folder(path_given(model, "model"), revision)
        student = load_student(
            str(folder),
            dtype=dtype,
            device=device,
            adapter=None if adapter is None else Path(path_given(str(adapter), "adapter")),
            load_in_4bit=load_in_4bit,
        )
        if adapter is not None:
            merge_adapter(student)
        return cls(student, _suggested_length(folder), template)

    def answer(
        self, prompt: str, system: str | None = None, watch: Watch | None = None, **options: Any
    ) -> Answer:
        """The answer to one prompt; `options` are fields of GenerateOptions, such as threshold=0.8."""
        opening = [] if system is None else [{"role": "system", "content": system}]
        conversation = [*opening, {"role": "user", "content": prompt}]
        return self.answers([conversation], GenerateOptions(**options), watch)[0]

    def answers(
        self,
        conversations: Sequence[Sequence[Message]],
        options: GenerateOptions,
        watch: Watch | None = None,
    ) -> list[Answer]:
        """The next turn of every conversation; told to `watch` after every forward.

        Those with canvases of one length are decoded together: no answer depends on another prompt.

        Raises:
            ConfigError: options that do not fit together, or a prompt too long for the context.
            CorpusError: the chat template refuses a conversation.
            InputError: a text that is not Unicode.
        """
        options.rule_kind()
        _check_text(conversations, options)
        prompts = self.renderer.prompts(conversations)
        rooms = [self._room(options, len(prompt), place) for place, prompt in enumerate(prompts)]
        answers: dict[int, Answer] = {}
        for room in dict.fromkeys(rooms):
            places = [place for place, one in enumerate(rooms) if one == room]
            settings = settings_for(options, self.student, room)
            own = [prompts[place] for place in places]
            found = decode(self.student, own, settings, watch=_of(places, watch), names=places)
            texts = texts_of(found, self.student, settings.stop_strings)
            for place, text, decoded, prompt in zip(places, texts, found, own, strict=True):
                answers[place] = Answer(text, decoded, settings, len(prompt))
        return [answers[place] for place in range(len(prompts))]

    def _room(self, options: GenerateOptions, n_prompt: int, place: int) -> int:
        """The canvas: as asked for, or as suggested and cut to whole blocks that fit behind the prompt."""
        context = self.student.family.context_length
        room = context - n_prompt
        wanted = options.gen_length or self._gen_length
        block = options.block_length or min(self.student.family.block_causal_length or BLOCK_LENGTH, wanted)
        if options.gen_length is None and block > wanted:
            raise ConfigError(
                f"block_length {block}: longer than the canvas of {wanted} positions that is used where"
                f" gen_length is not given; expected at most {wanted}. Lower block_length, or give gen_length"
            )
        fits = wanted if options.gen_length else min(wanted, room) // block * block
        if 0 < fits <= room:
            return fits
        needed, name = (wanted, "gen_length") if options.gen_length else (block, "block_length")
        raise ConfigError(
            f"prompt {place + 1} has {n_prompt} tokens, which leaves {max(0, room)} of the student's context"
            f" of {context}; expected room for {needed} ({name}). Shorten the prompt or the conversation, or"
            f" lower {name}"
        )


def _check_text(conversations: Sequence[Sequence[Message]], options: GenerateOptions) -> None:
    """Raises InputError for half a surrogate pair, as bytes of another encoding become on a command line."""
    texts = [(message["role"], message["content"]) for messages in conversations for message in messages]
    for name, text in (*texts, *(("stop", text) for text in options.stop)):
        if half_characters(text):
            raise InputError(
                f"{name} text {text!r:.60}: holds half a surrogate pair; expected Unicode text. Write the"
                " character itself, in the terminal's encoding"
            )


def _of(places: Sequence[int], watch: Watch | None) -> Watch | None:
    """A watch of some prompts, told of them by their places among all."""
    if watch is None:
        return None
    return lambda canvases: watch({places[place]: ids for place, ids in canvases.items()})


def _suggested_length(folder: Path) -> int:
    """`max_new_tokens` of the checkpoint's generation_config.json, if it says."""
    path = folder / "generation_config.json"
    if not path.is_file():
        return GEN_LENGTH
    value = object_of(path, "generation settings; repair or remove it").get("max_new_tokens")
    if value is None:
        return GEN_LENGTH
    if type(value) is not int or value < 1:
        raise ConfigError(
            f"{path}: max_new_tokens = {value!r:.60}; expected a whole number from 1. Correct or remove it"
        )
    return value
