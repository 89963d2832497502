"""What a student's config.json may say: the network it describes is built, or the key is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes.decoding_checkpoint import write_student
from fakes.dream_checkpoint import write_dream
from hypothesis import given, settings
from hypothesis import strategies as st

from trims_core.errors import ConfigError, TrimsError
from trims_core.generation import Assistant
from trims_core.students import families, load_student, load_student_tokenizer, read_family

WRITERS = {"llada": write_student, "dream": lambda folder: write_dream(folder, with_tokenizer=True)}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}


@pytest.fixture(params=["llada", "dream"], scope="module")
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return WRITERS[request.param](tmp_path_factory.mktemp(request.param))


@pytest.fixture
def folder(made: Path) -> Path:
    """A checkpoint of each family, its config.json as it was made."""
    before = (made / "config.json").read_text()
    yield made
    (made / "config.json").write_text(before)


def change(folder: Path, **changes: Any) -> Path:
    """The folder with keys of its config.json changed; ... removes one."""
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not ...}))
    return folder


def logits(folder: Path) -> torch.Tensor:
    with torch.no_grad():
        return load_student(str(folder)).forward(torch.arange(48)[None])


def test_both_spellings_of_the_rotary_base_are_one_network(folder: Path) -> None:
    old = logits(change(folder, rope_theta=500.0))
    parameters = {"rope_type": "default", "rope_theta": 500.0}
    for spelling in ("rope_parameters", "rope_scaling"):
        assert torch.equal(logits(change(folder, rope_theta=..., **{spelling: parameters})), old)
        change(folder, **{spelling: ...})
    assert torch.equal(logits(change(folder, rope_theta=None, rope_parameters=parameters)), old)
    assert not torch.equal(logits(change(folder, rope_parameters=..., rope_theta=...)), old)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"rope_parameters": {**YARN, "rope_theta": 1e4}}, r"rope_parameters\.rope_type = 'yarn'"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, r"rope_scaling\.type = 'linear'"),
        (
            {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}},
            "partial_rotary_factor",
        ),
        ({"rope_parameters": {"full_attention": YARN}}, "full_attention"),
        ({"rope_parameters": {"rope_theta": 7.0}}, "two values of one thing"),
        ({"rope_parameters": "yarn"}, "expected null or an object"),
        ({"rope_theta": None}, "rope_theta is null"),
        ({"rope_theta": "10000"}, "rope_theta = '10000'"),
        ({"rope_theta": -1.0}, "expected a number above 0"),
        ({"final_logit_softcapping": 30.0}, "final_logit_softcapping = 30.0"),
        ({"qk_norm": True}, "unknown keys that may change the network: qk_norm"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"is_causal": True}, "is_causal = True"),
        ({"rms_norm_eps": "1e-5"}, "rms_norm_eps"),
        ({"eos_token_id": "1"}, "eos_token_id = '1'"),
        ({"eos_token_id": None}, "eos_token_id missing or null"),
        ({"eos_token_id": []}, "eos_token_id = "),
        ({"eos_token_id": [1, "5"]}, "eos_token_id = "),
        ({"eos_token_id": True}, "eos_token_id = True"),
        ({"mask_token_id": [2]}, "mask_token_id = "),
        ({"mask_token_id": "2"}, "mask_token_id = '2'"),
        ({"mask_token_id": 10**6}, "mask_token_id = 1000000: beyond the embedding"),
        ({"eos_token_id": [1, 10**6]}, "eos_token_id = 1000000: beyond"),
        ({"eot_token_id": 10**6}, "eot_token_id = 1000000: beyond"),
        ({"pad_token_id": 10**6}, "pad_token_id = 1000000: beyond"),
    ],
)
def test_what_would_be_another_network_or_no_id_is_named_before_weights_are_read(
    folder: Path, changes: dict[str, Any], named: str
) -> None:
    change(folder, **changes)
    with pytest.raises(ConfigError, match=named) as caught:
        read_family(folder)
    assert "config.json" in str(caught.value)


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("llada", {"block_group_size": 2}),
        ("llada", {"layer_norm_with_affine": False}),
        ("llada", {"bias_for_layer_norm": True}),
        ("llada", {"tie_word_embeddings": True}),
        ("llada", {"n_heads": 3}),
        ("dream", {"head_dim": 4}),
        ("dream", {"layer_types": ["full_attention", "sliding_attention"]}),
        ("dream", {"attention_bias": False}),
        ("dream", {"num_key_value_heads": 3}),
    ],
)
def test_other_networks_of_a_family_are_refused(tmp_path: Path, family: str, changes: dict[str, Any]) -> None:
    folder = change(WRITERS[family](tmp_path / "s"), **changes)
    with pytest.raises(ConfigError, match=f"{next(iter(changes))}|heads"):
        read_family(folder)


def test_what_other_tools_write_beside_the_network_is_fine(folder: Path) -> None:
    before = logits(folder)
    notes = {
        "transformers_version": "5.1.0",
        "torch_dtype": "float32",
        "dtype": "float32",
        "_name_or_path": "x",
    }
    off = {
        "use_cache": True,
        "rope_scaling": None,
        "use_qk_norm": False,
        "pruned_heads": {},
        "id2label": {"0": "a"},
    }
    assert torch.equal(logits(change(folder, **notes, **off, initializer_range=0.02)), before)


PUBLISHED = {
    "llada": """{"activation_type": "silu", "alibi": false, "alibi_bias_max": 8.0, "attention_dropout": 0.0,
        "attention_layer_norm": false, "attention_layer_norm_with_affine": true, "bias_for_layer_norm": false,
        "block_group_size": 1, "block_type": "llama", "d_model": 4096, "embedding_dropout": 0.0,
        "embedding_size": 126464, "eos_token_id": 126081, "flash_attention": false, "include_bias": false,
        "include_qkv_bias": false, "init_cutoff_factor": null, "init_device": "meta", "init_fn": "mitchell",
        "init_std": 0.02, "input_emb_norm": false, "layer_norm_type": "rms", "layer_norm_with_affine": true,
        "mask_token_id": 126336, "max_sequence_length": 4096, "mlp_hidden_size": 12288, "mlp_ratio": 4,
        "model_type": "llada", "multi_query_attention": null, "n_heads": 32, "n_kv_heads": 32, "n_layers": 32,
        "pad_token_id": 126081, "precision": "amp_bf16", "residual_dropout": 0.0, "rms_norm_eps": 1e-05,
        "rope": true, "rope_full_precision": true, "rope_theta": 500000.0, "scale_logits": false,
        "transformers_version": "4.46.3", "use_cache": false, "vocab_size": 126464, "weight_tying": false,
        "architectures": ["LLaDAModelLM"], "auto_map": {"AutoModel": "modeling_llada.LLaDAModelLM"}}""",
    "dream": """{"architectures": ["DreamModel"], "attention_dropout": 0.0, "auto_map": {"AutoModel": "x"},
        "bos_token_id": 151665, "eos_token_id": 151643, "hidden_act": "silu", "hidden_size": 3584,
        "initializer_range": 0.02, "intermediate_size": 18944, "mask_token_id": 151666,
        "max_position_embeddings": 131072, "max_window_layers": 28, "model_type": "Dream",
        "num_attention_heads": 28, "num_hidden_layers": 28, "num_key_value_heads": 4, "pad_token_id": 151643,
        "rms_norm_eps": 1e-06, "rope_scaling": null, "rope_theta": 1000000.0, "sliding_window": null,
        "tie_word_embeddings": false, "torch_dtype": "bfloat16", "transformers_version": "4.46.2",
        "use_cache": true, "use_mrope": false, "use_sliding_window": false, "vocab_size": 152064}""",
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_keys_are_read(name: str) -> None:
    config = json.loads(PUBLISHED[name])
    assert families()[name].read(config, {}, name).config == config


def test_every_end_of_a_list_ends_an_answer(folder: Path) -> None:
    plain = read_family(folder)
    several = read_family(change(folder, eos_token_id=[plain.eos_id, 7, 9]))
    assert several.eos_id == plain.eos_id
    assert several.end_ids == plain.end_ids | {7, 9}


def test_a_null_end_of_turn_is_the_tokenizers(folder: Path) -> None:
    plain = read_family(change(folder, eot_token_id=...))
    assert plain.eot_id is not None
    assert read_family(change(folder, eot_token_id=None)).eot_id == plain.eot_id


def test_tokens_beyond_the_embedding_are_named(folder: Path) -> None:
    path = folder / "tokenizer.json"
    before = path.read_text()
    whole = json.loads(before)
    last = whole["added_tokens"][-1]
    more = [{**last, "content": f"<|more{i}|>", "id": last["id"] + i} for i in range(1, 9)]
    path.write_text(json.dumps(whole | {"added_tokens": [*whole["added_tokens"], *more]}))
    try:
        with pytest.raises(ConfigError, match=r"beyond the embedding"):
            load_student_tokenizer(str(folder))
    finally:
        path.write_text(before)


@pytest.mark.parametrize("content", ["[1, 2]", "{", '"x"', "[" * 100_000])
def test_a_config_that_is_no_object_is_named(folder: Path, content: str) -> None:
    (folder / "config.json").write_text(content)
    with pytest.raises(ConfigError, match=r"config\.json: (not valid JSON|holds a JSON)"):
        read_family(folder)


def test_damaged_tokenizer_files_are_named(tmp_path: Path) -> None:
    folder = write_student(tmp_path / "s")
    for name, content in (("added_tokens.json", '{"a": "b"}'), ("tokenizer_config.json", "[]")):
        before = (folder / name).read_text() if (folder / name).exists() else "{}"
        (folder / name).write_text(content)
        with pytest.raises(ConfigError, match=name):
            read_family(folder)
        (folder / name).write_text(before)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 2**70) | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["rope_type", "a"]), inner, max_size=2)
    ),
    max_leaves=3,
)


@pytest.mark.parametrize("name", ["llada", "dream"])
def test_any_config_is_a_family_or_an_error_that_says_why(name: str) -> None:
    from fakes.dream_checkpoint import CONFIG as DREAM
    from fakes.training_student import CONFIG as LLADA

    base = LLADA if name == "llada" else DREAM
    keys = st.sampled_from([*base, "rope_parameters", "rope_scaling", "eot_token_id", "head_dim", "odd"])

    @settings(max_examples=200, deadline=None)
    @given(st.dictionaries(keys, VALUES, max_size=3))
    def tried(changes: dict[str, Any]) -> None:
        try:
            family = families()[name].read({**base, **changes}, {}, "config.json")
        except TrimsError:
            return
        family.hf_config()

    tried()


@pytest.mark.parametrize("value", ['"x"', "-1", "0", "1e9", "true", "[3]"])
def test_a_suggested_length_that_is_none_is_refused(project_root: Path, tmp_path: Path, value: str) -> None:
    folder = tmp_path / "student"
    shutil.copytree(project_root / "data/demo/student", folder, copy_function=shutil.copyfile)
    (folder / "generation_config.json").write_text(f'{{"max_new_tokens": {value}}}')
    with pytest.raises(ConfigError, match=r"generation_config\.json: max_new_tokens = .*whole number from 1"):
        Assistant.load(str(folder))
