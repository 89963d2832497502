"""`trims lm-eval`: the command line of lm-evaluation-harness, with a student of ours as its model."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import typer

from trims_core.errors import ConfigError, TrimsError

EXAMPLES: Final = (
    "Example:  trims lm-eval --model_args pretrained=data/demo/student,threshold=0.9,cache=dual --tasks gsm8k"
    " --apply_chat_template --output_path out   |   trims lm-eval ls tasks   |   docs/lm-eval.md"
)
SETTINGS: Final = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
"""Every word goes on to the harness, --help among them."""
_OTHERS: Final = ("ls", "validate")
logger = logging.getLogger("lm_eval.trims")
"""Below the harness's, which alone it sets up."""


def lm_eval(context: typer.Context) -> None:
    """Evaluate with lm-evaluation-harness: its own options and tasks, the model is a student."""
    words = harness_arguments(context.args)
    from lm_eval.__main__ import cli_evaluate

    import trims_core.lm_eval_model  # noqa: F401 - registers the model, or says what to install

    with _arguments(words):
        try:
            cli_evaluate()
        except TrimsError:
            raise
        except Exception as error:
            if _is_ours(error):
                raise
            logger.debug("refused by the harness", exc_info=True)
            said = str(error).strip() or type(error).__name__
            raise ConfigError(
                f"lm-eval: {said}. LMEVAL_LOG_LEVEL=DEBUG shows where that comes from"
            ) from error


def harness_arguments(given: Sequence[str]) -> list[str]:
    """The harness's arguments: its subcommand, what was given, and our model.

    Raises:
        ConfigError: another model.
    """
    words = list(given)
    if words[:1] and words[0] in _OTHERS:
        return words
    words = words[1:] if words[:1] == ["run"] else words
    for place, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name in ("--model", "-M"):
            model = value if equals else "".join(words[place + 1 : place + 2])
            if model != "trims":
                raise ConfigError(
                    f"{name} {model}: trims lm-eval evaluates the model trims; leave {name} out, or evaluate"
                    " other models with lm-eval itself"
                )
    return ["run", *words, "--model", "trims"] if words else ["run", "--help"]


@contextmanager
def _arguments(words: Sequence[str]) -> Iterator[None]:
    """The process's arguments are these inside: the harness reads no others."""
    before = sys.argv
    sys.argv = ["lm-eval", *words]
    try:
        yield
    finally:
        sys.argv = before


def _is_ours(error: BaseException) -> bool:
    """Whether an error passed through our own code: a bug. The harness refuses with errors of any kind."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(str(frame.f_globals.get("__name__")).startswith("trims_core") for frame, _ in frames)
