"""Methods with a frozen teacher or several canvases on two ranks under DeepSpeed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fakes.rounds import round_spec, round_variant, write_round
from fakes.training_runs import deepspeed_run, train_here
from fakes.training_student import same_curves, tiny_spec, tiny_train

from trims_core.config import LoraSettings
from trims_core.errors import LaunchError
from trims_core.schema import TOKENS, read_table, write_table
from trims_core.variants import D2fVariant, TadVariant

LORA = LoraSettings(r=4, alpha=8, dropout=0.0)


def told_the_answer(shards: tuple[Path, ...], folder: Path) -> tuple[Path, ...]:
    """The prompts of TAD's teacher: three tokens more than the student reads."""
    rows = read_table(shards[0], TOKENS).to_pydict()
    rows["input_ids"] = [[5, 6, 7, *ids] for ids in rows["input_ids"]]
    rows["prompt_length"] = [length + 3 for length in rows["prompt_length"]]
    path = folder / "references.parquet"
    write_table(path, TOKENS, rows)
    return (path,)


@pytest.mark.e2e
@pytest.mark.parametrize("method", ["tad", "d2f"])
def test_two_ranks_train_what_one_process_does(method: str, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"variant": D2fVariant(block_length=4)}
    if method == "tad":
        changes = {**write_round(tmp_path / "rollouts"), "variant": TadVariant(window=1)}
        changes |= {"keeps_moments": False, "references": told_the_answer(changes["shards"], tmp_path)}
    train = tiny_train(max_steps=4, save_steps=4, length_window=1, lora=LORA)
    alone = train_here(tiny_spec(tmp_path / "alone", train=train, **changes))
    together, _ = deepspeed_run(tmp_path / "two", 2, spec_changes=changes)
    assert same_curves(alone, together, 1e-4, split=True)


@pytest.mark.e2e
def test_a_killed_round_with_partitioned_weights_goes_on_and_is_the_round_of_one_process(
    tmp_path: Path, project_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = json.loads((project_root / "configs" / "deepspeed" / "zero3.json").read_text())
    settings["zero_optimization"]["stage3_param_persistence_threshold"] = (
        0  # else tensors this small stay whole
    )
    path = tmp_path / "zero3.json"
    path.write_text(json.dumps(settings))
    alone = train_here(round_spec(tmp_path / "alone"))
    changes = {**write_round(tmp_path / "round"), "variant": round_variant()}
    options = {"spec_changes": changes, "save_steps": 2, "lora": LORA, "deepspeed": str(path)}
    monkeypatch.setenv("TRIMS_FAULT", "train.after_step:kill:3")
    with pytest.raises(LaunchError, match="SIGKILL"):
        deepspeed_run(tmp_path / "two", 2, **options)
    monkeypatch.delenv("TRIMS_FAULT")
    together, notes = deepspeed_run(tmp_path / "two", 2, **options)
    assert "continuing at step 2" in notes
    assert same_curves(alone, together, relative=1e-4, split=True)
