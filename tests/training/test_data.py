"""From bucket shards to tensors: truncation, padding, masks and weights of a micro-batch."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from fakes.objectives import totals_of
from fakes.training_student import EOS_ID, MASK_ID, N_BUCKETS, tiny_train, write_bucket_shards

from trims_core.errors import InputError, SchemaError
from trims_core.schema import BUCKETS, write_table
from trims_core.training import mapped
from trims_core.training.data import validation_method
from trims_core.training.examples import load_examples
from trims_core.training.method import Context
from trims_core.training.methods.terms import normalise
from trims_core.training.methods.trims import Trims
from trims_core.training.orders import ordered, random_cuts
from trims_core.training.plan import Padding, Schedule
from trims_core.training.sequences import gather
from trims_core.training.sources import BucketShards
from trims_core.variants import Order, StandardVariant, TrimsVariant

TRIMS = TrimsVariant()


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
    source = BucketShards(paths, N_BUCKETS)
    return load_examples(source, variant.token_order, seed, max_length, paths[0].parent / "scratch")


def batches(
    examples, config, variant=TRIMS, *, epoch=0, entries=None, validation=(), micro=4, own_masks=None
):
    """All micro-batches of one global batch over `entries` (default: all examples)."""
    pads = config.ends_of(variant).pads
    schedule = Schedule(
        examples.ids,
        examples.prompt_lengths,
        examples.lengths,
        examples.ends_in_turn,
        range(len(examples.ids)),
        seed=0,
        batch_size=8,
        micro_batch_size=micro,
        padding=Padding(
            0 if pads == "none" else config.end_tokens, config.pad_to_multiple_of, config.max_length
        ),
    )
    ends = config.ends_of(variant)
    context = Context(config, ends, examples.n_buckets, MASK_ID, "llada")
    method = Trims(variant, context)
    if validation:
        method = validation_method(context)
    elif own_masks is not None:
        method._own_masks = own_masks
    chosen = range(len(examples.ids)) if entries is None else entries
    parts = [
        method.batch(
            gather(
                examples,
                part,
                pad_id=EOS_ID,
                seed=0,
                hide_end_of_turn=ends.hide_end_of_turn and not validation,
                strata={example: place for place, example in enumerate(validation)},
            )
        )
        for part in schedule.cut([schedule.entry(i, epoch) for i in chosen], 0)
    ]
    totals = totals_of(parts)
    return [_flat(part, config, None if validation else totals) for part in parts]


def _flat(batch, config, totals):
    """A batch of one canvas with its weights normalised, all in one place."""
    weight_BL = batch.view.weight_BL
    if totals is not None:
        weight_BL = normalise(weight_BL, batch.n_supervised_B, config.loss_norm, totals)
    return SimpleNamespace(
        ids=batch.ids,
        target_BL=batch.target_BL,
        content_BL=batch.content_BL,
        end_BL=batch.end_BL,
        attention_BL=batch.attention_BL,
        noisy_BL=batch.view.noisy_BL,
        masked_BL=batch.view.scored_BL,
        weight_BL=weight_BL,
        dropout_seed=batch.view.dropout_seed,
    )


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
    for variant in (TRIMS, TrimsVariant(order="random")):
        left, right = load(shards, variant), load(shards[::-1], variant)
        assert all(np.array_equal(a, b) for a, b in zip(left.buckets, right.buckets, strict=True))


def slow_examples(shards, variant, seed, max_length):
    """id → tokens and buckets as lists, everything in memory: the slow, obvious version."""
    rows = [row for path in shards for row in pq.read_table(path).to_pylist()]
    rows.sort(key=lambda row: row["id"])
    inside = variant.order in ("shifted", "permuted")
    buckets = [
        np.array(row["bucket"], np.uint8)[: max(0, max_length - row["prompt_length"]) if inside else None]
        for row in rows
    ]
    names, lengths = [row["id"] for row in rows], [len(bucket) for bucket in buckets]
    cuts = random_cuts(lambda: zip(names, lengths, strict=True), N_BUCKETS, seed)
    shown = {
        name: ordered(bucket, name, N_BUCKETS, variant.order, seed, cuts)
        for name, bucket in zip(names, buckets, strict=True)
    }
    return {
        row["id"]: (
            row["input_ids"][:max_length],
            shown[row["id"]][: min(len(row["input_ids"]), max_length) - row["prompt_length"]].tolist(),
            row["prompt_length"],
        )
        for row in rows
        if row["prompt_length"] < max_length
    }


@pytest.mark.parametrize("max_length", [4, 9, 64])
@pytest.mark.parametrize("order", get_args(Order))
def test_mapped_examples_are_those_held_in_memory(tmp_path, order, max_length):
    shards = write_bucket_shards(tmp_path, n_examples=50, n_shards=3)
    variant = TrimsVariant(order=order)
    found = load(shards, variant, max_length, seed=3)
    expected = slow_examples(shards, variant, 3, max_length)
    assert list(found.ids) == list(expected)
    for row, (ids, buckets, prompt_length) in enumerate(expected.values()):
        assert found.input_ids[row].tolist() == ids and found.buckets[row].tolist() == buckets
        assert (found.prompt_lengths[row], found.lengths[row]) == (prompt_length, len(ids))
    assert found.input_ids[0].dtype == np.int32 and not found.input_ids[0].flags.writeable


def test_ids_beyond_ascii_are_sorted_and_cut_as_text(tmp_path):
    names = ["z", "é", "a\U0001f600", "a", "", "a\uffff"]
    found = load([write_rows(tmp_path / "a.parquet", *((name, [1, 2], 1, [1]) for name in names))])
    assert list(found.ids) == sorted(names) and found.ids[1:3] == sorted(names)[1:3]


def test_other_settings_or_shards_are_other_files(tmp_path):
    shards = write_bucket_shards(tmp_path)
    load(shards)
    load(shards)
    assert len(list((tmp_path / "scratch").glob("examples-*"))) == 1
    load(shards, max_length=9)
    load(shards, TrimsVariant(order="random"), seed=1)
    load(shards[:1])
    assert len(list((tmp_path / "scratch").glob("examples-*"))) == 4


def test_ranks_that_start_at_the_same_time_make_one_file_between_them(tmp_path):
    shards = write_bucket_shards(tmp_path, n_examples=200, n_shards=5)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: load(shards), range(4)))
    assert all(list(one.ids) == list(found[0].ids) for one in found)
    assert [path.name[:9] for path in (tmp_path / "scratch").iterdir() if path.is_dir()] == ["examples-"]


def test_without_locks_whoever_comes_second_takes_the_first_ones_file(tmp_path, monkeypatch):
    monkeypatch.setattr(mapped, "write_lock", lambda path, about: nullcontext())
    shards = write_bucket_shards(tmp_path)
    inner = []

    def overtaken(temporary, folder):
        if not inner:
            inner.append(None)
            inner.append(load(shards))
        rename(temporary, folder)

    rename = mapped.rename_unless_there
    monkeypatch.setattr(mapped, "rename_unless_there", overtaken)
    outer = load(shards)
    assert list(outer.ids) == list(inner[1].ids)
    assert len([path for path in (tmp_path / "scratch").iterdir() if path.is_dir()]) == 1


def test_a_folder_that_could_not_be_filled_is_not_there(tmp_path, monkeypatch):
    shards = write_bucket_shards(tmp_path)
    monkeypatch.setattr(np, "save", lambda *_: (_ for _ in ()).throw(OSError("no room")))
    with pytest.raises(OSError, match="no room"):
        load(shards)
    assert not [path for path in (tmp_path / "scratch").iterdir() if path.is_dir()]
    monkeypatch.undo()
    assert len(load(shards).ids) == 20


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
    assert examples.ends_in_turn.tolist() == [True, False]
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


EVERYTHING = TrimsVariant(rho=1.0, p_low=1.0, p_high=1.0)


def lengths_of(examples, batch):
    """Prompt and whole lengths of a batch's rows, as columns."""
    rows = [examples.ids.index(name) for name in batch.ids]
    return (torch.from_numpy(values[rows])[:, None] for values in (examples.prompt_lengths, examples.lengths))


