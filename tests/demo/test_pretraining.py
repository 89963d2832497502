"""Training from scratch: masks, rates, and a run that continues where it was killed."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from trims_core.demo import models
from trims_core.demo.models import RECIPES, new_trainer, train_models, train_role
from trims_core.demo.pretraining import (
    SEEN_WORDS_RATE,
    Backbone,
    Recipe,
    Role,
    digit_ids,
    draw_batch,
    draw_masks,
    learning_rate,
    mask_as_in_pretraining,
)
from trims_core.demo.tokenizers import student_tokenizer
from trims_core.students import load_student

SEED = 3


def tiny(role: Role, steps: int = 4) -> Recipe:
    return dataclasses.replace(
        RECIPES[role],
        steps=steps,
        rows=4,
        log_every=1,
        warmup_steps=2,
        compile=False,
        sums_in_order_from=2,
        polish_steps=0,
    )


def test_a_recipe_with_more_steps_is_the_same_until_its_decay() -> None:
    short, long = tiny("student", 100), tiny("student", 200)
    assert [learning_rate(short, i) for i in range(70)] == [learning_rate(long, i) for i in range(70)]
    assert learning_rate(short, 99) < 0.1 * short.learning_rate


def test_a_polish_follows_the_decay_and_ends_at_zero() -> None:
    plain = tiny("student", 100)
    polished = dataclasses.replace(plain, polish_steps=50, polish_rate=1e-3)
    rates = [learning_rate(polished, i) for i in range(polished.all_steps)]
    assert rates[:100] == [learning_rate(plain, i) for i in range(100)]
    assert rates[100] == 1e-3
    assert 0 < rates[149] < rates[148] < rates[101] < 1e-3


def test_a_step_draws_the_same_rows_every_time_and_others_at_the_next() -> None:
    tokenizer, recipe = student_tokenizer(SEED), tiny("student")
    first, again, later = (draw_batch(recipe, tokenizer, SEED, step).ids_BL for step in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, later)


def test_masks_hide_answer_tokens_only_at_their_rate() -> None:
    recipe = dataclasses.replace(tiny("student"), rows=256, sums_in_order_from=None)
    batch = draw_batch(recipe, student_tokenizer(SEED), SEED, 0)
    masked_BL, rate_BL = draw_masks(batch, torch.Generator().manual_seed(0))
    answer_BL = torch.arange(recipe.width) >= batch.answer_start_B[:, None]
    assert not (masked_BL & ~answer_BL).any()
    expected, seen = rate_BL[answer_BL].mean(), masked_BL[answer_BL].float().mean()
    assert abs(expected - seen) < 0.02
    rates_B = rate_BL[:, 0].sort().values
    assert torch.equal(rate_BL, rate_BL[:, :1].expand_as(rate_BL))
    assert (rates_B.diff() < 2 / 256).all()


def test_one_answer_is_masked_as_the_pre_training_does_it() -> None:
    tokenizer = student_tokenizer(SEED)
    recipe = dataclasses.replace(tiny("student"), rows=4, sums_in_order_from=0)
    batch = draw_batch(recipe, tokenizer, seed=0, step=0)
    ids_C = batch.ids_BL[0, batch.answer_start_B[0] : batch.answer_end_B[0]]
    digit_C = torch.isin(ids_C, digit_ids(tokenizer))
    n_ordered = 0
    for seed in range(200):
        generator = torch.Generator().manual_seed(seed)
        masked_C, rate_C = mask_as_in_pretraining(ids_C, tokenizer, generator)
        hidden = masked_C[digit_C]
        n_hidden = int(hidden.sum())
        in_order = n_hidden > 0 and bool(hidden[-n_hidden:].all()) and rate_C.unique().numel() == 2
        n_ordered += in_order
        if in_order:
            # the rate of digits is their hidden share, so that 1/rate weighs every digit by 1 on average
            assert rate_C[digit_C].unique().item() == pytest.approx(n_hidden / len(hidden))
            assert rate_C[~digit_C].max() <= SEEN_WORDS_RATE
    assert 120 <= n_ordered <= 180


def test_sums_in_order_hide_all_digits_from_a_result_on() -> None:
    recipe = dataclasses.replace(tiny("student"), rows=64, sums_in_order_from=0)
    tokenizer = student_tokenizer(SEED)
    batch = draw_batch(recipe, tokenizer, SEED, 0)
    masked_BL, rate_BL = draw_masks(batch, torch.Generator().manual_seed(0))
    answer_BL = torch.arange(recipe.width) >= batch.answer_start_B[:, None]
    digit_BL = torch.isin(batch.ids_BL, digit_ids(tokenizer)) & answer_BL
    for row in (1, 2, 3, 5):
        hidden = masked_BL[row][digit_BL[row]].int()
        assert hidden.any()
        assert (hidden.diff() >= 0).all()
        first = int((masked_BL[row] & digit_BL[row]).nonzero()[0])
        assert tokenizer.decode([int(batch.ids_BL[row, first - 1])]).strip() == "="
        assert rate_BL[row][digit_BL[row]][0] == hidden.float().mean()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models of a sixteenth: products in bfloat16 are slow on many CPUs."""
    monkeypatch.setattr(models, "HIDDEN_SIZE", 32)
    monkeypatch.setattr(models, "MLP_SIZE", 80)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("role", ["teacher", "student"])
