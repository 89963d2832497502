"""Random students of the published shapes."""

from __future__ import annotations

import pytest
import torch

from trims_core.errors import ConfigError
from trims_core.students import family_of_shape, random_student


@pytest.mark.parametrize(
    ("shape", "n_parameters", "official"),
    [
        ("llada-8b", 8_015_581_184, "model.transformer.blocks.31.ff_out.weight"),
        ("dream-7b", 7_615_616_512, "model.layers.27.mlp.down_proj.weight"),
    ],
)
def test_the_published_shapes_have_the_published_number_of_parameters(
    shape: str, n_parameters: int, official: str
) -> None:
    student = random_student(shape, dtype="bfloat16", device="meta")
    assert sum(weight.numel() for weight in student.model.parameters()) == n_parameters
    assert {weight.dtype for weight in student.model.parameters()} == {torch.bfloat16}
    assert official in {student.family.official_name(name) for name in student.model.state_dict()}


def test_sizes_can_be_overridden_and_the_head_keeps_the_published_vocabulary() -> None:
    student = random_student("llada-8b", device="meta", n_layers=8, width=512, mlp_width=1536)
    config = student.model.config
    assert (config.num_hidden_layers, config.num_attention_heads, config.num_key_value_heads) == (8, 4, 4)
    assert student.model.lm_head.weight.shape == (126464, 512)
    assert student.family.mask_id == 126336
    dream = family_of_shape("dream-7b", width=1792)
    assert (dream.config["num_attention_heads"], dream.config["num_key_value_heads"]) == (14, 2)


def test_the_same_seed_gives_the_same_weights_and_leaves_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    first, again, other = (
        random_student("dream-7b", n_layers=1, width=64, mlp_width=64, n_heads=2, seed=seed)
        for seed in (1, 1, 2)
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    head = first.model.lm_head.weight
    assert torch.equal(head, again.model.lm_head.weight)
    assert not torch.equal(head, other.model.lm_head.weight)


@pytest.mark.parametrize(("shape", "sizes"), [("llada-9b", {}), ("llada-8b", {"width": 100, "n_heads": 3})])
def test_a_shape_that_cannot_be_is_refused(shape: str, sizes: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=shape):
        random_student(shape, device="meta", **sizes)