@pytest.mark.parametrize("pads", ["hidden", "none"])
def test_prompts_and_dead_columns_are_never_masked_and_only_masked_positions_have_weight(tmp_path, pads):
    examples = load(write_bucket_shards(tmp_path))
    n_dead = 0
    for batch in batches(examples, tiny_train(pads=pads), EVERYTHING):
        prompt_B1, length_B1 = lengths_of(examples, batch)
        place_L = torch.arange(batch.target_BL.shape[1])
        assert torch.equal(batch.content_BL, (place_L >= prompt_B1) & (place_L < length_B1))
        assert torch.equal(batch.masked_BL, batch.content_BL | batch.end_BL)
        assert torch.equal(batch.weight_BL > 0, batch.masked_BL)
        assert torch.equal(batch.noisy_BL == MASK_ID, batch.masked_BL)
        assert torch.equal(batch.noisy_BL[~batch.masked_BL], batch.target_BL[~batch.masked_BL])
        assert batch.end_BL.any() == (pads == "hidden")
        # ends follow the answer without a gap
        n_ends_B1 = batch.end_BL.sum(1, keepdim=True)
        assert torch.equal(batch.end_BL, (place_L >= length_B1) & (place_L < length_B1 + n_ends_B1))
        attended_BL = place_L < length_B1 + n_ends_B1
        n_dead += int((~attended_BL).sum())
        assert torch.equal(batch.attention_BL.bool(), attended_BL)
        assert (batch.target_BL[place_L >= length_B1] == EOS_ID).all()
    assert n_dead > 0


