"""`trims inspect rollouts`: a kept answer step by step, with its verdict."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes.rollout_world import GRADES, ROLLOUTS, RolloutWorld, columns
from typer.testing import CliRunner

from flows.canvas_view import MASKED
from flows.cli import app
from trims_core import schema


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with rollouts that were graded."""
    root = tmp_path_factory.mktemp("inspected")
    done = RolloutWorld(root).run(GRADES)
    found = columns(done[ROLLOUTS].artifact, schema.ROLLOUTS, "/rollouts.parquet")
    assert found["id"].count("r2") == 2
    return root / "store"


def inspect(store: Path, *words: str) -> tuple[int, str]:
    result = CliRunner().invoke(
        app, ["inspect", "rollouts", *words, "--store", str(store)], terminal_width=200
    )
    return result.exit_code, result.output + result.stderr


def test_every_step_shows_the_canvas_before_it_and_what_it_reveals(store: Path) -> None:
    code, said = inspect(store, "r2", "--rollout", "1")
    assert code == 0, said
    lines = said.splitlines()
    assert lines[0].startswith("rollouts/untuned ") and "example r2, answer 1 at temperature 1" in lines[0]
    assert lines[1].startswith("wrong, reward 0 by demo") and "right is '2'" in lines[1]
    steps = [line for line in lines if line.startswith("step ")]
    assert steps[0].startswith("step 0 reveals ") and " at " in steps[0] and "(0." in steps[0]
    first = lines[lines.index(steps[0]) + 1]
    assert first == MASKED * 12
    seen = [lines[lines.index(step) + 1].count(MASKED) for step in steps if step in lines]
    assert seen == sorted(seen, reverse=True)


def test_what_is_not_there_is_told_with_a_remedy(store: Path, tmp_path: Path) -> None:
    code, said = inspect(store, "r22")
    assert (code, "no rollout of an example of this id; did you mean 'r2'?" in said) == (66, True), said
    code, said = inspect(store, "r2", "--rollout", "2")
    assert (code, "--rollout 2: expected 0 to 1" in said) == (66, True), said
    code, said = inspect(store, "r2", "--artifact", "zz")
    assert (code, "no rollouts with a fingerprint zz" in said) == (66, True), said
    code, said = inspect(tmp_path / "none", "r2")
    assert (code, "no such store" in said) == (66, True), said


def test_rollouts_that_were_not_graded_say_so(store: Path) -> None:
    RolloutWorld(store.parent).run(ROLLOUTS, store="ungraded", limit=3, samples=1)
    assert "not graded" in inspect(store.parent / "ungraded", "r0")[1]
