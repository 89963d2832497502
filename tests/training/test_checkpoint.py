"""Which checkpoints count as whole."""

from __future__ import annotations

import json

import pytest

from trims_core.errors import CheckpointError
from trims_core.training.checkpoint import (
    Checkpoint,
    check_world_size,
    find_complete_checkpoint,
    mark_complete,
    prune,
)


def save(folder, step, *, marked=True, world_size=1):
    """A checkpoint of three files."""
    path = folder / f"checkpoint-{step}"
    (path / "global_step").mkdir(parents=True)
    for name in ("state.json", "weights", "global_step/shard"):
        (path / name).write_text(name)
    if marked:
        mark_complete(path, step, world_size)
    return path


def test_the_newest_marked_one_is_found_by_number_not_by_name(tmp_path):
    for step in (9, 10, 8):
        save(tmp_path, step, world_size=2)
    assert find_complete_checkpoint(tmp_path) == Checkpoint(tmp_path / "checkpoint-10", 10, 2)


def test_nothing_is_found_where_nothing_is(tmp_path):
    assert find_complete_checkpoint(tmp_path) is None
    assert find_complete_checkpoint(tmp_path / "absent") is None


def damage_unmarked(path):
    (path / "COMPLETE").unlink()


def damage_mark(path):
    (path / "COMPLETE").write_text("{")


def damage_missing(path):
    (path / "global_step" / "shard").unlink()


def damage_short(path):
    (path / "weights").write_text("w")


def damage_stateless(path):
    mark = json.loads((path / "COMPLETE").read_text())
    del mark["files"]["state.json"]
    (path / "COMPLETE").write_text(json.dumps(mark))


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (damage_unmarked, "no COMPLETE mark"),
        (damage_mark, "its COMPLETE mark is not JSON"),
        (damage_missing, "global_step/shard is missing"),
        (damage_short, "weights has 1 bytes, expected 7"),
        (damage_stateless, "its mark lists no state.json"),
    ],
)
def test_a_damaged_one_is_skipped_for_the_one_before_and_the_log_says_why(tmp_path, caplog, damage, why):
    save(tmp_path, 1)
    damage(save(tmp_path, 2))
    found = find_complete_checkpoint(tmp_path)
    assert found is not None and found.step == 1
    assert f"checkpoint-2 is skipped: {why}" in caplog.text


def test_pruning_keeps_the_newest_whole_ones_and_never_counts_torn_ones(tmp_path):
    for step in (1, 2, 3):
        save(tmp_path, step)
    save(tmp_path, 4, marked=False)
    prune(tmp_path, n_kept=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint-2",
        "checkpoint-3",
        "checkpoint-4",
    ]


def test_pruning_leaves_a_single_whole_one_alone(tmp_path):
    save(tmp_path, 1, marked=False)
    save(tmp_path, 2)
    prune(tmp_path, n_kept=2)
    assert find_complete_checkpoint(tmp_path) is not None


def test_another_world_size_is_refused_with_both_ways_on(tmp_path):
    save(tmp_path, 7, world_size=2)
    found = find_complete_checkpoint(tmp_path)
    assert found is not None
    check_world_size(found, 2)
    with pytest.raises(CheckpointError, match=r"by 2 .* has 1;.*processes to 2 .*step 7, or remove"):
        check_world_size(found, 1)
