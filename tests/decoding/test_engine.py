"""The canvas loop: blocks, counting, batching, stopping."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import pytest
import torch
from fakes.decoding_students import END, MASK, VOCABULARY, FakeStudent, TinyTransformer, scripted

from trims_core.decoding import DecodeSettings, Threshold, TopK, decode, one_per_forward
from trims_core.errors import ConfigError

TEXT = [1, 2, 3, 4, 5, 6, END, END]
SURE = DecodeSettings(Threshold(0.9), gen_length=8, block_length=4, stop_at_end=False)


def test_a_sure_model_takes_one_forward_per_block() -> None:
    (found,) = decode(scripted(TEXT), [[1, 2]], SURE)
    assert found.token_ids == TEXT
    assert found.n_forwards == 2
    assert found.reveal_step == [0, 0, 0, 0, 1, 1, 1, 1]


def test_one_token_per_forward_takes_as_many_forwards_as_positions() -> None:
    student = scripted(TEXT)
    (found,) = decode(student, [[1, 2]], replace(SURE, rule=one_per_forward(8)))
    assert found.n_forwards == len(student.shapes) == 8
    assert sorted(found.reveal_step) == list(range(8))


def test_blocks_are_finished_from_left_to_right_whatever_the_model_is_sure_of() -> None:
    student = scripted(TEXT, confident=[1, 2, 1, 2, 9, 9, 9, 9])
    (found,) = decode(student, [[1]], SURE)
    assert max(found.reveal_step[:4]) < min(found.reveal_step[4:])


def test_the_most_confident_position_is_revealed_first_and_the_leftmost_of_equals() -> None:
    student = scripted([1, 2, 3, 4], confident=[3.0, 5.0, 3.0, 4.0])
    (found,) = decode(student, [[1]], DecodeSettings(TopK(4), 4, 4, False))
    assert found.reveal_step == [2, 0, 3, 1]


def test_steps_that_do_not_divide_a_block_reveal_one_more_in_its_first_forwards() -> None:
    (found,) = decode(scripted([1] * 20), [[1]], DecodeSettings(TopK(8), 20, 10, False))
    assert [found.reveal_step.count(step) for step in range(8)] == [3, 3, 2, 2, 3, 3, 2, 2]


@pytest.mark.parametrize(("nudge", "reached"), [(-1e-11, True), (1e-11, False)])
def test_the_threshold_decides_like_a_float64_softmax(nudge: float, reached: bool) -> None:
    student = scripted([1, 2, 3, 4], confident=[6.0, 5.0, 4.9, 5.0])
    second = 1 / (1 + (VOCABULARY - 1) * math.exp(-5.0))
    (found,) = decode(student, [[1]], DecodeSettings(Threshold(second + nudge), 4, 4, False))
    assert [step == 0 for step in found.reveal_step] == [True, reached, False, reached]


def test_confidence_is_the_softmax_probability_over_the_whole_vocabulary() -> None:
    (found,) = decode(scripted([7], confident=[2.0]), [[1]], DecodeSettings(TopK(1), 1, 1, False))
    expected = torch.tensor([2.0] + [0.0] * 31).softmax(0)[0].item()
    assert found.confidence == [pytest.approx(expected, rel=1e-6)]


def test_stopping_at_the_end_token_leaves_the_rest_masked_and_saves_its_forwards() -> None:
    settings = replace(SURE, rule=one_per_forward(8), block_length=8, stop_at_end=True)
    student = scripted([1, 2, END, 4, 5, 6, 7, 8], confident=[9, 9, 9, 1, 1, 1, 1, 1])
    (found,) = decode(student, [[1]], settings)
    assert found.finished
    assert (found.n_forwards, found.n_tokens) == (3, 3)
    assert found.token_ids == [1, 2, END] + [MASK] * 5
    assert found.reveal_step[3:] == [-1] * 5
    assert found.confidence[3:] == [None] * 5


def test_an_end_token_behind_a_masked_position_does_not_stop() -> None:
    settings = DecodeSettings(one_per_forward(3), 3, 3, stop_at_end=True)
    (found,) = decode(scripted([1, END, 3], confident=[1.0, 9.0, 5.0]), [[1]], settings)
    assert found.reveal_step == [2, 0, 1]
    assert found.token_ids == [1, END, 3]
    assert found.n_forwards == 3


def test_tokens_count_up_to_and_including_the_first_end_token() -> None:
    (whole,) = decode(scripted(TEXT), [[1]], SURE)
    (endless,) = decode(scripted([1] * 8), [[1]], SURE)
    assert (whole.n_tokens, whole.finished) == (7, True)
    assert (endless.n_tokens, endless.finished) == (8, False)


PROMPTS = [[place % 29 + 1 for place in range(seed, seed + length)] for seed, length in
           [(1, 3), (4, 11), (9, 7), (2, 19), (5, 3), (8, 1), (11, 14), (3, 8), (6, 19)]]  # fmt: skip


@pytest.mark.parametrize("stop_at_end", [True, False])
@pytest.mark.parametrize("rule", [Threshold(0.35), TopK(8)], ids=["threshold", "topk"])
@pytest.mark.parametrize("batch_size", [2, 4, 32])
def test_every_sequence_gets_in_a_batch_what_it_gets_alone(
    rule: Threshold | TopK, batch_size: int, stop_at_end: bool
) -> None:
    student = TinyTransformer(seed=3)
    settings = DecodeSettings(rule, 16, 8, stop_at_end, batch_size=1)
    alone = [decode(student, [prompt], settings)[0] for prompt in PROMPTS]
    together = decode(student, PROMPTS, replace(settings, batch_size=batch_size))
    assert len({item.n_forwards for item in alone}) > 1 or isinstance(rule, TopK)
    for one, other in zip(alone, together, strict=True):
        assert one.token_ids == other.token_ids
        assert one.reveal_step == other.reveal_step
        assert (one.n_forwards, one.n_tokens, one.finished) == (
            other.n_forwards,
            other.n_tokens,
            other.finished,
        )
        for a, b in zip(one.confidence, other.confidence, strict=True):
            assert a == (None if b is None else pytest.approx(b, abs=1e-5))


def test_finished_sequences_leave_the_batch_and_waiting_ones_enter() -> None:
    student = TinyTransformer(seed=3)
    decoded = decode(student, PROMPTS, DecodeSettings(Threshold(0.35), 16, 8, True, batch_size=4))
    sizes = [rows for rows, _ in student.shapes]
    assert sum(sizes) == sum(item.n_forwards for item in decoded)
    assert max(sizes) == 4
    widths = [width for _, width in student.shapes]
    assert widths == sorted(widths, reverse=True)
    n_waiting_steps = next(i for i, size in enumerate(sizes) if size < 4)
    assert all(size < 4 for size in sizes[n_waiting_steps:])


def test_a_prompt_may_contain_the_mask_token() -> None:
    (found,) = decode(scripted(TEXT), [[1, MASK, 2]], SURE)
    assert found.token_ids == TEXT


def test_progress_is_told_after_every_forward_and_ends_with_all() -> None:
    told: list[tuple[int, int]] = []
    student = scripted(TEXT)
    decode(student, [[1]] * 5, replace(SURE, batch_size=2), lambda done, total: told.append((done, total)))
    assert len(told) == len(student.shapes)
    assert told[-1] == (5, 5)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_the_seconds_of_all_sequences_add_up_to_the_decoding_time() -> None:
    def slow(ids_BL: torch.Tensor) -> torch.Tensor:
        time.sleep(0.01)
        return torch.zeros(*ids_BL.shape, 32)

    started = time.perf_counter()
    decoded = decode(FakeStudent(slow), [[1]] * 4, DecodeSettings(TopK(3), 3, 3, False, batch_size=4))
    elapsed = time.perf_counter() - started
    assert 0.03 <= sum(item.seconds for item in decoded) <= elapsed


def test_no_prompts_give_no_results() -> None:
    assert decode(scripted(TEXT), [], SURE) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (DecodeSettings(TopK(3), 8, 4), "steps 3 on a canvas of 8 positions in 2 blocks"),
        (DecodeSettings(TopK(16), 8, 4), "steps 16"),
        (DecodeSettings(TopK(8), 8, 3), "gen_length 8 with block_length 3"),
        (DecodeSettings(TopK(8), 8, 0), "block_length 0"),
        (DecodeSettings(Threshold(0.0), 8, 4), "threshold 0.0"),
        (DecodeSettings(Threshold(1.5), 8, 4), "threshold 1.5"),
        (DecodeSettings(TopK(8), 8, 4, batch_size=0), "batch_size 0"),
    ],
)
def test_impossible_settings_are_refused_before_any_forward(settings: DecodeSettings, message: str) -> None:
    student = scripted(TEXT)
    with pytest.raises(ConfigError, match=message):
        decode(student, [[1]], settings)
    assert student.shapes == []


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(ConfigError, match="prompt 1 is empty"):
        decode(scripted(TEXT), [[1], []], SURE)