def test_a_killed_training_continues_to_the_same_weights(tmp_path: Path, role: Role) -> None:
    def quiet(*_: object) -> None:
        return None

    whole = new_trainer(role, SEED, tmp_path / "whole", tiny(role))
    whole.run(quiet)
    killed = new_trainer(role, SEED, tmp_path / "killed", tiny(role))

    train_step = killed._train_step

    def train_twice_then_die(backbone: Backbone, rate: float) -> float:
        if killed.step == 2:
            raise KeyboardInterrupt
        return train_step(backbone, rate)

    killed._train_step = train_twice_then_die
    with pytest.raises(KeyboardInterrupt):
        killed.run(quiet)
    killed.save()  # what the last periodic save would have left
    resumed = new_trainer(role, SEED, tmp_path / "killed", tiny(role))
    resumed.run(quiet)
    assert resumed.step == 4
    for (name, a), b in zip(whole.model.named_parameters(), resumed.model.parameters(), strict=True):
        if name.endswith("norm.weight") or a.ndim == 2:
            torch.testing.assert_close(a, b, atol=1e-3, rtol=0)


@pytest.mark.usefixtures("small")
def test_the_command_writes_checkpoints_that_load_and_reports_every_end(tmp_path: Path) -> None:
    notes: list[tuple[str, int, int]] = []
    recipes: dict[Role, Recipe] = {"teacher": tiny("teacher", 2), "student": tiny("student", 2)}

    def train() -> dict[str, Path]:
        return train_models(
            tmp_path / "demo",
            SEED,
            lambda *note: notes.append(note),
            workers=1,
            recipes=recipes,
            n_measured=2,
        )

    folders = train()
    # a slow machine is told more often, between the ends too
    ends = [note[1:] for note in notes if "measuring" not in note[0] and note[1] in (0, 2)]
    assert [end for end, _ in itertools.groupby(ends)] == [(0, 2), (2, 2), (0, 2), (2, 2)]
    student = load_student(str(folders["student"]), dtype="auto")
    assert student.model.dtype == torch.bfloat16
    assert student.tokenizer.mask_token_id == student.family.mask_id
    card = (folders["student"] / "README.md").read_text()
    assert "confidence ≥ 0.9" in card
    log = (folders["teacher"] / "training_log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in log] == [1, 2]
    before = load_file(folders["student"] / "model.safetensors")
    train()
    after = load_file(folders["student"] / "model.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_two_workers_train_the_same_model_as_one(tmp_path: Path) -> None:
    trained = []
    for workers in (1, 2):
        work = tmp_path / str(workers)
        work.mkdir()
        train_role("student", SEED, work, tiny("student", 2), workers, lambda *_: None)
        trainer = new_trainer("student", SEED, work, tiny("student", 2))
        assert trainer.load()
        trained.append(trainer)
    one, two = trained
    assert [entry["loss"] for entry in two.log] == pytest.approx(
        [entry["loss"] for entry in one.log], rel=1e-2
    )
    for a, b in zip(one.model.parameters(), two.model.parameters(), strict=True):
        # bfloat16 rounds other shapes otherwise; a worker left out would differ by whole updates (about 2e-3)
        assert (a - b).abs().mean() < 2e-4
