"""Proposals for given canvases against one dense forward each, written out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from fakes.decoding_checkpoint import write_student
from fakes.decoding_students import END, MASK, TinyTransformer, scripted
from fakes.dream_checkpoint import write_dream

from trims_core.block_causal import blocks_at, sees
from trims_core.decoding import Sampling
from trims_core.decoding.filling import filled
from trims_core.students import Student, load_student

PROMPTS = [[1, 2, 3, 4, 5, 6], [7], [3, 9, 2]]


@pytest.fixture(scope="module", params=["llada", "dream"])
def student(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Student:
    """A random one; Dream's predictions stand one position to the right."""
    write = write_student if request.param == "llada" else write_dream
    return load_student(str(write(tmp_path_factory.mktemp(request.param))))


def canvases(mask: int) -> list[list[int]]:
    """Nothing, something and all but one position revealed, and a full one."""
    return [[mask] * 6, [4, mask, mask, 8, mask, 2], [1, 2, 3, 4, 5, mask]]


def by_hand(student: Student, prompt: list[int], canvas: list[int], *suppressed: int) -> list[int]:
    """The most probable token but [MASK] at each masked position, from the logits of the whole sequence."""
    with torch.no_grad():
        logits_LV = student.forward(torch.tensor([[*prompt, *canvas]]))[0]
    logits_LV[:, [student.family.mask_id, *suppressed]] = -torch.inf
    proposed = logits_LV[len(prompt) :].argmax(dim=-1).tolist()
    return [proposed[i] if one == student.family.mask_id else one for i, one in enumerate(canvas)]


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_masked_positions_take_the_proposals_of_one_forward_whatever_else_is_in_the_batch(
    student: Student, batch_size: int
) -> None:
    asked = canvases(student.family.mask_id)
    expected = [by_hand(student, *pair) for pair in zip(PROMPTS, asked, strict=True)]
    assert filled(student, PROMPTS, asked, Sampling(), batch_size) == expected


def test_neither_temperature_nor_nucleus_changes_a_proposal_and_suppressed_tokens_are_none(
    student: Student,
) -> None:
    asked = canvases(student.family.mask_id)
    plain = filled(student, PROMPTS, asked, Sampling(), 4)
    assert filled(student, PROMPTS, asked, Sampling(temperature=2.0, seed=7, top_p=0.5), 4) == plain
    banned = plain[0][0]
    sampling = Sampling(suppress_ids=frozenset({banned}))
    expected = [by_hand(student, *pair, banned) for pair in zip(PROMPTS, asked, strict=True)]
    assert filled(student, PROMPTS, asked, sampling, 4) == expected != plain


def test_the_mask_is_never_proposed_however_probable() -> None:
    assert filled(scripted([MASK, 2, MASK]), [[1]], [[MASK] * 3], Sampling(), 1) == [[0, 2, 0]]


def test_full_canvases_take_no_forward_and_what_is_revealed_stays() -> None:
    student = scripted([END] * 3)
    told: list[int] = []
    found = filled(student, [[1]] * 3, [[4, 5, 6], [4, MASK, 6], [7, 8, 9]], Sampling(), 2, told.append)
    assert found == [[4, 5, 6], [4, END, 6], [7, 8, 9]]
    assert (student.shapes, told) == ([(1, 4)], [1])


def test_guidance_is_that_of_decoding() -> None:
    student, prompt, canvas = TinyTransformer(seed=3), [1, 2, 3], [MASK, 5, MASK]
    with torch.no_grad():
        told = student.forward(torch.tensor([[*prompt, *canvas]]))[0, 3:]
        free = student.forward(torch.tensor([[MASK] * 3 + canvas]))[0, 3:]
    logits = free + 3.0 * (told - free)
    logits[:, MASK] = -torch.inf
    expected = [int(logits[0].argmax()), 5, int(logits[2].argmax())]
    assert filled(student, [prompt], [canvas], Sampling(guidance=2.0), 1) == [expected]


def test_a_block_causal_student_sees_no_later_block(tmp_path: Path) -> None:
    student = load_student(str(write_student(tmp_path / "student", seed=4)))
    student.family = student.family.attending_in_blocks(2)
    mask, prompt = student.family.mask_id, PROMPTS[0]
    canvas = [4, mask, mask, 8, mask, 2]
    places = blocks_at(torch.arange(len(prompt) + 6) - len(prompt), 2)
    ids = torch.tensor([[*prompt, *canvas]])
    with torch.no_grad():
        logits = student.head(student.hidden(ids, attention_mask=sees(places, places)[None]))[0]
    logits[:, mask] = -torch.inf
    proposed = logits[len(prompt) :].argmax(dim=-1).tolist()
    expected = [proposed[i] if one == mask else one for i, one in enumerate(canvas)]
    assert filled(student, [prompt], [canvas], Sampling(), 1) == [expected]
    assert expected != by_hand(student, prompt, canvas)
