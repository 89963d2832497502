"""Settings of LIFT and GIFT: what is refused, what keys hold, what they need."""

from __future__ import annotations

import pytest

from trims_core.errors import ConfigError
from trims_core.settings import parse_config
from trims_core.variants import GiftVariant, LiftVariant

REST = {
    "name": "methods",
    "corpus": {"path": "a.jsonl"},
    "scores": {"model": "teacher", "teacher": "transformers"},
    "student": {"model": "student"},
    "sweep": {"tasks": {"demo": {"benchmark": "demo", "path": "b.jsonl"}}},
}


def variant(**fields):
    """A variant as a recipe has it."""
    return parse_config({**REST, "train": {"variants": {"a": fields}}}).train.variants["a"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"method": "lift", "components": 4}, "a.components"),
        ({"method": "lift", "component": 2}, "a.component: unknown key; did you mean 'components'?"),
        ({"method": "lift", "divide_by_t": "perhaps"}, "a.divide_by_t"),
        ({"method": "gift", "components": 2}, "a.components: unknown key"),
        ({"method": "lfit"}, "did you mean 'lift'?"),
    ],
)
def test_a_wrong_setting_is_told_with_its_place(fields, expected):
    with pytest.raises(ConfigError) as error:
        variant(**fields)
    assert expected in str(error.value)


def test_recipes_name_them():
    assert variant(method="lift", components=2, divide_by_t=False) == LiftVariant(
        components=2, divide_by_t=False
    )
    assert variant(method="gift", certainty=0.5).certainty == 0.5


def test_every_setting_changes_what_is_trained_and_the_title_tells_components_apart():
    others = [LiftVariant(components=2), LiftVariant(divide_by_t=False), LiftVariant(compat=True)]
    keys = [str(one.as_read().result_fields()) for one in [LiftVariant(), *others]]
    assert len(set(keys)) == 4
    assert GiftVariant().as_read() != GiftVariant(compat=True).as_read()
    assert LiftVariant().title() != LiftVariant(components=2).title()


def test_they_learn_from_the_corpus_without_a_teacher_in_two_passes():
    for one in (LiftVariant(), GiftVariant()):
        assert one.needs == "examples" and one.passes == 2 and not one.reads_buckets and not one.baseline
