"""A training goes on from weights of its own attention only, and says what it leaves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fakes.training_runs import train_here
from fakes.training_student import tiny_spec, tiny_train

from trims_core.config import LoraSettings
from trims_core.errors import ConfigError
from trims_core.fingerprint import Digests
from trims_core.students.adapter_config import read_adapter_config
from trims_core.training.settings import TrainSettings, check_attention, outside_inputs
from trims_core.variants import D2fVariant, StandardVariant, VariantConfig

BLOCKS = D2fVariant(block_length=4)
LORA = LoraSettings(r=4, alpha=8, dropout=0.1)


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A finished D2F run."""
    folder = tmp_path_factory.mktemp("first")
    return train_here(tiny_spec(folder, variant=BLOCKS, train=tiny_train(max_steps=2)))


def settings_of(spec, variant: VariantConfig, adapter: Path) -> TrainSettings:
    train = spec.train.model_copy(update={"init_adapter": str(adapter), "lora": LORA})
    return TrainSettings(
        train=train,
        variant=variant,
        ends=spec.ends,
        seed=0,
        student=spec.student,
        deepspeed={},
        variant_name="a",
        run_name="a",
    )


def test_d2f_goes_on_from_an_adapter_of_its_own_attention_or_of_both_directions(first, tmp_path):
    plain = train_here(tiny_spec(tmp_path / "plain", train=tiny_train(max_steps=1)))
    for adapter in (first.adapter, plain.adapter):
        assert "init_adapter" in outside_inputs(settings_of(first, BLOCKS, adapter), Digests(None))
    spec = tiny_spec(
        tmp_path / "again", variant=BLOCKS, train=tiny_train(max_steps=1, init_adapter=str(plain.adapter))
    )
    train_here(spec)
    assert read_adapter_config(spec.adapter / "adapter_config.json")["block_causal_length"] == 4


@pytest.mark.parametrize(
    ("variant", "says"),
    [
        (StandardVariant(), "in blocks of 4, method standard trains attention in both directions"),
        (D2fVariant(block_length=8), "in blocks of 4, method d2f trains blocks of 8"),
    ],
)
def test_no_other_method_goes_on_from_a_block_causal_adapter(first, variant, says):
    with pytest.raises(ConfigError, match=says):
        outside_inputs(settings_of(first, variant, first.adapter), Digests(None))


@pytest.mark.parametrize(
    ("variant", "allowed"),
    [
        (StandardVariant(), False),
        (BLOCKS, False),
        (D2fVariant(block_length=4, self_align=False), True),
        (D2fVariant(block_length=8, self_align=False), False),
    ],
)
def test_a_block_causal_student_is_trained_block_by_block_without_its_teacher(variant, allowed):
    check_attention(None, variant, "student")
    if allowed:
        check_attention(4, variant, "student")
        return
    with pytest.raises(ConfigError, match=r"student was trained to attend in blocks of 4, and method"):
        check_attention(4, variant, "student")


def test_a_run_refuses_a_block_causal_student_of_another_method(tmp_path):
    spec = tiny_spec(tmp_path)
    path = Path(spec.student.model) / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "block_causal_length": 4}))
    with pytest.raises(ConfigError, match="was trained to attend in blocks of 4, and method trims"):
        train_here(spec)