def test_where_no_column_is_dead_nothing_hides_from_attention(tmp_path):
    examples = load(write_bucket_shards(tmp_path))
    for batch in batches(examples, tiny_train(), micro=1):
        assert batch.attention_BL is None


@pytest.mark.parametrize("pads", ["hidden", "last", "standard"])
@pytest.mark.parametrize("order", ["descending", "ascending", "random", "two_sided"])
def test_ends_are_masked_alike_under_every_order_and_in_standard_masks(tmp_path, pads, order):
    examples = load(write_bucket_shards(tmp_path))
    standard, ordered = (
        batches(load(write_bucket_shards(tmp_path), variant), tiny_train(pads=pads), variant, micro=20)[0]
        for variant in (StandardVariant(), TrimsVariant(order=order, rho=1.0))
    )
    assert torch.equal(standard.end_BL, ordered.end_BL) and standard.end_BL.any()
    assert torch.equal(standard.masked_BL & standard.end_BL, ordered.masked_BL & ordered.end_BL)
    assert len(examples.ids) == len(ordered.ids)
    if pads == "hidden":
        assert torch.equal(ordered.masked_BL & ordered.end_BL, ordered.end_BL)


def test_a_variant_may_differ_in_its_ends_alone(tmp_path):
    examples = load(write_bucket_shards(tmp_path))
    config = tiny_train(pads="hidden")
    changed = {"pads": "standard", "end_weight": 0.25, "hide_end_of_turn": True}
    for name, value in changed.items():
        mine = batches(examples, config, TrimsVariant(**{name: value}), micro=20)[0]
        theirs = batches(examples, tiny_train(**{name: value}), TrimsVariant(), micro=20)[0]
        assert torch.equal(mine.noisy_BL, theirs.noisy_BL) and torch.equal(mine.weight_BL, theirs.weight_BL)


def test_end_weight_scales_the_loss_of_ends_and_nothing_else(tmp_path):
    examples = load(write_bucket_shards(tmp_path))
    whole, quarter, none = (
        batches(examples, tiny_train(end_weight=weight), micro=20)[0] for weight in (1.0, 0.25, 0.0)
    )
    for other, factor in ((quarter, 0.25), (none, 0.0)):
        assert torch.equal(other.noisy_BL, whole.noisy_BL)
        expected = torch.where(whole.end_BL, factor * whole.weight_BL, whole.weight_BL)
        torch.testing.assert_close(other.weight_BL, expected)


