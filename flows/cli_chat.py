"""`trims chat`: a conversation with a student, on a terminal or line by line from a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Final

from rich.console import Console

from flows.cli_generate import (
    Model,
    ModelOptions,
    Pace,
    System,
    ending_on_interrupt,
    loading_note,
    note,
    say,
    statistics,
    view,
)
from flows.console import standard_output
from flows.option_groups import flattened
from trims_core.errors import ConfigError, TrimsError
from trims_core.generation import Conversation, GenerateOptions
from trims_core.streams import input_lines

EXAMPLES: Final = (
    "Examples:  trims chat data/demo/student   |"
    "   trims chat GSAI-ML/LLaDA-8B-Instruct --threshold 0.8 --dtype bfloat16"
)
_HELP: Final = (
    "/set NAME VALUE changes a decoding option (without VALUE: its default), /set shows what is changed,"
    " /stats sums up the conversation, /reset forgets it, /exit or Ctrl-D ends; Ctrl-C stops an answer"
)


@flattened(loading="Model", options="Decoding")
def chat(
    model: Model, loading: ModelOptions, options: GenerateOptions, system: System = None, pace: Pace = 0.0
) -> None:
    """Talk with a student; every turn sees the ones before it. /help lists the commands."""
    options.rule_kind()
    console, notes = standard_output(), Console(stderr=True)
    with ending_on_interrupt(notes):
        with loading_note(notes, model):
            assistant = loading.load(model)
        talk = _Talk(Conversation(assistant, options, system), console, notes, pace)
        if sys.stdin.isatty():
            note(notes, f"{model} · {_HELP}")
        for line in _lines(interactive=sys.stdin.isatty()):
            if not talk.hears(line):
                break


def _lines(*, interactive: bool) -> Iterator[str]:
    """What the user says, without blank lines, until the end of input or Ctrl-C at the prompt."""
    if not interactive:
        yield from (line.strip() for line in input_lines() if line.strip())
        return
    import readline  # noqa: F401 - gives input() a history

    while True:
        try:
            line = input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            sys.stdout.write("\n")
            return
        if line:
            yield line


class _Talk:
    """The conversation, and where it is shown."""

    def __init__(self, conversation: Conversation, console: Console, notes: Console, pace_s: float) -> None:
        self._conversation = conversation
        self._console = console
        self._notes = notes
        self._pace_s = pace_s

    def hears(self, line: str) -> bool:
        """Answer a line or obey it; False if it ends the conversation.

        A mistake is told and forgiven on a terminal; from a pipe it ends the command.
        """
        try:
            if line.startswith("/"):
                return self._obey(*line[1:].split(maxsplit=2))
            self._answer(line)
        except TrimsError as error:
            if not sys.stdin.isatty():
                raise
            note(self._notes, f"error: {error}")
        except KeyboardInterrupt:
            if not sys.stdin.isatty():
                raise
            note(self._notes, "stopped; this turn is forgotten")
        return True

    def _answer(self, line: str) -> None:
        watching = view(self._console, self._conversation.assistant, pace_s=self._pace_s)
        with watching or nullcontext():
            answer = self._conversation.ask(line, watching)
        say(self._console, answer.text)
        if sys.stdin.isatty():
            note(self._notes, statistics([answer], self._conversation.options.rule))

    def _obey(self, command: str = "", name: str = "", value: str = "") -> bool:
        conversation = self._conversation
        if command in ("exit", "quit"):
            return False
        if command == "reset":
            conversation.reset()
            note(self._notes, "forgotten")
        elif command == "set" and name:
            options = conversation.options.with_text(name, value)
            options.rule_kind()
            conversation.options = options
            self._tell_options()
        elif command == "set":
            self._tell_options()
        elif command == "stats":
            said = conversation.answers
            rule = conversation.options.rule
            note(self._notes, f"{len(said)} turns: {statistics(said, rule)}" if said else "no turns yet")
        elif command == "help":
            note(self._notes, _HELP)
        else:
            raise ConfigError(f"/{command}: no such command. {_HELP}")
        return True

    def _tell_options(self) -> None:
        changed = self._conversation.options.changed()
        said = ", ".join(f"{name} {value}" for name, value in changed.items())
        note(self._notes, said or "all options at their defaults")
