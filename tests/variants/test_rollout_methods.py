"""Settings of the methods that learn from the student's own answers: what is refused, and what keys hold."""

from __future__ import annotations

import pytest

from trims_core.errors import ConfigError
from trims_core.settings import parse_config
from trims_core.variants import D3llmVariant, DParallelVariant, TabomVariant, TadVariant

REST = {
    "name": "methods",
    "corpus": {"path": "a.jsonl"},
    "student": {"model": "student"},
    "rollouts": {"grader": "demo"},
    "sweep": {"tasks": {"demo": {"benchmark": "demo", "path": "b.jsonl"}}},
}


def variant(**fields):
    """A variant as a recipe has it."""
    return parse_config({**REST, "train": {"variants": {"a": fields}}}).train.variants["a"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {"method": "d3llm", "shift": "late"},
            "a.shift: expected a number of tokens from 0 on, permuted, or random",
        ),
        ({"method": "d3llm", "shift": -3}, "a.shift: expected a number of tokens from 0 on"),
        ({"method": "d3llm", "shift": True}, "a.shift: expected a number of tokens from 0 on"),
        (
            {"method": "d3llm", "block_lengths": []},
            "a.block_lengths: expected numbers of tokens from 1 on, or whole",
        ),
        (
            {"method": "d3llm", "block_lengths": [16, 0]},
            "a.block_lengths: expected numbers of tokens from 1 on",
        ),
        (
            {"method": "d3llm", "block_lengths": "all"},
            "a.block_lengths: expected numbers of tokens from 1 on",
        ),
        (
            {"method": "d3llm", "mask_ratio_min": 0.9},
            "mask_ratio_min 0.9 is above mask_ratio_max 0.8; swap them",
        ),
        (
            {"method": "dparallel", "block_length": 0},
            "a.block_length: expected a number of tokens from 1 on, or whole",
        ),
        (
            {"method": "dparallel", "block_length": [8]},
            "a.block_length: expected a number of tokens from 1 on",
        ),
        ({"method": "tabom", "window": 0}, "a.window"),
        ({"method": "tabom", "windw": 3}, "a.windw: unknown key; did you mean 'window'?"),
        ({"method": "tad", "window": 0}, "a.window"),
        ({"method": "tad", "temperature": 0.0}, "a.temperature"),
        (
            {"method": "tad", "ce_weight": 0.0, "kl_weight": 0.0},
            "ce_weight and kl_weight are 0: nothing is learned; set one of them above 0",
        ),
        ({"method": "tabon"}, "did you mean 'tabom'?"),
    ],
)
def test_a_wrong_setting_is_told_once_with_its_place_and_what_was_expected(fields, expected):
    with pytest.raises(ConfigError) as error:
        variant(**fields)
    assert expected in str(error.value) and "1 wrong setting" in str(error.value)


def test_recipes_may_write_one_length_or_several_or_whole():
    assert variant(method="d3llm", block_lengths=16).block_lengths == (16,)
    assert variant(method="d3llm", block_lengths=[16, 32]).block_lengths == (16, 32)
    assert variant(method="d3llm", block_lengths="whole").block_lengths == "whole"
    assert variant(method="dparallel", block_length="whole").block_length == "whole"
    assert variant(method="d3llm", shift=10).shift == 10


def test_what_has_no_effect_is_in_no_key():
    assert TabomVariant(rank_weight=0.0, margin=0.7, rank_window=3).as_read() == TabomVariant(rank_weight=0.0)
    assert TabomVariant(margin=0.7).as_read() != TabomVariant()
    off = DParallelVariant(entropy_weight=0.0)
    assert DParallelVariant(entropy_weight=0.0, temperature=0.1).as_read() == off
    assert DParallelVariant(temperature=0.1).as_read() != DParallelVariant()
    one = D3llmVariant(complement=False)
    assert D3llmVariant(complement=False, entropy_views="both").as_read() == one
    assert D3llmVariant(entropy_views="both").as_read() != D3llmVariant()
    untaught = TadVariant(kl_weight=0.0)
    assert TadVariant(kl_weight=0.0, temperature=2.0).as_read() == untaught
    assert TadVariant(temperature=2.0).as_read() != TadVariant()


def test_methods_with_a_frozen_reference_take_an_adapter():
    for fields, refused in (({"method": "tad"}, True), ({"method": "tabom"}, False)):
        settings = {**REST, "train": {"variants": {"a": fields}, "lora": None}}
        if refused:
            with pytest.raises(ConfigError, match=r"variants\.a \(method tad\).*lora a shape"):
                parse_config(settings)
        else:
            parse_config(settings)


def test_titles_tell_ablations_apart():
    titles = [D3llmVariant(shift=shift).title() for shift in (0, 10, "permuted", "random")]
    assert len(set(titles)) == 4
    assert "10 tokens late" in titles[1]


def test_they_learn_from_the_students_own_answers_and_need_no_teacher():
    for one in (TabomVariant(), DParallelVariant(), D3llmVariant(), TadVariant()):
        assert one.needs == "rollouts" and not one.reads_buckets and not one.baseline


def test_a_card_tells_what_is_set_and_read():
    rows = TabomVariant(rank_weight=0.0, pads="none", certainty=0.5).card_rows()
    assert rows["method"] == "tabom" and rows["window"] == "32" and rows["certainty"] == "0.5"
    assert not {"pads", "hide_end_of_turn", "margin"} & rows.keys()