def test_a_hidden_end_of_turn_is_an_end_and_one_that_truncation_took_is_none(tmp_path):
    rows = [("long", [1, 2, 3, 4, 5, 6], 2, [1, 2, 3, 4]), ("short", [1, 2, 3, 4], 2, [1, 2])]
    examples = load([write_rows(tmp_path / "a.parquet", *rows)], max_length=5)
    config = tiny_train(hide_end_of_turn=True, max_length=5, end_tokens=3)
    (batch,) = batches(examples, config, TrimsVariant(rho=1.0, p_low=0.0, p_high=0.0))
    by_id = {name: row for row, name in enumerate(batch.ids)}
    # nothing but ends is masked: none behind a truncated answer, the end of turn of the other
    assert not batch.masked_BL[by_id["long"]].any() and not batch.end_BL[by_id["long"]].any()
    assert batch.masked_BL[by_id["short"]].nonzero().flatten().tolist()[0] == 3
    assert batch.content_BL[by_id["short"]].nonzero().flatten().tolist() == [2]
    shown = batches(examples, tiny_train(max_length=5, end_tokens=0), TrimsVariant(rho=1.0))[0]
    assert shown.content_BL[by_id["short"]].nonzero().flatten().tolist() == [2, 3]


def every_other_token(ids_C, tokenizer, generator):
    """Masks of a user: every other token, as if drawn with probability 0.25."""
    del tokenizer, generator
    return torch.arange(len(ids_C)) % 2 == 1, torch.full((len(ids_C),), 0.25)


def test_masks_of_the_users_own_replace_the_standard_ones_alone(tmp_path):
    examples = load(write_bucket_shards(tmp_path))
    variant = TrimsVariant(loss_weight="inverse_p", rho=0.5)
    config = tiny_train(loss_norm="batch")
    plain = batches(examples, config, variant, micro=20)[0]
    own = batches(examples, config, variant, micro=20, own_masks=every_other_token)[0]
    assert torch.equal(plain.masked_BL & plain.end_BL, own.masked_BL & own.end_BL)
    replaced = 0
    for row in range(20):
        content_L = own.content_BL[row]
        expected_C = torch.arange(int(content_L.sum())) % 2 == 1
        if torch.equal(own.masked_BL[row], plain.masked_BL[row]):
            continue
        replaced += 1
        assert torch.equal(own.masked_BL[row, content_L], expected_C)
        # four times the weight of one sequence of the twenty
        weights = own.weight_BL[row, content_L & own.masked_BL[row]]
        torch.testing.assert_close(weights, torch.full_like(weights, 4 / 20))
    assert 0 < replaced < 20
    held_out = list(range(20))
    ones = batches(examples, config, variant, validation=held_out, micro=20)[0]
    twos = batches(examples, config, variant, validation=held_out, micro=20, own_masks=every_other_token)[0]
    assert torch.equal(ones.masked_BL, twos.masked_BL)


@pytest.mark.parametrize(
    ("masked", "probability"),
    [
        (lambda n: torch.ones(n), lambda n: torch.ones(n)),
        (lambda n: torch.ones(n + 1, dtype=torch.bool), lambda n: torch.ones(n + 1)),
        (lambda n: torch.ones(1, dtype=torch.bool), lambda n: torch.ones(1)),
        (lambda n: torch.ones(n, dtype=torch.bool), lambda n: torch.zeros(n)),
        (lambda n: torch.ones(n, dtype=torch.bool), lambda n: torch.full((n,), torch.nan)),
    ],
)
def test_masks_of_the_users_own_that_cannot_be_trained_on_are_refused_with_the_example(
    tmp_path, masked, probability
):
    examples = load(write_bucket_shards(tmp_path))

    def own(ids_C, tokenizer, generator):
        return masked(len(ids_C)), probability(len(ids_C))

    with pytest.raises(InputError, match=r"masks, example 'example-\d+': .* Correct your function"):
        batches(examples, tiny_train(), StandardVariant(), own_masks=own)


@pytest.mark.parametrize("order", ["shifted", "permuted"])
def test_orders_inside_examples_move_what_truncation_leaves(tmp_path, order):
    row = ("long", list(range(1, 31)), 5, [1] * 12 + [2] * 13)
    shard = write_rows(tmp_path / "a.parquet", row)
    (buckets,) = load([shard], TrimsVariant(order=order), max_length=17).buckets
    assert buckets.tolist() == [1] * 12


