"""`trims demo corpus | problems | models`: make the small world that configs/demo.yaml uses."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

import typer
from rich.console import Console

from flows.console import display, standard_output
from flows.option_groups import filled_in
from trims_core.demo import DEFAULT_SEED, write_corpus, write_problems

app = typer.Typer(
    no_args_is_help=True,
    help="Make the demo's data and models again (data/demo ships them; this is how they came about).",
)
Out = Annotated[Path, typer.Option(callback=filled_in, metavar="FOLDER", help="Where to write.")]
Seed = Annotated[int, typer.Option(help="The same seed writes the same corpus and starts the same models.")]
_Role = Literal["all", "teacher", "student"]
_DEFAULT_OUT: Final = Path("data/demo")


@app.command(epilog="Example:  trims demo corpus --out /tmp/demo")
def corpus(out: Out = _DEFAULT_OUT, seed: Seed = DEFAULT_SEED) -> None:
    """Write train.jsonl and test.jsonl: word problems with worked answers."""
    _say(standard_output(), write_corpus(out, seed))


@app.command(
    epilog="Example:  trims demo problems /tmp/final.jsonl --seed 2026 --without data/demo/test.jsonl"
)
def problems(
    out: Annotated[Path, typer.Argument(callback=filled_in, metavar="OUT.jsonl", help="The file to write.")],
    count: Annotated[int, typer.Option(min=1, help="How many problems.")] = 2000,
    seed: Annotated[int, typer.Option(help="The same arguments write the same bytes.")] = 2026,
    prefix: Annotated[str, typer.Option(help="Of the ids: <prefix>-00000, …")] = "final",
    without: Annotated[
        list[Path] | None,
        typer.Option(
            callback=filled_in, metavar="FILE.jsonl", help="No question of this file occurs; may be repeated."
        ),
    ] = None,
) -> None:
    """Write a fresh set of held-out problems, in the format of test.jsonl."""
    _say(standard_output(), {f"{count} problems": write_problems(out, count, seed, prefix, without or ())})


@app.command(epilog="Example:  trims demo models --only student --work /tmp/work")
def models(
    out: Out = _DEFAULT_OUT,
    seed: Seed = DEFAULT_SEED,
    only: Annotated[_Role, typer.Option(help="Train only one of the two.")] = "all",
    work: Annotated[
        Path | None, typer.Option(callback=filled_in, metavar="FOLDER", help="For checkpoints.")
    ] = None,
) -> None:
    """Train teacher and student from scratch (hours on two cores); the same command continues."""
    console = standard_output()
    label = "demo models"
    with display(console) as shown:
        shown.started(label)
        from trims_core.demo import train_models

        written = train_models(
            out, seed, lambda note, done, total: shown.progressed(label, done, total, note), only, work
        )
    _say(console, written)


def _say(console: Console, written: dict[str, Path]) -> None:
    for name, path in written.items():
        console.print(f"{name}: {path}", markup=False, highlight=False, soft_wrap=True)
