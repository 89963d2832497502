"""`trims inspect`: what a store keeps of a single example, for the eye."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from flows.canvas_view import canvas_text
from flows.cli_store import DEFAULT_STORE, opened_store
from flows.console import standard_output

EXAMPLES: Final = (
    "Examples:  trims inspect rollouts r17   |   trims inspect rollouts r17 --rollout 2 --store data/store"
)

app = typer.Typer(no_args_is_help=True, help="Show what a store keeps of a single example.")


@app.callback()
def _group() -> None:
    """Show what a store keeps of a single example."""


@app.command("rollouts", epilog=EXAMPLES)
def rollouts(
    example: Annotated[str, typer.Argument(help="Id of the example in the corpus.", metavar="ID")],
    rollout: Annotated[int, typer.Option(min=0, help="Which of the answers to its prompt.")] = 0,
    store: Annotated[Path, typer.Option(help="The store's folder.")] = DEFAULT_STORE,
    artifact: Annotated[
        str, typer.Option(metavar="FINGERPRINT", help="Of these rollouts (see ls); default: the newest.")
    ] = "",
) -> None:
    """Show the student's answer to an example's prompt step by step: canvas, tokens, probabilities."""
    from trims_core.rollouts.steps import find_rollout, steps_of
    from trims_core.students import load_student_tokenizer

    found = find_rollout(opened_store(store), example, rollout, artifact)
    student = found.artifact.manifest.full_config["student"]
    tokenizer, family = load_student_tokenizer(student["model"], student["revision"], student["family"])
    console = standard_output()

    def text_of(ids: list[int]) -> str:
        text: str = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text

    for line in _about(found):
        _say(console, line)
    for step in steps_of(found.row, family.mask_id):
        shown = ", ".join(
            f"{text_of([one.token])!r} at {one.place} ({one.probability:.3f})" for one in step.revealed
        )
        _say(console, f"step {step.number} reveals {shown}, seeing")
        seen = canvas_text(step.before, step.before, family.mask_id, family.end_ids, text_of)
        console.print(seen, highlight=False, soft_wrap=True)
    _say(console, f"answer: {found.row['text']}")


def _about(found: Any) -> list[str]:
    row, grade = found.row, found.grade
    end = "" if row["finished"] else ", no end token"
    lines = [
        f"{found.artifact.manifest.node} {found.artifact.fingerprint[:12]}, example {row['id']}, answer"
        f" {row['rollout']} at temperature {row['temperature']:g}: {row['n_tokens']} tokens in"
        f" {row['n_forwards']} forwards{end}"
    ]
    if grade is None:
        return [*lines, "not graded"]
    reward = "" if grade["reward"] is None else f", reward {grade['reward']:g}"
    gold = "" if grade["gold"] is None else f"; found {grade['extracted']!r}, right is {grade['gold']!r}"
    return [*lines, f"{grade['verdict']}{reward} by {grade['grader']}{gold}"]


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)
