"""Several threads: the same answers, one voice, and no thread left behind."""

from __future__ import annotations

import threading

import pytest
import torch
from fakes.decoding_students import FakeStudent, TinyTransformer, scripted

from trims_core.decoding import DecodeSettings, Threshold, TopK, decode, decode_parallel
from trims_core.errors import InterruptedRunError, SweepError

SETTINGS = DecodeSettings(Threshold(0.35), 16, 8, True, batch_size=3)
PROMPTS = [[(7 * i + j) % 29 + 1 for j in range(3 + i % 5)] for i in range(11)]


def _decoding_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("decode_")]


@pytest.mark.parametrize("workers", [1, 2, 3, 20])
def test_threads_give_what_one_loop_gives_in_the_order_of_the_prompts(workers: int) -> None:
    student = TinyTransformer(seed=5)
    expected = decode(student, PROMPTS, SETTINGS)
    found = decode_parallel(student, PROMPTS, SETTINGS, workers)
    assert [item.token_ids for item in found] == [item.token_ids for item in expected]
    assert [item.n_forwards for item in found] == [item.n_forwards for item in expected]


def test_progress_comes_in_the_calling_thread_and_never_falls() -> None:
    told: list[int] = []
    voices: set[int] = set()

    def on_step(done: int, total: int) -> None:
        voices.add(threading.get_ident())
        told.append(done)
        assert total == len(PROMPTS)

    decode_parallel(TinyTransformer(seed=5), PROMPTS, SETTINGS, 2, on_step)
    assert voices == {threading.get_ident()}
    assert told == sorted(told)


def test_an_error_in_a_thread_is_raised_here_and_ends_the_others() -> None:
    def logits_of(ids_BL: torch.Tensor) -> torch.Tensor:
        bad = torch.nan if ids_BL.shape[1] == 20 else 0.0
        return torch.full((*ids_BL.shape, 32), bad)

    prompts = [[1] * 4, [1] * 3]
    with pytest.raises(SweepError, match="non-finite"):
        decode_parallel(FakeStudent(logits_of), prompts, DecodeSettings(TopK(16), 16, 16), 2)
    assert not _decoding_threads()


def test_an_interrupt_in_the_calling_thread_ends_all_threads() -> None:
    def interrupt(_done: int, _total: int) -> None:
        raise InterruptedRunError("stopped")

    student = scripted([1] * 200)
    with pytest.raises(InterruptedRunError):
        decode_parallel(student, [[1]] * 8, DecodeSettings(TopK(200), 200, 200), 2, interrupt)
    assert len(student.shapes) < 400
    assert not _decoding_threads()


def test_the_number_of_threads_inside_operations_is_put_back() -> None:
    before = torch.get_num_threads()
    decode_parallel(TinyTransformer(seed=5), PROMPTS, SETTINGS, 2)
    assert torch.get_num_threads() == before
