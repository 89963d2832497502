"""model_args and tasks' wishes: what they may say, which of them counts, what is refused by name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trims_core.errors import ConfigError
from trims_core.generation import GenerateOptions
from trims_core.lm_eval_settings import Canvas, canvas_for, merged, model_args

ENDS = ("<|endoftext|>", "<|eot_id|>")


def canvas(wishes: dict[str, Any], own_block: int | None = None, **given: Any) -> Canvas:
    return canvas_for(model_args({"pretrained": "m", **given}), wishes, "gsm8k", ENDS, own_block)


def test_without_anything_said_it_is_the_defaults_of_generate_without_a_cache_in_the_sweeps_dtype() -> None:
    args = model_args({"pretrained": "m"})
    assert args.options == GenerateOptions(cache="none")
    assert (args.student.model, args.student.dtype, args.student.device) == ("m", "float32", "auto")
    assert (args.own.mc_num, args.own.mc_as_published, args.own.adapter) == (128, False, None)


def test_every_kind_of_setting_arrives_where_it_is_read() -> None:
    args = model_args(
        {
            "pretrained": "m",
            "adapter": "a",
            "revision": "r",
            "dtype": "bfloat16",
            "template": {"enable_thinking": False},
            "rule": "entropy",
            "threshold": 0.25,
            "top_p": 0.9,
            "batch_size": 3,
            "suppress": [126081, "eot"],
            "stop": "Question:",
            "mc_num": 4,
            "mc_seed": 7,
            "add_bos_token": True,
        }
    )
    assert (args.student.revision, args.student.dtype) == ("r", "bfloat16")
    assert args.student.template == {"enable_thinking": False}
    assert (args.options.rule, args.options.threshold, args.options.top_p) == ("entropy", 0.25, 0.9)
    assert (args.options.suppress, args.options.stop) == (("126081", "eot"), ("Question:",))
    assert (args.own.adapter, args.own.mc_num, args.own.mc_seed, args.own.add_bos_token) == ("a", 4, 7, True)


def test_the_word_none_which_the_harness_reads_as_nothing_is_a_cache_and_else_not_said() -> None:
    args = model_args({"pretrained": "m", "cache": None, "steps": None})
    assert args.options.cache == "none"
    assert "steps" not in args.given


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"thresold": 0.9}, "thresold: no such setting; did you mean 'threshold'?"),
        ({"mc_nun": 1}, "did you mean 'mc_num'?"),
        ({"mask_pads": False}, "mask_pads: no such setting"),
        ({"threshold": "high"}, "threshold: .*found 'high'"),
        ({"threshold": float("nan")}, "threshold: nan is no finite number"),
        ({"gen_length": 12.5}, "gen_length: "),
        ({"gen_length": 0}, "gen_length 0: expected at least 1"),
        ({"batch_size": 0}, "batch_size 0: expected at least 1"),
        ({"dtype": 16}, "dtype: "),
        ({"revision": 12}, r"revision: .*\(found 12\); put it in quotes"),
        ({"cache": "duel"}, "cache 'duel': expected one of"),
        ({"rule": "treshold"}, "no such rule; did you mean 'threshold'?"),
        ({"steps": 4}, "steps with rule threshold: not read"),
        ({"stop_at_end": 1}, "stop_at_end: "),
        ({"suppress": True}, "suppress: "),
        ({"mc_num": 0}, "mc_num: "),
        ({"mc_num": 24, "mc_as_published": True}, "mc_num 24 with mc_as_published: expected a multiple of"),
        ({"pretrained": 5}, "pretrained: "),
        ({"pretrained": None}, "pretrained: missing; expected a checkpoint folder or hub name"),
        ({"adapter": "$NOWHERE_AT_ALL/a"}, "adapter: .*NOWHERE_AT_ALL is not set"),
    ],
)
def test_a_wrong_name_or_value_is_refused_by_name(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=f"model_args: .*{said}"):
        model_args({"pretrained": "m", **given})


def test_several_wrong_settings_are_told_together() -> None:
    with pytest.raises(ConfigError, match=r"hreshold: no such setting.*mc_seed: .*dtype: .*top_p: "):
        model_args({"hreshold": 1, "pretrained": "m", "mc_seed": "x", "dtype": 3, "top_p": "y"})


@pytest.mark.parametrize(
    ("wishes", "given", "own_block", "length"),
    [
        ({}, {}, None, 256),
        ({"max_gen_toks": 512}, {}, None, 512),
        ({"max_gen_toks": 100}, {}, None, 128),
        ({"max_gen_toks": 100}, {"block_length": 25}, None, 100),
        ({"max_gen_toks": 100}, {}, 16, 112),
        ({"max_gen_toks": 10}, {}, None, 10),
        ({"max_gen_toks": 10}, {}, 16, 16),
        ({"max_new_tokens": 64}, {}, None, 64),
        ({"max_tokens": 64, "max_gen_toks": 32}, {}, None, 32),
        ({"max_gen_toks": 2048}, {"gen_length": 128}, None, 128),
    ],
)
def test_the_canvas_is_gen_length_or_else_the_tasks_wish_in_whole_blocks(
    wishes: dict[str, Any], given: dict[str, Any], own_block: int | None, length: int
) -> None:
    assert canvas(wishes, own_block, **given).gen_length == length


def test_what_the_task_asked_for_is_kept_beside_what_it_gets() -> None:
    assert canvas({"max_gen_toks": 2048}, gen_length=128).wished_length == 2048
    assert canvas({}).wished_length is None


def test_stop_strings_are_the_users_and_the_tasks_without_ends_that_end_by_themselves() -> None:
    found = canvas({"until": ["Q:", "<|eot_id|>", "", "\n\n"]}, stop=["END"]).options.stop
    assert found == ("END", "Q:", "\n\n")
    assert canvas({"until": "Q:"}).options.stop == ("Q:",)


@pytest.mark.parametrize(
    ("wishes", "given", "found"),
    [
        ({"do_sample": False, "temperature": 0.7, "top_p": 0.5}, {}, (0.0, 1.0, None)),
        ({"do_sample": True, "temperature": 1}, {}, (1.0, 1.0, None)),
        ({"temperature": 0.7, "top_p": 0.95, "top_k": 5}, {}, (0.7, 0.95, 5)),
        ({"temperature": 0.7, "top_k": 0}, {}, (0.7, 1.0, None)),
        ({"temperature": 0.7, "top_p": 0.95}, {"temperature": 0.1}, (0.1, 0.95, None)),
        ({"do_sample": False}, {"temperature": 0.1, "top_k": 9}, (0.1, 1.0, 9)),
        ({"temperature": 0.0, "top_p": 0.95}, {"top_p": 0.8}, (0.0, 0.8, None)),
    ],
)
def test_a_task_samples_as_it_says_unless_model_args_say(
    wishes: dict[str, Any], given: dict[str, Any], found: tuple[float, float, int | None]
) -> None:
    options = canvas(wishes, **given).options
    assert (options.temperature, options.top_p, options.top_k) == found


@pytest.mark.parametrize(
    ("wishes", "said"),
    [
        ({"min_p": 0.1}, "task gsm8k: generation_kwargs has min_p = 0.1, which is not fulfilled"),
        ({"num_beams": 4}, "num_beams = 4; expected 1"),
        ({"until": 5}, "until = 5; expected a text or a list of texts"),
        ({"until": ["a", 1]}, "expected a text or a list of texts"),
        ({"temperature": "warm"}, "temperature = 'warm'; expected a number"),
        ({"max_gen_toks": 0}, "max_gen_toks = 0; expected a whole number from 1"),
        ({"max_gen_toks": "256"}, "max_gen_toks = '256'; expected a whole number from 1"),
    ],
)
def test_a_wish_that_cannot_be_fulfilled_is_refused_with_its_task(wishes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        canvas(wishes)


def test_one_beam_is_what_there_is() -> None:
    assert canvas({"num_beams": 1}).options == GenerateOptions(cache="none")


@pytest.mark.parametrize(
    ("given", "of_harness", "found"),
    [
        ({}, {"batch_size": "8", "device": "cuda:0"}, {"batch_size": 8}),
        ({"batch_size": 4}, {"batch_size": 1}, {"batch_size": 4}),
        ({"device": "cuda:0"}, {"device": "cpu"}, {"device": "cuda:0"}),
        ({}, {"device": "cpu", "max_batch_size": None}, {"device": "cpu"}),
    ],
)
def test_the_harness_options_count_where_model_args_say_nothing(
    given: dict[str, Any], of_harness: dict[str, Any], found: dict[str, Any]
) -> None:
    assert merged(given, of_harness) == found


@pytest.mark.parametrize("options", [{"batch_size": "auto"}, {"batch_size": "auto:4"}, {"max_batch_size": 8}])
def test_batch_sizes_are_not_searched_and_say_so(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="not searched"):
        merged({}, options)


def test_settings_are_read_without_torch_or_the_harness(project_root: Path) -> None:
    program = "import sys, trims_core.lm_eval_settings; print({'torch', 'lm_eval'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=project_root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
