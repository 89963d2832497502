"""From bucket shards to tensors: truncation, padding, masks and weights of a micro-batch."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from fakes.training_student import EOS_ID, MASK_ID, N_BUCKETS, tiny_train, write_bucket_shards

from trims_core.config import VariantConfig
from trims_core.errors import InputError, SchemaError
from trims_core.schema import BUCKETS, write_table
from trims_core.training.data import MaskedExamples, load_examples
from trims_core.training.plan import Entry, Padding, Schedule

TRIMS = VariantConfig()


def write_rows(path, *rows):
    """One shard of (id, input_ids, prompt_length, buckets)."""
    columns = {
        "id": [row[0] for row in rows],
        "input_ids": [row[1] for row in rows],
        "prompt_length": [row[2] for row in rows],
        "difficulty_nats": [[0.5] * len(row[3]) for row in rows],
        "bucket": [row[3] for row in rows],
    }
    write_table(path, BUCKETS, columns)
    return path


def load(paths, variant=TRIMS, max_length=64, seed=0):
    return load_examples(paths, N_BUCKETS, variant, seed, max_length)


def batches(examples, config, variant=TRIMS, *, epoch=0, entries=None, validation=(), micro=4):
    """All micro-batches of one global batch over `entries` (default: all examples)."""
    schedule = Schedule(
        examples.ids,
        examples.prompt_lengths,
        examples.lengths,
        range(len(examples.ids)),
        seed=0,
        batch_size=8,
        micro_batch_size=micro,
        padding=Padding(config.supervise_padding, config.pad_to_multiple_of, config.max_length),
    )
    dataset = MaskedExamples(
        examples, config, variant, 0, mask_id=MASK_ID, pad_id=EOS_ID, validation=validation
    )
    chosen = range(len(examples.ids)) if entries is None else entries
    return [dataset[part] for part in schedule.cut([Entry(i, epoch) for i in chosen], 0)]


def test_examples_do_not_depend_on_the_number_of_shards(tmp_path):
    one = load(write_bucket_shards(tmp_path / "one", n_shards=1))
    rows = {
        name: (ids, bucket) for name, ids, bucket in zip(one.ids, one.input_ids, one.buckets, strict=True)
    }
    shards = []
    for part in range(5):
        names = one.ids[part::5]
        shards.append(
            write_rows(
                tmp_path / f"{part}.parquet",
                *(
                    (n, rows[n][0].tolist(), len(rows[n][0]) - len(rows[n][1]), rows[n][1].tolist())
                    for n in names
                ),
            )
        )
    many = load(shards[::-1])
    assert many.ids == one.ids
    for variant in (TRIMS, VariantConfig(order="random")):
        left, right = load(shards, variant), load(shards[::-1], variant)
        assert all(np.array_equal(a, b) for a, b in zip(left.buckets, right.buckets, strict=True))


def test_truncation_cuts_the_end_of_the_completion_and_is_counted(tmp_path, caplog):
    shard = write_rows(
        tmp_path / "a.parquet",
        ("long", [1, 2, 3, 4, 5, 6, 7], 2, [1, 2, 3, 4, 4]),
        ("only-prompt", [1, 2, 3, 4, 5, 6], 5, [1]),
        ("fits", [1, 2, 3], 1, [1, 2]),
    )
    with caplog.at_level(logging.WARNING):
        examples = load([shard], max_length=5)
    assert examples.ids == ["fits", "long"]
    assert examples.input_ids[1].tolist() == [1, 2, 3, 4, 5] and examples.buckets[1].tolist() == [1, 2, 3]
    assert (examples.n_truncated, examples.n_without_completion) == (1, 1)
    assert "only-prompt" in caplog.text


def test_nothing_left_within_max_length_is_an_error_that_names_it(tmp_path):
    shard = write_rows(tmp_path / "a.parquet", ("a", [1, 2, 3], 2, [1]))
    with pytest.raises(InputError, match="max_length 2"):
        load([shard], max_length=2)


@pytest.mark.parametrize(("bucket", "message"), [([1], "1 buckets for 2"), ([1, 9], "1…9")])
def test_buckets_that_do_not_fit_are_refused_with_id_and_remedy(tmp_path, bucket, message):
    shard = write_rows(tmp_path / "a.parquet", ("odd", [1, 2, 3], 1, bucket))
    with pytest.raises(SchemaError, match=rf"'odd'.*{message}.*--refresh buckets"):
        load([shard])


def test_prompts_are_never_masked_and_only_masked_positions_have_weight(tmp_path):
    examples = load(write_bucket_shards(tmp_path))
    everything = VariantConfig(rho=1.0, p_low=1.0, p_high=1.0)
    for supervise in (True, False):
        config = tiny_train(supervise_padding=supervise)
        for batch in batches(examples, config, everything):
            for row, name in enumerate(batch.ids):
                index = examples.ids.index(name)
                prompt, length = examples.prompt_lengths[index], examples.lengths[index]
                end = batch.target_BL.shape[1] if supervise else length
                expected = torch.zeros(batch.target_BL.shape[1], dtype=torch.bool)
                expected[prompt:end] = True
                assert torch.equal(batch.masked_BL[row], expected)
            assert torch.equal(batch.weight_BL > 0, batch.masked_BL)
            assert torch.equal(batch.noisy_BL == MASK_ID, batch.masked_BL)
            assert torch.equal(batch.noisy_BL[~batch.masked_BL], batch.target_BL[~batch.masked_BL])


def test_pads_are_end_tokens_attended_if_supervised_and_hidden_from_attention_if_not(tmp_path):
    examples = load(write_bucket_shards(tmp_path))
    for supervise in (True, False):
        batch = batches(examples, tiny_train(supervise_padding=supervise), micro=20)[0]
        lengths = torch.tensor([int(examples.lengths[examples.ids.index(name)]) for name in batch.ids])
        real_BL = torch.arange(batch.target_BL.shape[1])[None] < lengths[:, None]
        assert (batch.target_BL[~real_BL] == EOS_ID).all() and not real_BL.all()
        if supervise:
            assert batch.attention_BL is None
        else:
            assert torch.equal(batch.attention_BL.bool(), real_BL)


@pytest.mark.parametrize("variant", [TRIMS, VariantConfig(order="random"), VariantConfig(method="standard")])
def test_an_example_gets_the_same_masks_and_weights_in_any_split_of_its_global_batch(tmp_path, variant):
    examples = load(write_bucket_shards(tmp_path))
    config = tiny_train()

    def rows(micro):
        return {
            name: (batch.noisy_BL[row], batch.weight_BL[row])
            for batch in batches(examples, config, variant, micro=micro)
            for row, name in enumerate(batch.ids)
        }

    whole, split = rows(20), rows(3)
    assert whole.keys() == split.keys()
    for name in whole:
        assert torch.equal(whole[name][0], split[name][0])
        torch.testing.assert_close(whole[name][1], split[name][1], rtol=1e-6, atol=0)


def test_epochs_draw_anew_and_the_same_epoch_repeats(tmp_path):
    examples = load(write_bucket_shards(tmp_path))
    config = tiny_train()
    first, again, later = (batches(examples, config, epoch=e, micro=20)[0] for e in (0, 0, 1))
    assert torch.equal(first.masked_BL, again.masked_BL)
    assert not torch.equal(first.masked_BL, later.masked_BL)


def test_weights_sum_to_one_when_every_token_is_masked_with_weight_one(tmp_path):
    # every normalisation is a mean: of tokens, of sequence means, or of sequence sums
    examples = load(write_bucket_shards(tmp_path))
    everything = VariantConfig(rho=1.0, p_low=1.0, p_high=1.0, loss_weight="uniform")
    for norm, expected in {"token": 1.0, "sequence": 1.0}.items():
        total = sum(
            b.weight_BL.sum().item() for b in batches(examples, tiny_train(loss_norm=norm), everything)
        )
        assert total == pytest.approx(expected, rel=1e-5)
    parts = batches(examples, tiny_train(loss_norm="batch"), everything)
    n_tokens = sum(int(part.masked_BL.sum()) for part in parts)
    assert sum(p.weight_BL.sum().item() for p in parts) == pytest.approx(
        n_tokens / len(examples.ids), rel=1e-5
    )


def test_validation_masks_are_standard_spread_over_t_and_the_same_for_every_variant(tmp_path):
    examples = load(write_bucket_shards(tmp_path, n_examples=40))
    order = list(range(40))
    config = tiny_train()
    ones = batches(examples, config, TRIMS, entries=order, validation=order, micro=40)[0]
    other = VariantConfig(order="ascending", rho=1.0, loss_weight="uniform")
    twos = batches(examples, config, other, entries=order, validation=order, micro=40)[0]
    assert torch.equal(ones.masked_BL, twos.masked_BL) and torch.equal(ones.weight_BL, twos.weight_BL)
    # stratified: example i of n has t in [i/n, (i+1)/n), so hidden shares grow along the order
    n_masked = ones.masked_BL.sum(1).float()
    assert n_masked[:10].mean() < n_masked[15:25].mean() < n_masked[30:].mean()


def test_dropout_seeds_differ_by_micro_batch_and_not_by_anything_else(tmp_path):
    examples = load(write_bucket_shards(tmp_path))
    config = tiny_train()
    seeds = [batch.dropout_seed for batch in batches(examples, config)]
    assert len(set(seeds)) == len(seeds) == 5
    assert seeds == [batch.dropout_seed for batch in batches(examples, config, VariantConfig(rho=1.0))]
