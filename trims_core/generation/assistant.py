"""A student that answers conversations: template in, canvas decoded, text out.

Shapes: none; everything here is about one or several conversations, the tensors are in trims_core.decoding.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trims_core.decoding import CACHES, Decoded, DecodeSettings, Sampling, decode
from trims_core.decoding.engine import Watch, texts_of
from trims_core.errors import ConfigError
from trims_core.generation.named_rules import BLOCK_LENGTH, RuleKind, make_rule
from trims_core.generation.options import GEN_LENGTH, GenerateOptions
from trims_core.hub import checkpoint_folder
from trims_core.json_files import read_object
from trims_core.rendering import Message, Renderer
from trims_core.students import Student, load_student, merge_adapter
from trims_core.students.tokenizer import token_id


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
        gen_length: canvas where the options name none; lowered by whole blocks to what the context leaves.
    """

    def __init__(self, student: Student, gen_length: int = GEN_LENGTH) -> None:
        self.student = student
        self.renderer = Renderer(student.tokenizer)
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
    ) -> Assistant:
        """The assistant of a checkpoint folder or hub name.

        Args:
            adapter: a PEFT folder under the official module names.
            dtype: auto for that of the weights on a GPU and float32 on a CPU.
            device: auto for the GPU if there is one.

        Raises:
            ConfigError: no such checkpoint or adapter, no tokenizer, or a library that is missing.
        """
        import torch

        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if dtype == "auto" and torch.device(device).type == "cpu":
            dtype = "float32"
        folder = checkpoint_folder(model, revision)
        student = load_student(
            str(folder),
            dtype=dtype,
            device=device,
            adapter=None if adapter is None else Path(adapter),
            load_in_4bit=load_in_4bit,
        )
        if adapter is not None:
            merge_adapter(student)
        return cls(student, _suggested_length(folder))

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
        """The next turn of every conversation, decoded together; told to `watch` after every forward.

        Raises:
            ConfigError: options that do not fit together, or a prompt too long for the context.
            CorpusError: the chat template refuses a conversation.
        """
        kind = options.rule_kind()
        prompts = self.renderer.prompts(conversations)
        settings = self._settings(options, kind, max(map(len, prompts), default=0))
        found = decode(self.student, prompts, settings, watch=watch)
        texts = texts_of(found, self.student, settings.stop_strings)
        return [
            Answer(text, decoded, settings, len(prompt))
            for text, decoded, prompt in zip(texts, found, prompts, strict=True)
        ]

    def _settings(self, options: GenerateOptions, kind: RuleKind, n_prompt: int) -> DecodeSettings:
        """The options for prompts of up to so many tokens, every default filled in."""
        cache = options.cache
        if cache == "auto":
            cache = "dual" if kind.caches and not options.guidance else "none"
        gen_length = self._room(options, n_prompt)
        block_length = options.block_length or min(BLOCK_LENGTH, gen_length)
        if options.block_length is None and not kind.has_blocks and cache == "none":
            block_length = gen_length
        given = {name: getattr(options, name) for name in kind.reads}
        settings = DecodeSettings(
            rule=make_rule(options.rule, given, gen_length),
            gen_length=gen_length,
            block_length=block_length,
            stop_at_end=options.stop_at_end,
            batch_size=options.batch_size,
            cache=CACHES[cache],
            sampling=Sampling(
                temperature=options.temperature,
                seed=options.seed,
                tempered_confidence=kind.tempered,
                top_p=options.top_p,
                top_k=options.top_k,
                guidance=options.guidance,
                suppress_ids=self._ids("suppress", options.suppress),
                begin_suppress_ids=self._ids("begin_suppress", options.begin_suppress),
            ),
            stop_strings=tuple(options.stop),
        )
        settings.check()
        return settings

    def _room(self, options: GenerateOptions, n_prompt: int) -> int:
        """The canvas: as asked for, or as suggested and cut to whole blocks that fit behind the prompt."""
        context = self.student.family.context_length
        room = context - n_prompt
        wanted = options.gen_length or self._gen_length
        block = options.block_length or min(BLOCK_LENGTH, wanted)
        fits = wanted if options.gen_length else min(wanted, room) // block * block
        if not 0 < fits <= room:
            raise ConfigError(
                f"the prompt has {n_prompt} tokens, which leaves {max(0, room)} of the student's context of"
                f" {context}; expected room for {wanted if options.gen_length else block}. Shorten the prompt"
                " or the conversation, or lower gen_length"
            )
        return fits

    def _ids(self, option: str, names: Iterable[str]) -> frozenset[int]:
        """Token ids of `eos`, `eot`, ids (all digits), or texts of tokens."""
        family = self.student.family
        found: set[int] = set()
        for name in names:
            number = token_id(int(name) if name.isdecimal() else name, family, self.student.tokenizer)
            if number is None:
                raise ConfigError(
                    f"{option} {name!r}: the student has no such token; expected eos, eot, a token's text"
                    f" such as {self.student.tokenizer.eos_token!r}, or an id below {family.vocab_size}"
                )
            found.add(number)
        return frozenset(found)


def _suggested_length(folder: Path) -> int:
    """`max_new_tokens` of the checkpoint's generation_config.json, if it says."""
    path = folder / "generation_config.json"
    if not path.is_file():
        return GEN_LENGTH
    value = read_object(path, "generation settings; repair or remove it").get("max_new_tokens")
    return value if type(value) is int and value > 0 else GEN_LENGTH
