"""One rule for sweeps, generate and export: into the weights where they hold an update, else beside them."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from fakes.decoding_checkpoint import write_student
from fakes.dream_checkpoint import write_dream
from peft import LoraConfig, get_peft_model
from torch.utils._python_dispatch import TorchDispatchMode

from trims_core.config import StudentConfig
from trims_core.decoding.runner import load_runner
from trims_core.generation import Assistant
from trims_core.students import Student, load_student, merge_adapter, save_adapter_official
from trims_core.students.merging import LEAST_SHARE

IDS_BL = torch.arange(40)[None]
NARROW = ["bfloat16", "float16"]


@pytest.fixture(params=["llada", "dream"], scope="module")
def student(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of each family with a tokenizer."""
    folder = tmp_path_factory.mktemp(request.param)
    return write_student(folder) if request.param == "llada" else write_dream(folder, with_tokenizer=True)


def adapter(student: Path, folder: Path, sizes: dict[str, float]) -> Path:
    """An adapter whose updates are as large as these, by (parts of) module names; elsewhere zero."""
    loaded = load_student(str(student))
    targets = loaded.family.lora_targets("all-linear")
    model = get_peft_model(loaded.model, LoraConfig(r=2, lora_alpha=2, target_modules=targets))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            size = next((sizes[part] for part in sizes if part in name), 0.0)
            if "lora_B" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator) * size)
            elif "lora_A" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator))
    save_adapter_official(model, folder)
    return folder


class Operators(TorchDispatchMode):
    """Counts the operators that run inside."""

    n = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.n += 1
        return func(*args, **(kwargs or {}))


def cost(student: Student) -> int:
    with torch.no_grad(), Operators() as counted:
        student.forward(IDS_BL)
    return counted.n


def logits(student: Student) -> torch.Tensor:
    with torch.no_grad():
        return student.forward(IDS_BL).double()


@pytest.mark.parametrize("dtype", ["float32", *NARROW])
def test_a_merged_student_costs_what_the_untuned_one_does(student: Path, tmp_path: Path, dtype: str) -> None:
    folder = adapter(student, tmp_path / "a", {"": 0.05})
    plain = load_student(str(student), dtype=dtype)
    apart = load_student(str(student), dtype=dtype, adapter=folder)
    runner = load_runner(StudentConfig(model=str(student), dtype=dtype, device="cpu"), folder, None)
    assistant = Assistant.load(str(student), folder, dtype=dtype, device="cpu")
    for merged in (runner.student, assistant.student):
        assert cost(merged) == cost(plain) < cost(apart)
        assert {weight.dtype for weight in merged.model.parameters()} == {getattr(torch, dtype)}
        assert type(merged.model) is type(plain.model)
    assert torch.equal(logits(runner.student), logits(assistant.student))
    assert (logits(runner.student) - logits(plain)).abs().mean() > 0.01


def test_float32_sums_are_those_of_peft(student: Path, tmp_path: Path) -> None:
    folder = adapter(student, tmp_path / "a", {"": 0.05})
    ours, theirs = (load_student(str(student), adapter=folder) for _ in range(2))
    merge_adapter(ours)
    theirs.model = theirs.model.merge_and_unload()
    weights = theirs.model.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in ours.model.state_dict().items())


@pytest.mark.parametrize("dtype", NARROW)
def test_an_update_that_rounding_would_lose_stays_beside_the_weights(
    student: Path, tmp_path: Path, dtype: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = adapter(student, tmp_path / "a", {"down_proj": 1e-6, "q_proj": 0.05})
    tuned = load_student(str(student), dtype=dtype, adapter=folder)
    before = load_student(str(student), dtype=dtype).model.state_dict()
    with caplog.at_level(logging.WARNING):
        found = merge_adapter(tuned)
    leaf = "ff_out" if tuned.family.name == "llada" else "down_proj"
    assert {name.rpartition(".")[2] for name in found.apart} == {leaf}
    assert len(found.apart) == 2
    assert f"beside the weights in 2 of 14 modules ({dtype}" in caplog.text
    assert {parameter.dtype for parameter in tuned.model.parameters()} == {getattr(torch, dtype)}
    after = tuned.model.get_base_model().state_dict().items()
    kept = {name.replace(".base_layer", ""): tensor for name, tensor in after}
    changed = {name for name in before if not torch.equal(before[name], kept[name])}
    assert {name.split(".")[-2] for name in changed} == {"q_proj"}


@pytest.mark.parametrize("dtype", NARROW)
def test_the_share_is_that_of_a_slow_sum_in_float64(student: Path, tmp_path: Path, dtype: str) -> None:
    sizes = {"q_proj": 0.02, "k_proj": 2e-3, "up_proj": 5e-4, "v_proj": 1e-4}
    folder = adapter(student, tmp_path / "a", sizes)
    tuned = load_student(str(student), dtype=dtype, adapter=folder)
    wide = load_student(str(student), dtype=dtype, adapter=folder)
    found = merge_adapter(tuned)
    modules = dict(wide.model.get_base_model().named_modules())
    for name, share in found.shares.items():
        layer = modules[wide.family.hf_name(name)]
        update = layer.lora_B["default"].weight.double() @ layer.lora_A["default"].weight.double()
        weight = layer.get_base_layer().weight.double()
        change = (weight + update).to(getattr(torch, dtype)).double() - weight
        slow = float((change * update).sum() / (update * update).sum()) if update.any() else 1.0
        assert share == pytest.approx(slow, abs=1e-3)
        assert (name in found.apart) == (share < LEAST_SHARE)
    assert 0 < len(found.apart) < len(found.shares)


def test_a_narrow_student_with_an_adapter_stays_near_the_wide_one(student: Path, tmp_path: Path) -> None:
    folder = adapter(student, tmp_path / "a", {"q_proj": 0.05, "v_proj": 1e-5})
    wide, narrow = (load_student(str(student), dtype=d, adapter=folder) for d in ("float32", "bfloat16"))
    merge_adapter(narrow)
    wide_p, narrow_p = (logits(one).log_softmax(-1) for one in (wide, narrow))
    plain = load_student(str(student), dtype="bfloat16")
    kl = (wide_p.exp() * (wide_p - narrow_p)).sum(-1).mean()
    assert kl < 0.1 * (wide_p.exp() * (wide_p - logits(plain).log_softmax(-1))).sum(-1).mean()


def test_an_adapter_of_zeros_merges_into_the_untuned_student(student: Path, tmp_path: Path) -> None:
    tuned = load_student(str(student), dtype="bfloat16", adapter=adapter(student, tmp_path / "a", {}))
    assert not merge_adapter(tuned).apart
    assert torch.equal(logits(tuned), logits(load_student(str(student), dtype="bfloat16")))


def test_the_rule_is_in_the_keys_of_narrow_tuned_sweeps_alone() -> None:
    from trims_core.sweep.settings import cell_settings, sweep_settings
    from trims_core.sweep_sections import SweepConfig

    sweep = SweepConfig(tasks={"demo": {"benchmark": "demo", "path": "x"}})
    wanted = {("bfloat16", True): True, ("bfloat16", False): False, ("float32", True): False}
    for (dtype, tuned), said in wanted.items():
        chosen = sweep_settings(sweep, StudentConfig(model="m", dtype=dtype), None, tuned=tuned)
        assert ("merge_rule" in chosen.result_fields()) is said
        assert ("merge_rule" in cell_settings(chosen, "demo", "none", 0.9).result_fields()) is said
