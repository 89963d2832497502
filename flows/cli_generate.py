"""`trims generate`: answers to prompts, the canvas shown on a terminal while it is decoded."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console

from flows.console import standard_output
from flows.option_groups import finite, flattened
from trims_core.errors import ConfigError
from trims_core.generation import GenerateOptions
from trims_core.generation.options import option
from trims_core.settings import template_config
from trims_core.streams import input_lines, is_unicode

if TYPE_CHECKING:
    from flows.canvas_view import CanvasView
    from trims_core.generation import Answer, Assistant

EXAMPLES: Final = (
    'Examples:  trims generate data/demo/student --prompt "Leo has 3 boxes with 4 pens each. How many pens?"'
    "   |   trims generate GSAI-ML/LLaDA-8B-Instruct --adapter out/adapter --threshold 0.8 --prompt - < q.txt"
)
INTERRUPTED_CODE: Final = 130


@dataclass(frozen=True)
class ModelOptions:
    """How a student is loaded."""

    adapter: str | None = option(None, "PEFT folder under the official module names.")
    revision: str | None = option(None, "Of a hub model.")
    dtype: str = option("auto", "Torch dtype; auto: the weights' own on a GPU, float32 on a CPU.")
    device: str = option("auto", "Torch device; auto: the GPU if there is one.")
    load_in_4bit: bool = option(False, "Quantise linear layers to NF4 (needs bitsandbytes).")
    template_file: str | None = option(None, "Jinja file in place of the family's chat template.")
    template: tuple[str, ...] = option(
        (), "Keyword of the chat template, as in enable_thinking=false; may be repeated."
    )

    def load(self, model: str) -> Assistant:
        """The student, ready to answer."""
        # threads that sleep while they wait: on shared cores spinning ones make a small student far slower
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        from transformers.utils import logging as transformers_logging

        from trims_core.generation import Assistant

        transformers_logging.disable_progress_bar()
        return Assistant.load(
            model,
            self.adapter,
            revision=self.revision,
            dtype=self.dtype,
            device=self.device,
            load_in_4bit=self.load_in_4bit,
            template=template_config(self.template, self.template_file),
        )


Model = Annotated[str, typer.Argument(help="Checkpoint folder or hub name.", metavar="MODEL")]
System = Annotated[str | None, typer.Option(metavar="TEXT", help="System prompt.")]
Pace = Annotated[
    float,
    typer.Option(
        min=0.0,
        callback=finite,
        metavar="SECONDS",
        help="At least so long per forward drawn on a terminal.",
    ),
]


@flattened(loading="Model", options="Decoding")
def generate(
    model: Model,
    prompt: Annotated[
        list[str],
        typer.Option(metavar="TEXT", help="What to ask; - reads standard input; may be repeated: a batch."),
    ],
    loading: ModelOptions,
    options: GenerateOptions,
    system: System = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One line of JSON per prompt, with every position's reveal step.")
    ] = False,
    pace: Pace = 0.0,
) -> None:
    """Answer prompts; text on standard output, statistics on standard error."""
    options.rule_kind()
    prompts = _prompts(prompt)
    opening = [] if system is None else [{"role": "system", "content": system}]
    conversations = [[*opening, {"role": "user", "content": text}] for text in prompts]
    console, notes = standard_output(), Console(stderr=True)
    with ending_on_interrupt(notes):
        with loading_note(notes, model):
            assistant = loading.load(model)
        headings = prompts if len(prompts) > 1 else []
        watching = None if as_json else view(console, assistant, headings, pace)
        with watching or nullcontext():
            answers = assistant.answers(conversations, options, watching)
    if as_json:
        for text, answer in zip(prompts, answers, strict=True):
            line = json.dumps(described(text, answer), ensure_ascii=not is_unicode(sys.stdout))
            sys.stdout.write(f"{line}\n")
        return
    for place, answer in enumerate(answers):
        if headings:
            _heading(console, headings[place], first=place == 0)
        say(console, answer.text)
    note(notes, statistics(answers, options.rule))


def _prompts(given: Sequence[str]) -> list[str]:
    """The texts; the one that is - from standard input."""
    if list(given).count("-") > 1:
        raise ConfigError("--prompt - twice: standard input can be read once")
    texts = ["".join(input_lines()).strip() if text == "-" else text for text in given]
    if "" in texts:
        where = "standard input" if given[texts.index("")] == "-" else "--prompt"
        raise ConfigError(f"{where} is empty; expected a text to answer")
    return texts


def _heading(console: Console, prompt: str, *, first: bool) -> None:
    """Above each answer of a batch: its prompt on a terminal, a blank line between two elsewhere."""
    if not first:
        say(console, "")
    if console.is_terminal:
        console.print(prompt, style="dim", markup=False, highlight=False, soft_wrap=True)


@contextmanager
def ending_on_interrupt(notes: Console) -> Iterator[None]:
    """Ctrl-C inside ends the command with a word, not a traceback."""
    try:
        yield
    except KeyboardInterrupt:
        note(notes, "interrupted")
        raise typer.Exit(INTERRUPTED_CODE) from None


def loading_note(notes: Console, model: str) -> Any:
    """On a terminal, a word that the student is being loaded."""
    return notes.status(f"loading {model}") if notes.is_terminal else nullcontext()


def view(
    console: Console, assistant: Assistant, headings: Sequence[str] = (), pace_s: float = 0.0
) -> CanvasView | None:
    """What draws the canvases; None where nobody could see them move."""
    if not console.is_terminal or console.is_dumb_terminal:
        return None
    from flows.canvas_view import CanvasView

    family, tokenizer = assistant.student.family, assistant.student.tokenizer

    def to_text(ids: list[int]) -> str:
        return str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    return CanvasView(console, family.mask_id, family.end_ids, to_text, headings, pace_s)


def say(console: Console, text: str) -> None:
    """The text as it is."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def note(notes: Console, text: str) -> None:
    """A line beside the answers."""
    notes.print(text, style="dim", markup=False, highlight=False, soft_wrap=True)


