"""The stage's key: what an adapter depends on, and what it does not."""

from __future__ import annotations

import subprocess
import sys
from types import MappingProxyType

import pytest
from fakes import training_cli

from trims_core.errors import ConfigError
from trims_core.fingerprint import Digests
from trims_core.graph import build_graph, node_named
from trims_core.settings import parse_config
from trims_core.training.card import model_card
from trims_core.training.stage import SPEC


class OneParent:
    """Stands in for the buckets artifact where only its digest is read."""

    content_digest = "0" * 64


@pytest.fixture
def fingerprint(tmp_path):
    """fingerprint(node=…, raw changes by section) of a train node."""
    base = training_cli.raw_config(tmp_path)

    def compute(node="train/trims-s0", digest="0" * 64, **sections):
        raw = {**base, **{name: {**base[name], **fields} for name, fields in sections.items()}}
        config = parse_config(raw)
        parent = OneParent()
        parent.content_digest = digest
        found = node_named(build_graph(config), node)
        return SPEC.key(config, found, MappingProxyType({"buckets": parent}), Digests(None)).fingerprint

    return compute


CHANGES = {
    "lr": {"train": {"lr": 0.5}},
    "lora": {"train": {"lora": {"r": 5}}},
    "own variant": {"train": {"variants": {"trims": {"rho": 0.25}}}},
    "steps": {"train": {"max_steps": 7}},
    "validation": {"train": {"validation_fraction": 0.1}},
    "dtype": {"student": {"dtype": "bfloat16"}},
    "grouping by length": {"train": {"length_window": 8}},
    "ends": {"train": {"pads": "standard"}},
    "number of ends": {"train": {"end_tokens": 5}},
    "probability of ends": {"train": {"pads": "last", "pads_p_high": 0.9}},
    "weight of ends": {"train": {"end_weight": 0.25}},
    "end of turn": {"train": {"hide_end_of_turn": True}},
    "own masks": {"train": {"variants": {"trims": {"masks": "fakes.training_student:tiny_train"}}}},
    "own ends": {"train": {"variants": {"trims": {"pads": "last"}}}},
}


@pytest.mark.parametrize("name", CHANGES)
def test_whatever_changes_the_adapter_changes_the_key(fingerprint, name):
    assert fingerprint(**CHANGES[name]) != fingerprint()


def test_seed_method_and_the_buckets_content_change_the_key(fingerprint):
    found = {
        fingerprint(),
        fingerprint(digest="1" * 64),
        fingerprint(node="train/standard-s0"),
        fingerprint(node="train/trims-s1", train={"seeds": [0, 1]}),
    }
    assert len(found) == 4


SAME = {
    "another variant": {"train": {"variants": {"trims": {}, "new": {"order": "ascending"}}}},
    "more seeds": {"train": {"seeds": [0, 1, 2]}},
    "topology": {"train": {"launch": {"processes": 2}}},
    "unread epochs": {"train": {"epochs": 99}},
    "device": {"student": {"device": "auto"}},
    "trackers": {"train": {"report_to": ["tensorboard"], "logging_dir": "elsewhere"}},
    "a default that was left out": {"train": {"length_window": 16}},
    "ends said twice": {"train": {"variants": {"trims": {"pads": "hidden", "end_weight": 1.0}}}},
    "unread ends": {"train": {"pads_rho": 0.1, "pads_p_high": 0.9}},
    "store": {"report": {"title": "other"}},
}


@pytest.mark.parametrize("name", SAME)
def test_whatever_does_not_change_the_adapter_keeps_the_key(fingerprint, tmp_path, name):
    changes = SAME[name]
    if "report" in changes:
        assert fingerprint(sweep={"stop_at_end": False}) == fingerprint()
    else:
        assert fingerprint(**changes) == fingerprint()


def test_a_deepspeed_file_counts_by_its_content_and_the_default_equals_the_shipped_one(
    fingerprint, tmp_path, project_root
):
    shipped = project_root / "configs" / "deepspeed" / "zero2.json"
    copy = tmp_path / "other-name.json"
    copy.write_text(shipped.read_text())
    assert fingerprint(train={"deepspeed": str(copy)}) == fingerprint(train={"deepspeed": None})
    copy.write_text(shipped.read_text().replace('"stage": 2', '"stage": 1'))
    assert fingerprint(train={"deepspeed": str(copy)}) != fingerprint()


def test_the_standard_method_does_not_depend_on_settings_it_does_not_read(fingerprint):
    def standard(**fields):
        variants = {"standard": {"method": "standard", **fields}}
        return fingerprint(node="train/standard-s0", train={"variants": variants})

    assert standard(rho=0.25, order="random", p_low=0.2, p_high=0.9) == standard()
    assert standard(rho=0.25, loss_weight="balanced") == standard(loss_weight="balanced")
    assert standard(rho=0.25, loss_weight="bucket_profile") != standard(loss_weight="bucket_profile")
    assert standard(inverse_p_clip=9, loss_weight="inverse_p") != standard(loss_weight="inverse_p")
    assert standard(pads="none", end_weight=0.5) == standard(pads="none")
    assert standard(loss_weight="uniform") != standard()
    assert standard(cart_p=0.5) == standard()
    assert standard(loss_weight="cart", cart_p=0.5) != standard(loss_weight="cart")


def test_validation_reads_the_number_of_ends_even_where_training_has_none(fingerprint):
    found = {fingerprint(train={"pads": "none", "end_tokens": n, "end_weight": 0.5}) for n in (5, 32)}
    assert len(found) == 2
    assert fingerprint(train={"pads": "none", "end_tokens": 5}) in found


def test_masks_of_the_users_own_count_by_their_file_and_must_exist(fingerprint):
    with pytest.raises(ConfigError, match=r"train\.variants\.trims\.masks: no module 'no_such_masks'"):
        fingerprint(train={"variants": {"trims": {"masks": "no_such_masks:draw"}}})
    with pytest.raises(ConfigError, match=r"'words'; expected package\.module:Name"):
        fingerprint(train={"variants": {"trims": {"masks": "words"}}})


def test_computing_keys_imports_nothing_heavy():
    code = (
        "import sys, trims_core.training.stage;"
        "print([m for m in ('torch', 'transformers', 'peft', 'deepspeed') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_model_card_names_data_method_settings_and_how_to_load(tmp_path):
    config = parse_config(training_cli.raw_config(tmp_path))
    result = {
        "steps": 6,
        "trainable_parameters": 1234,
        "counts": {"n_examples": 20, "n_validation": 4, "n_truncated": 0, "n_without_completion": 0},
    }
    digests = {"student": "local:abc", "buckets": "def"}
    finals = {"train_loss": 1.23456, "eval_loss": None, "eval_end_loss": None}
    trims = model_card(config, config.train.variants["trims"], 3, digests, result, finals)
    for expected in (
        "local:abc",
        "`def`",
        "| seed | 3 |",
        "1.2346",
        "none",
        "16, 4",
        "PeftModel.from_pretrained",
    ):
        assert expected in trims
    assert "| order | descending |" in trims
    standard = model_card(config, config.train.variants["standard"], 3, digests, result, finals)
    assert "| order |" not in standard
    assert "| supervised ends | up to 32 behind an answer, masked: hidden |" in standard
