"""The student teacher: equal to a dense forward per row with the completion masked, whatever the batches."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from fakes.decoding_checkpoint import write_student
from fakes.dream_checkpoint import write_dream
from fakes.tiny_teacher import scored_by, write_tiny_qwen3

from trims_core.errors import ConfigError
from trims_core.students import read_family
from trims_core.teacher.protocol import Request

FAMILIES = ("llada", "dream")
LONGEST = 60


@pytest.fixture(scope="module", params=FAMILIES)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    return write_student(folder) if request.param == "llada" else write_dream(folder, with_tokenizer=True)


@pytest.fixture(scope="module")
def requests(checkpoint: Path) -> list[Request]:
    """Rows of many lengths, the longest first and last, no [MASK] among their tokens."""
    family = read_family(checkpoint)
    draw = random.Random(0)
    tokens = [token for token in range(family.vocab_size) if token != family.mask_id]

    def ids(n: int) -> list[int]:
        return draw.choices(tokens, k=n)

    found = [Request(f"r{i}", ids(draw.randint(1, 20)), ids(draw.randint(1, 40))) for i in range(16)]
    return [*found, Request("full", ids(10), ids(LONGEST - 10)), Request("least", ids(1), ids(1))]


score = partial(scored_by, "student", LONGEST)


def by_definition(checkpoint: Path, requests: list[Request]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """nll and entropy in float64, one row at a time: every logit, [MASK]'s taken away, shifted by hand."""
    import torch

    from trims_core.students import load_student

    student = load_student(str(checkpoint), dtype="float64")
    mask_id = student.family.mask_id
    shift = {"llada": 0, "dream": 1}[student.family.name]
    found = {}
    for request in requests:
        row = [*request.prompt_ids, *[mask_id] * len(request.target_ids)]
        with torch.no_grad():
            logits_LV = student.model(input_ids=torch.tensor([row])).logits[0].numpy()
        first = len(request.prompt_ids) - shift
        logits_NV = logits_LV[first : first + len(request.target_ids)]
        p_NV = np.exp(logits_NV - logits_NV.max(-1, keepdims=True))
        p_NV[:, mask_id] = 0
        p_NV /= p_NV.sum(-1, keepdims=True)
        terms_NV = np.where(p_NV > 0, -p_NV * np.log(np.where(p_NV > 0, p_NV, 1)), 0)
        found[request.id] = (
            -np.log(p_NV[np.arange(len(p_NV)), request.target_ids]),
            terms_NV.sum(-1),
        )
    return found


def test_scores_and_entropies_are_those_of_a_dense_forward_per_row(
    checkpoint: Path, requests: list[Request]
) -> None:
    found = score(checkpoint, requests)
    wanted = by_definition(checkpoint, requests)
    assert set(found) == set(wanted)
    assert np.std(np.concatenate([nll for nll, _ in wanted.values()])) > 1
    for row_id, (nll, entropy) in wanted.items():
        np.testing.assert_allclose(found[row_id].nll_nats, nll, atol=5e-5, rtol=1e-5)
        np.testing.assert_allclose(found[row_id].entropy_nats, entropy, atol=5e-5)


def test_a_row_alone_has_the_scores_it_has_in_a_batch(checkpoint: Path, requests: list[Request]) -> None:
    together = score(checkpoint, requests)
    alone = score(checkpoint, requests, batch_size=1)
    few = score(checkpoint, requests[::-1], batch_size=3, max_num_batched_tokens=90)
    for row_id, reply in together.items():
        for other in (alone[row_id], few[row_id]):
            np.testing.assert_allclose(other.nll_nats, reply.nll_nats, atol=1e-5, rtol=1e-6)
            np.testing.assert_allclose(other.entropy_nats, reply.entropy_nats, atol=1e-5)


def test_no_token_of_the_completion_is_seen_and_its_length_is(
    checkpoint: Path, requests: list[Request]
) -> None:
    row = requests[-2]
    first = row.target_ids[0]
    others = [row, replace(row, id="same", target_ids=[first] * len(row.target_ids))]
    usual, same = (score(checkpoint, others)[name] for name in ("full", "same"))
    assert same.nll_nats[0] == pytest.approx(usual.nll_nats[0], abs=1e-5)
    assert same.entropy_nats == pytest.approx(usual.entropy_nats, abs=1e-5)
    shorter = score(checkpoint, [replace(row, target_ids=row.target_ids[:5])])["full"]
    assert shorter.nll_nats[0] != pytest.approx(usual.nll_nats[0], abs=1e-3)


def test_the_mask_token_has_no_probability(checkpoint: Path, requests: list[Request]) -> None:
    family = read_family(checkpoint)
    every = [replace(requests[0], id=str(token), target_ids=[token]) for token in range(family.vocab_size)]
    nll = {int(name): reply.nll_nats[0] for name, reply in score(checkpoint, every).items()}
    assert nll.pop(family.mask_id) == np.inf
    assert np.exp(-np.array(list(nll.values()))).sum() == pytest.approx(1, abs=1e-5)


def test_slices_of_the_head_do_not_show(
    checkpoint: Path, requests: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    from trims_core.teacher import in_process

    usual = score(checkpoint, requests)
    monkeypatch.setattr(in_process, "_LOGITS_PER_SLICE", 3 * read_family(checkpoint).vocab_size)
    for row_id, reply in score(checkpoint, requests).items():
        np.testing.assert_allclose(reply.nll_nats, usual[row_id].nll_nats, atol=1e-5, rtol=1e-6)


def test_an_autoregressive_checkpoint_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'qwen3' is no known student family"):
        score(write_tiny_qwen3(tmp_path), [])