def statistics(answers: Sequence[Answer], rule: str) -> str:
    """One line: tokens, forwards, their ratio, speed, and what they were decoded with."""
    tokens = sum(answer.n_tokens for answer in answers)
    forwards = sum(answer.n_forwards for answer in answers)
    seconds = sum(answer.seconds for answer in answers)
    settings = answers[-1].settings
    blocks = settings.rule.block_lengths(settings.gen_length, settings.block_length)
    of = f"{len(blocks)} of {blocks[0]}" if len(set(blocks)) == 1 else "+".join(map(str, blocks))
    unfinished = sum(not answer.decoded.finished for answer in answers)
    parts = [
        f"{tokens} tokens in {forwards} forwards",
        f"{tokens / forwards:.2f} tokens per forward",
        f"{tokens / seconds:,.0f} tokens per second",
        f"rule {rule}",
        f"cache {settings.cache.name}",
        f"canvas {settings.gen_length} (blocks: {of})",
    ]
    if unfinished:
        parts.append(f"{unfinished} without an end token")
    return " · ".join(parts)


def described(prompt: str, answer: Answer) -> dict[str, Any]:
    """An answer as the line of `--json`."""
    settings, decoded = answer.settings, answer.decoded
    return {
        "prompt": prompt,
        "text": answer.text,
        "tokens": answer.n_tokens,
        "forwards": answer.n_forwards,
        "tpf": answer.tokens_per_forward,
        "tokens_per_second": answer.tokens_per_second,
        "seconds": answer.seconds,
        "finished": decoded.finished,
        "prompt_tokens": answer.n_prompt,
        "rule": repr(settings.rule),
        "cache": settings.cache.name,
        "gen_length": settings.gen_length,
        "block_length": settings.block_length,
        "batch_size": settings.batch_size,
        "token_ids": decoded.token_ids,
        "reveal_step": decoded.reveal_step,
        "confidence": decoded.confidence,
        "entropy": decoded.entropy,
    }
