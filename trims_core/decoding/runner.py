"""A loaded student that decodes many prompts: rendering, warm-up, threads, and what came of each prompt.

Knows nothing of what the prompts are for. Importing this module imports torch.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trims_core.config import StudentConfig, TemplateConfig
from trims_core.decoding.canvas import Decoded
from trims_core.decoding.engine import DecodeSettings, Names, decode, texts_of
from trims_core.decoding.parallel import decode_parallel, default_workers
from trims_core.decoding.rules import TopK
from trims_core.errors import ConfigError, SweepError
from trims_core.rendering import Renderer

if TYPE_CHECKING:
    from trims_core.benchmarks import Problem
    from trims_core.students import Merge, Student

logger = logging.getLogger(__name__)

OnStep = Callable[[int, int], None]
"""Told after every forward: finished sequences and their total."""


@dataclass(frozen=True)
class Prompt:
    """A conversation to be answered."""

    id: str
    messages: Sequence[Mapping[str, str]]
    """Without the runner's system prompt; the last message is the user's."""
    answer_prefix: str = ""
    """What the answer has already begun with."""
    chat: bool = True
    """Whether the chat template is applied; else the one message is the whole text."""


def prompts_of(problems: Iterable[Problem], system_prompt: str | None) -> list[Prompt]:
    """What some problems ask, behind a run's system prompt."""
    return [
        Prompt(problem.id, problem.conversation(system_prompt), problem.answer_prefix, problem.chat)
        for problem in problems
    ]


@dataclass(frozen=True)
class Answers:
    """What a student answered to some prompts, in their order."""

    decoded: Sequence[Decoded]
    texts: Sequence[str]
    """Up to the end token or before a stop string; without either the whole canvas."""
    n_tokens_text: Sequence[int]
    """Tokens of the texts, tokenised again."""
    seconds: float
    """Wall time of decoding alone."""

    def columns(self) -> dict[str, list[Any]]:
        """text, finished, counts, trajectory, seconds: a value per prompt, as in schema.SAMPLES and TIMES."""
        return {
            "text": list(self.texts),
            "n_tokens_canvas": [len(item.token_ids) for item in self.decoded],
            "n_tokens_text": list(self.n_tokens_text),
            **{item.name: [getattr(one, item.name) for one in self.decoded] for item in fields(Decoded)},
        }


class Runner:
    """One student, ready to decode.

    Args:
        student: with a tokenizer.
        system_prompt: put before every conversation.
        template: file, keywords and date of the chat template; default: the family's template alone.
        merge: what became of its adapter, if it has one.
    """

    def __init__(
        self,
        student: Student,
        system_prompt: str | None = None,
        template: TemplateConfig | None = None,
        merge: Merge | None = None,
    ) -> None:
        self.student = student
        self.merge = merge
        self.workers = default_workers(student)
        """Threads, each with a batch of its own."""
        self._template = template
        self._system = () if system_prompt is None else ({"role": "system", "content": system_prompt},)
        self._is_warm = False

    @cached_property
    def renderer(self) -> Renderer:
        """What makes its prompts."""
        return Renderer(self.student.tokenizer, self._template, "student")

    def render(self, prompts: Sequence[Prompt], gen_length: int, about: str) -> list[list[int]]:
        """Token ids of every prompt.

        Args:
            about: where the prompts come from, for messages: `task demo`.

        Raises:
            ConfigError: a prompt and the canvas do not fit into the student's context; names the prompt.
            CorpusError: the chat template refuses a conversation.
        """
        names = [prompt.id for prompt in prompts]
        asked = [place for place, prompt in enumerate(prompts) if prompt.chat and not prompt.answer_prefix]
        conversations = [(*self._system, *prompts[place].messages) for place in asked]
        texts = self.renderer.prompt_texts(conversations, [names[place] for place in asked])
        of_place = dict(zip(asked, texts, strict=True))
        found = self.renderer.text_ids(
            [of_place.get(place) or self._begun(prompt) for place, prompt in enumerate(prompts)]
        )
        self.check_lengths(names, found, gen_length, f"{about}: the prompt of problem")
        return found

    def _begun(self, prompt: Prompt) -> str:
        """A prompt that is plain text, or whose answer has begun."""
        messages = (*self._system, *prompt.messages) if prompt.chat else prompt.messages
        return self.renderer.open_text(messages, prompt.answer_prefix, chat=prompt.chat)

    def check_lengths(
        self, names: Sequence[str], prompts: Sequence[Sized], gen_length: int, about: str
    ) -> None:
        """Raises ConfigError where a prompt and the canvas do not fit into the student's context.

        Args:
            about: what stands before the prompt's name in the message.
        """
        context = self.student.family.context_length
        longest = max(range(len(prompts)), key=lambda place: len(prompts[place]))
        if len(prompts[longest]) > context - gen_length:
            raise ConfigError(
                f"{about} {names[longest]!r} has {len(prompts[longest])} tokens; at most"
                f" {context - gen_length} fit beside gen_length {gen_length} into the student's context of"
                f" {context}. Lower gen_length, or leave it out"
            )

    def answer(
        self,
        prompts: Sequence[Sequence[int]],
        settings: DecodeSettings,
        on_step: OnStep | None = None,
        names: Names | None = None,
        workers: int | None = None,
    ) -> Answers:
        """The answers to rendered prompts.

        Args:
            workers: threads; default: this runner's.
            names: one per prompt; noise above temperature 0 is drawn by these, so that prompts decoded in
                parts get what they would get together. Default: numbers from 0.

        Raises:
            SweepError: decoding failed.
        """
        try:
            if not self._is_warm:
                self._warm_up(prompts[0], settings)
            started = time.perf_counter()
            threads = workers or self.workers
            decoded = decode_parallel(self.student, prompts, settings, threads, on_step, names)
            seconds = time.perf_counter() - started
        except RuntimeError as error:  # torch's own, out of memory among them
            raise SweepError(str(error)) from error
        texts = texts_of(decoded, self.student, settings.stop_strings)
        again = self.student.tokenizer(texts, add_special_tokens=False)["input_ids"]
        return Answers(decoded, texts, [len(ids) for ids in again], seconds)

    def _warm_up(self, prompt: Sequence[int], settings: DecodeSettings) -> None:
        """One short decoding, so that no measured time contains what happens only once."""
        length = settings.block_length
        short = replace(settings, rule=TopK(min(2, length)), gen_length=length, batch_size=1)
        decode(self.student, [prompt], short)
        self._is_warm = True


def load_runner(wanted: StudentConfig, adapter: Path | None, system_prompt: str | None) -> Runner:
    """The student with its adapter (None: untuned), on its device, ready to decode.

    Args:
        adapter: a PEFT folder under the official module names.

    Raises:
        ConfigError: no such checkpoint or adapter, no tokenizer, or a library that is missing.
    """
    from trims_core.students import load_student, merge_adapter

    logger.info("loading %s%s", wanted.model, "" if adapter is None else f" with {adapter}")
    student = load_student(
        wanted.model,
        revision=wanted.revision,
        dtype=wanted.dtype,
        device=wanted.device,
        adapter=adapter,
        family=wanted.family,
        device_map=wanted.device_map,
        load_in_4bit=wanted.load_in_4bit,
    )
    merge = None if adapter is None else merge_adapter(student)
    return Runner(student, system_prompt, wanted, merge)