def test_balanced_weights_of_standard_masks_are_plain_ones(tmp_path):
    examples = load(write_bucket_shards(tmp_path))
    plain, balanced = (
        batches(examples, tiny_train(), StandardVariant(loss_weight=kind), micro=20)[0]
        for kind in ("inverse_t", "balanced")
    )
    torch.testing.assert_close(balanced.weight_BL, plain.weight_BL)
    profiled = StandardVariant(loss_weight="bucket_profile")
    assert not torch.allclose(
        batches(examples, tiny_train(), profiled, micro=20)[0].weight_BL, plain.weight_BL
    )
    with pytest.raises(ValueError, match="have that profile by themselves"):
        TrimsVariant(loss_weight="bucket_profile")


def test_the_weights_of_an_example_do_not_depend_on_its_batch_mates(tmp_path):
    examples = load(write_bucket_shards(tmp_path))
    config = tiny_train(loss_norm="batch")
    last, balanced = StandardVariant(pads="last"), TrimsVariant(loss_weight="balanced")
    for variant in (TRIMS, last, balanced):
        alone = {
            batch.ids[0]: batch.weight_BL[0]
            for i in range(20)
            for batch in batches(examples, config, variant, entries=[i], micro=1)
        }
        together = batches(examples, config, variant, micro=20)[0]
        for row, name in enumerate(together.ids):
            n = len(alone[name])
            torch.testing.assert_close(20 * together.weight_BL[row, :n], alone[name], rtol=1e-6, atol=0)
            assert not together.weight_BL[row, n:].any()


@pytest.mark.parametrize("variant", [TRIMS, TrimsVariant(order="random"), StandardVariant()])
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
        # the rest of the longer row is dead
        n = min(len(whole[name][0]), len(split[name][0]))
        assert torch.equal(whole[name][0][:n], split[name][0][:n])
        torch.testing.assert_close(whole[name][1][:n], split[name][1][:n], rtol=1e-6, atol=0)
        assert not whole[name][1][n:].any()


def test_epochs_draw_anew_and_the_same_epoch_repeats(tmp_path):
    examples = load(write_bucket_shards(tmp_path))
    config = tiny_train()
    first, again, later = (batches(examples, config, epoch=e, micro=20)[0] for e in (0, 0, 1))
    assert torch.equal(first.masked_BL, again.masked_BL)
    assert not torch.equal(first.masked_BL, later.masked_BL)


def test_weights_sum_to_one_when_every_token_is_masked_with_weight_one(tmp_path):
    # every normalisation is a mean: of tokens, of sequence means, or of sequence sums
    examples = load(write_bucket_shards(tmp_path))
    everything = EVERYTHING.model_copy(update={"loss_weight": "uniform"})
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
    other = TrimsVariant(order="ascending", rho=1.0, loss_weight="uniform", pads="last", end_weight=0.5)
    twos = batches(examples, config, other, entries=order, validation=order, micro=40)[0]
    assert torch.equal(ones.masked_BL, twos.masked_BL) and torch.equal(ones.weight_BL, twos.weight_BL)
    # every end is hidden and weighs 1
    assert ones.end_BL.any() and torch.equal(ones.masked_BL & ones.end_BL, ones.end_BL)
    torch.testing.assert_close(ones.weight_BL[ones.end_BL], torch.ones(int(ones.end_BL.sum())))
    # stratified: example i of n has t in [i/n, (i+1)/n), so hidden shares grow along the order
    n_masked = (ones.masked_BL & ones.content_BL).sum(1).float()
    assert n_masked[:10].mean() < n_masked[15:25].mean() < n_masked[30:].mean()


def test_dropout_seeds_differ_by_micro_batch_and_not_by_anything_else(tmp_path):
    examples = load(write_bucket_shards(tmp_path))
    config = tiny_train()
    seeds = [batch.dropout_seed for batch in batches(examples, config)]
    assert len(set(seeds)) == len(seeds) == 5
    assert seeds == [batch.dropout_seed for batch in batches(examples, config, TrimsVariant(rho=1.0))]
