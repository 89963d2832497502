"""The method that docs/methods.md adds as an example works as it stands there, and is short."""

from __future__ import annotations

import re
import sys
import types

import pytest
import torch
from fakes.objectives import sequences_of, totals_of
from fakes.training_student import MASK_ID, tiny_family, tiny_model, tiny_train

from trims_core.training.method import Context, build_method
from trims_core.training.student import Denoiser, TrainedStudent


@pytest.fixture
def shown(project_root, monkeypatch):
    """The example's modules, imported under the names that it gives them; and its text."""
    text = (project_root / "docs" / "methods.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n# trims_core/(\S+)\.py\n(.*?)```", text, re.DOTALL)
    modules = {}
    for path, code in blocks:
        name = "trims_core." + path.replace("/", ".")
        module = types.ModuleType(name)
        monkeypatch.setitem(sys.modules, name, module)
        exec(compile(code, path, "exec"), module.__dict__)
        modules[name.rpartition(".")[0]] = module
    return modules, [code for _, code in blocks]


def test_the_example_is_short_and_its_loss_falls(shown):
    modules, codes = shown
    assert len(codes) == 2 and sum(code.count("\n") for code in codes) <= 80
    variant = modules["trims_core.variants"].SuffixVariant(certainty=0.5)
    train = tiny_train()
    context = Context(train, train.ends_of(variant), 1, MASK_ID, "llada")
    method = build_method(variant, context)
    denoiser = Denoiser(tiny_model().requires_grad_(True), tiny_family()).train()
    student = TrainedStudent(denoiser, denoiser)
    optimizer = torch.optim.SGD(denoiser.parameters(), lr=0.1)
    batch = method.batch(sequences_of([list(range(1, 11))] * 2, [3, 4]))
    assert batch.view.scored_BL[:, -1].all() and not batch.view.scored_BL[:, :3].any()
    losses = []
    for _ in range(5):
        (loss,) = method.losses(student, batch, totals_of([batch]))
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        losses.append(loss.total.item())
    assert losses == sorted(losses, reverse=True)
    assert variant.result_fields()["shown_max"] == 0.9
