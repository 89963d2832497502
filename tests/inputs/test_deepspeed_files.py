"""A DeepSpeed file says how training is cut up; what would replace our settings is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trims_core.errors import ConfigError
from trims_core.training.zero import ZERO2, deepspeed_settings


def settings(folder: Path, text: str | dict[str, Any]) -> dict[str, Any]:
    path = folder / "ds.json"
    path.write_text(text if isinstance(text, str) else json.dumps(text))
    return deepspeed_settings(str(path))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"scheduler": {"type": "WarmupLR"}}, "scheduler .* is set by train.scheduler, train.lr and"),
        (
            {"optimizer": {"type": "AdamW"}},
            "optimizer .* is set by train.lr, train.weight_decay and train.adam",
        ),
        ({"gradient_clipping": 0.5}, "gradient_clipping 0.5 .* train.max_grad_norm"),
        ({"train_batch_size": 64}, "train_batch_size 64 .* train.batch_size"),
        ({"bf16": {"enabled": True}}, "bf16.enabled True .* student.dtype"),
        ({"curriculum_learning": {"enabled": True}}, "curriculum_learning .* not supported"),
        (
            {"zero_optimisation": {"stage": 3}},
            "zero_optimisation: DeepSpeed has no such block; did you mean 'zero_optimization'",
        ),
        ({"zero_optimization": 2}, "zero_optimization: expected an object"),
        ({"zero_optimization": {"stage": "2"}}, "ZeRO stage '2'; expected 0, 1, 2 or 3"),
    ],
)
def test_what_would_replace_our_settings_is_refused(
    tmp_path: Path, more: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=f"train.deepspeed: .*ds.json: {message}"):
        settings(tmp_path, {**ZERO2, **more})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"steps_per_print": NaN}', "NaN is no finite number"),
        ('{"steps_per_print": 1e999}', "1e999 is no finite number"),
        ('{"zero_optimization": {}, "zero_optimization": {}}', "the key 'zero_optimization' occurs twice"),
        ('{"steps_per_print": ' + "9" * 5000 + "}", "Exceeds the limit"),
        ("[" * 9999, "not valid JSON"),
    ],
)
def test_what_is_no_json_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"ds.json: .*{message}"):
        settings(tmp_path, text)


def test_what_a_file_leaves_out_is_ours_and_the_rest_is_used(tmp_path: Path) -> None:
    found = settings(tmp_path, {"zero_optimization": {"stage": 1}, "prescale_gradients": True})
    assert (found["gradient_clipping"], found["bf16"]) == ("auto", {"enabled": "auto"})
    assert (found["zero_optimization"], found["prescale_gradients"]) == ({"stage": 1}, True)
