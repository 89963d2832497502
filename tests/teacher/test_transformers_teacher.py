"""The transformers teacher: equal to the definition, whatever the batches; exact entropy; honest failures."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from fakes.tiny_teacher import CONTEXT, VOCAB_SIZE, scored_by, write_tiny_qwen3

from trims_core.errors import TeacherError
from trims_core.teacher.protocol import Request


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_qwen3(tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    draw = random.Random(0)

    def ids(n: int) -> list[int]:
        return [draw.randrange(VOCAB_SIZE) for _ in range(n)]

    found = [Request(f"r{i}", ids(draw.randint(1, 30)), ids(draw.randint(1, 90))) for i in range(20)]
    return [*found, Request("full", ids(10), ids(CONTEXT - 10)), Request("least", ids(1), ids(1))]


score = partial(scored_by, "transformers", CONTEXT)


def by_definition(checkpoint: Path, request: Request) -> tuple[np.ndarray, np.ndarray]:
    """nll and entropy of one row in float64, from the logits of one forward over it alone."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float64)
    with torch.no_grad():
        logits = model(torch.tensor([request.prompt_ids + request.target_ids])).logits[0].numpy()
    places = np.arange(len(request.prompt_ids), request.n_tokens) - 1
    shifted = logits[places] - logits[places].max(-1, keepdims=True)
    logp = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return -logp[np.arange(len(places)), request.target_ids], -(np.exp(logp) * logp).sum(-1)


def test_scores_and_entropies_are_those_of_the_definition(checkpoint: Path, requests: list[Request]) -> None:
    found = score(checkpoint, requests)
    assert set(found) == {request.id for request in requests}
    for request in requests[-4:]:
        nll, entropy = by_definition(checkpoint, request)
        np.testing.assert_allclose(found[request.id].nll_nats, nll, atol=2e-5)
        np.testing.assert_allclose(found[request.id].entropy_nats, entropy, atol=2e-5)


def test_batches_and_slices_of_the_head_do_not_show(
    checkpoint: Path, requests: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    from trims_core.teacher import in_process

    together = score(checkpoint, requests)
    monkeypatch.setattr(in_process, "_LOGITS_PER_SLICE", 3 * VOCAB_SIZE)
    apart = score(checkpoint, requests, batch_size=3, max_num_batched_tokens=150)
    for row_id, reply in together.items():
        np.testing.assert_allclose(apart[row_id].nll_nats, reply.nll_nats, atol=2e-5)


def test_a_model_whose_logits_are_not_its_plain_head_is_scored_by_its_own_logits(
    checkpoint: Path, requests: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    from trims_core.teacher import transformers_teacher

    usual = score(checkpoint, requests)
    monkeypatch.setattr(transformers_teacher, "_head_is_plain", lambda _: False)
    whole = score(checkpoint, requests)
    for row_id, reply in usual.items():
        np.testing.assert_allclose(whole[row_id].nll_nats, reply.nll_nats, atol=2e-5)


def test_a_capped_head_is_recognised(tmp_path: Path) -> None:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    from trims_core.teacher.transformers_teacher import _head_is_plain

    shape = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "initializer_range": 2.0}
    assert not _head_is_plain(
        Gemma2ForCausalLM(Gemma2Config(**shape, **heads, final_logit_softcapping=1.0)).eval()
    )
    assert _head_is_plain(
        Gemma2ForCausalLM(Gemma2Config(**shape, **heads, final_logit_softcapping=None)).eval()
    )


def test_batches_are_bounded_in_rows_and_padded_tokens(requests: list[Request]) -> None:
    from trims_core.teacher.in_process import _batches

    ordered = sorted(requests, key=lambda request: -request.n_tokens)
    batches = list(_batches(ordered, 4, 150))
    assert [request for batch in batches for request in batch] == ordered
    for batch in batches:
        assert len(batch) == 1 or (len(batch) <= 4 and batch[0].n_tokens * len(batch) <= 150)


def test_a_folder_without_a_model_is_a_teacher_error(tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match="cannot be loaded"):
        score(tmp_path, [])
