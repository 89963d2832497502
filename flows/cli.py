"""The `trims` command: its subcommands, and how errors end it.

Every error raised on purpose is one readable message on stderr and an exit code (see trims_core.errors);
anything else is a bug and keeps its traceback. Nothing here imports prefect or torch: commands that need them
do so when they run.
"""

from __future__ import annotations

import signal
import sys
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from typer.core import TyperGroup

from flows import (
    cli_ablate,
    cli_benchmarks,
    cli_chat,
    cli_compare,
    cli_demo,
    cli_doctor,
    cli_export,
    cli_generate,
    cli_inspect,
    cli_lm_eval,
    cli_run,
    cli_serve,
    cli_store,
    cli_view,
)
from trims_core import __version__
from trims_core.errors import InterruptedRunError, TrimsError
from trims_core.streams import lenient_output

_CONTINUES = "interrupted; what was finished is kept, the same command continues"


class _ReadableGroup(TyperGroup):
    """Turns errors raised on purpose into a message and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the subcommand."""
        previous = signal.getsignal(signal.SIGTERM)
        try:
            signal.signal(signal.SIGTERM, _on_sigterm)
            return super().invoke(ctx)
        except TrimsError as error:
            _fail(str(error), error.exit_code)
        except KeyboardInterrupt:
            _fail(_CONTINUES, InterruptedRunError.exit_code)
        finally:
            signal.signal(signal.SIGTERM, previous)


def _fail(message: str, exit_code: int) -> NoReturn:
    Console(stderr=True).print(
        f"error: {message}", style="red", markup=False, highlight=False, soft_wrap=True
    )
    raise typer.Exit(exit_code)


def _on_sigterm(_signum: int, _frame: object) -> NoReturn:
    raise InterruptedRunError(_CONTINUES)


app = typer.Typer(
    cls=_ReadableGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Trajectory-ranked fine-tuning of masked diffusion models: scores, buckets, adapters, curves.",
    epilog="Start with:  trims run configs/demo.yaml",
)


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"trims {__version__}\n")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Options before the subcommand."""


app.command("run", epilog=cli_run.EXAMPLES)(cli_run.run)
app.command("view", epilog=cli_view.EXAMPLES)(cli_view.view)
app.command("ablate", epilog=cli_ablate.EXAMPLES)(cli_ablate.ablate)
app.command("compare", epilog=cli_compare.EXAMPLES)(cli_compare.compare)
app.command("plan", epilog="Example:  trims plan configs/demo.yaml --set buckets.k=4")(cli_store.plan)
app.command("doctor", epilog=cli_doctor.EXAMPLES)(cli_doctor.doctor)
app.command("explain", epilog="Example:  trims explain configs/demo.yaml buckets --set buckets.k=4")(
    cli_store.explain
)
app.command("verify", epilog="Example:  trims verify data/store --deep")(cli_store.verify)
app.command("ls", epilog="Example:  trims ls data/store --stage scores")(cli_store.ls)
app.command("du", epilog="Example:  trims du data/store")(cli_store.du)
app.command("clean", epilog="Example:  trims clean data/store --staging --older-than 1d")(cli_store.clean)
app.command("benchmarks", epilog=cli_benchmarks.EXAMPLES)(cli_benchmarks.benchmarks)
app.command("export", epilog=cli_export.EXAMPLES)(cli_export.export)
app.command("generate", epilog=cli_generate.EXAMPLES)(cli_generate.generate)
app.command("chat", epilog=cli_chat.EXAMPLES)(cli_chat.chat)
app.command("lm-eval", epilog=cli_lm_eval.EXAMPLES, context_settings=cli_lm_eval.SETTINGS)(
    cli_lm_eval.lm_eval
)
app.command("serve", epilog="Example:  trims serve --port 4200")(cli_serve.serve)
app.add_typer(cli_inspect.app, name="inspect")
app.add_typer(cli_demo.app, name="demo")


def main() -> None:
    """Entry point of the `trims` command."""
    lenient_output()
    app(prog_name="trims")


if __name__ == "__main__":
    main()
