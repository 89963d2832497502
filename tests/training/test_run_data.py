"""What ranks train and validate on: together the same as one rank alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from fakes.training_student import EOS_ID, MASK_ID, tiny_spec, tiny_train

from trims_core.errors import ConfigError
from trims_core.training.data import run_data
from trims_core.training.examples import load_examples
from trims_core.training.method import Context
from trims_core.training.sequences import View
from trims_core.training.sources import source_of
from trims_core.training.world import World


@pytest.fixture
def data_of(tmp_path):
    """(rank, size) → the data of that rank."""
    spec = tiny_spec(tmp_path, train=tiny_train(length_window=2))
    examples = load_examples(source_of(spec), "descending", 0, 64, tmp_path)
    context = Context(spec.train, spec.ends, spec.n_buckets, MASK_ID, "llada")
    return lambda rank, size: run_data(
        spec, examples, context, EOS_ID, World(rank, size, torch.device("cpu"))
    )


@pytest.mark.parametrize("size", [2, 4])
def test_ranks_together_see_exactly_the_micro_batches_of_one_rank(data_of, size):
    alone, ranks = data_of(0, 1), [data_of(rank, size) for rank in range(size)]
    for step in range(alone.n_steps):
        turns = zip(*(data.train(step) for data in ranks), strict=True)
        together = [one.ids for turn in turns for one in turn]
        assert together == [one.ids for one in alone.train(step)]


def test_micro_batches_know_how_far_the_run_is(data_of):
    data = data_of(0, 1)
    assert [data.train(step)[0].progress for step in range(data.n_steps)] == [
        step / data.n_steps for step in range(data.n_steps)
    ]


def test_ends_leave_what_a_reference_reads_within_max_length(tmp_path):
    spec = tiny_spec(tmp_path, train=tiny_train())
    examples = load_examples(source_of(spec), "descending", 0, 64, tmp_path)
    behind = examples.lengths - examples.prompt_lengths
    told = replace(examples, references=[np.ones(63 - n, np.int32) for n in behind])
    context = Context(spec.train, spec.ends, spec.n_buckets, MASK_ID, "llada")
    n_ends = []
    for given in (examples, told):
        data = run_data(spec, given, context, EOS_ID, World(0, 1, torch.device("cpu")))
        sequences = [one for step in range(data.n_steps) for one in data.train(step)]
        n_ends.append(max(int(one.end_BL.sum(1).max()) for one in sequences))
    assert n_ends[0] > 1 == n_ends[1]
    for one in sequences:
        canvas = one.behind_reference(View(one.target_BL, one.end_BL, one.end_BL.float(), 0), EOS_ID)
        assert canvas.noisy_BL.shape[1] <= 64


def test_held_out_examples_are_never_trained_on_and_all_ranks_know_all_of_them(data_of):
    data = data_of(1, 2)
    held_out = [name for i in range(data.n_validation) for name in data.validation(i).ids]
    assert sorted(held_out) == sorted(data.validation_ids) and len(held_out) == 4
    trained = {name for step in range(data.n_steps) for part in data.train(step) for name in part.ids}
    assert not trained & set(held_out)


def test_a_batch_that_does_not_divide_is_refused(data_of):
    with pytest.raises(ConfigError, match="not a multiple of micro_batch_size 2 × 3"):
        data_of(0, 3)
