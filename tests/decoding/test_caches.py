"""Caches: what is fed, rows that come and go, shifted families, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from fakes.decoding_rules import RULES
from fakes.decoding_students import TinyTransformer

from trims_core.decoding import (
    CACHES,
    Ass,
    DecodeSettings,
    DreamSteps,
    EntropyThreshold,
    Eoser,
    Factor,
    MultiBlock,
    Sampling,
    Threshold,
    TopK,
    decode,
)
from trims_core.errors import ConfigError
from trims_core.points import SEVERAL_BLOCKS

PROMPTS = [[(7 * i + j) % 29 + 1 for j in range(2 + 5 * i % 13)] for i in range(9)]


PAIRS = [
    (rule, cache)
    for rule in RULES
    for cache in ("none", "prefix", "dual")
    if not (rule in SEVERAL_BLOCKS and cache != "none")
]
"""What is defined; the other pairs are refused."""


def _settings(rule: str, cache: str, **options: object) -> DecodeSettings:
    block_length = 16 if cache == "none" and rule.startswith("dream") else 8
    settings = DecodeSettings(RULES[rule], 16, block_length, True, 1, CACHES[cache])
    return replace(settings, **options)


@pytest.mark.parametrize("lookback", [0, 1])
@pytest.mark.parametrize(("rule", "cache"), PAIRS)
def test_a_batch_gives_every_sequence_what_it_gets_alone(rule: str, cache: str, lookback: int) -> None:
    student = TinyTransformer(seed=3, lookback=lookback)
    settings = _settings(rule, cache)
    alone = [decode(student, [prompt], settings)[0] for prompt in PROMPTS]
    together = decode(student, PROMPTS, replace(settings, batch_size=4))
    for one, other in zip(alone, together, strict=True):
        assert (one.token_ids, one.reveal_step) == (other.token_ids, other.reveal_step)
        assert (one.n_forwards, one.n_tokens, one.finished) == (
            other.n_forwards,
            other.n_tokens,
            other.finished,
        )


@pytest.mark.parametrize(
    ("cache", "lookback", "later"),
    [("none", 0, 20), ("prefix", 0, 16), ("dual", 0, 4), ("prefix", 1, 17), ("dual", 1, 5)],
)
def test_what_is_fed_after_the_first_forward_of_a_block(cache: str, lookback: int, later: int) -> None:
    student = TinyTransformer(seed=1, lookback=lookback)
    decode(student, [[1, 2, 3, 4]], DecodeSettings(TopK(16), 16, 4, False, 1, CACHES[cache]))
    widths = [width for _, width in student.shapes]
    assert widths[:4] == [20, later, later, later]
    assert widths[4] == 20
    ends = {"none": 20, "prefix": 4 + lookback, "dual": 4 + lookback}
    assert widths[-1] == ends[cache]


def test_sequences_inside_a_block_and_at_its_start_are_fed_apart() -> None:
    student = TinyTransformer(seed=3)
    decoded = decode(student, PROMPTS, _settings("threshold", "dual", batch_size=4))
    assert {width for _, width in student.shapes} >= {8}
    assert sum(rows for rows, _ in student.shapes) == sum(item.n_forwards for item in decoded)


@pytest.mark.parametrize("lookback", [0, 1])
@pytest.mark.parametrize("cache", ["prefix", "dual"])
def test_a_block_of_the_whole_canvas_loses_nothing_by_a_prefix_cache_but_the_prompts_view(
    cache: str, lookback: int
) -> None:
    """With one token per block nothing is ever read from a cache: every block is one whole forward."""
    student = TinyTransformer(seed=2, lookback=lookback)
    exact = decode(student, PROMPTS, DecodeSettings(TopK(8), 8, 1, False))
    cached = decode(student, PROMPTS, DecodeSettings(TopK(8), 8, 1, False, 16, CACHES[cache]))
    assert [item.token_ids for item in cached] == [item.token_ids for item in exact]


def test_the_shift_makes_the_column_before_a_block_predict_its_first_position() -> None:
    student = TinyTransformer(seed=4, lookback=1)
    prompt = [5, 6, 7]
    (found,) = decode(student, [prompt], DecodeSettings(Threshold(0.01), 4, 4, False))
    ids = torch.tensor([prompt + [student.family.mask_id] * 4])
    with torch.inference_mode():
        logits = student.model(ids).logits.clone()
        logits[..., student.family.mask_id] = -torch.inf
    assert found.token_ids == logits[0, 2:6].argmax(dim=-1).tolist()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (
            DecodeSettings(MultiBlock(0.5), 16, 8, cache=CACHES["dual"]),
            "multi_block with cache dual: not defined",
        ),
        (DecodeSettings(MultiBlock(0.5), 16, 8, cache=CACHES["prefix"]), "use cache: none"),
        (
            DecodeSettings(Threshold(0.5), 16, 8, cache=CACHES["dual"], sampling=Sampling(guidance=1.0)),
            "guidance 1 with cache dual: not defined",
        ),
        *(
            (
                DecodeSettings(rule, 8, 8, sampling=Sampling(begin_suppress_ids=frozenset({3}))),
                f"begin_suppress with {type(rule).__name__}: not defined",
            )
            for rule in (EntropyThreshold(0.5), MultiBlock(0.5), DreamSteps(8))
        ),
        (DecodeSettings(Eoser(Threshold(0.5)), 16, 8), "eoser over Threshold: not defined"),
        (DecodeSettings(Ass(5), 16, 16), "ass with 5 blocks on 16 positions"),
        (DecodeSettings(DreamSteps(8), 16, 8), "no blocks; set block_length to gen_length"),
        (DecodeSettings(TopK(4), 10, 4), "gen_length a multiple of block_length"),
        (DecodeSettings(Factor(0.0), 8, 4), "factor 0.0: expected a finite number above 0"),
        (DecodeSettings(EntropyThreshold(-1.0), 8, 4), "expected a finite number of nats, 0 or more"),
        (DecodeSettings(Threshold(0.5), 8, 4, stop_strings=("",)), "an empty string"),
        (DecodeSettings(Threshold(0.5), 8, 4, sampling=Sampling(temperature=-1.0)), "temperature -1.0"),
        (DecodeSettings(Threshold(0.5), 8, 4, sampling=Sampling(top_p=0.0)), "top_p 0.0"),
    ],
)
def test_combinations_without_a_meaning_are_refused(settings: DecodeSettings, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        decode(TinyTransformer(), [[1]], settings)
