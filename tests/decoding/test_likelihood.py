"""The Monte Carlo estimate against every set of hidden positions written out, and against LLaDA's program."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes.decoding_checkpoint import write_student
from fakes.dream_checkpoint import write_dream

from trims_core.decoding.likelihood import MonteCarlo, hidden_counts, log_likelihoods, spread
from trims_core.errors import ConfigError, SweepError
from trims_core.students import Student, load_student

PROMPT = [256, 72, 105, 33]
"""As the byte tokenizer has it: a beginning and a word."""
TARGET = [79, 107, 46]


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Student:
    """A random one."""
    return load_student(str(write_student(tmp_path_factory.mktemp("student"))))


def log_probs(student: Student, prompt: list[int], target: list[int], hidden: tuple[int, ...]) -> list[float]:
    """log p of the hidden tokens of a continuation, written out."""
    ids = [*prompt, *(student.family.mask_id if i in hidden else one for i, one in enumerate(target))]
    with torch.inference_mode():
        logits_LV = student.forward(torch.tensor([ids]))[0].double()
    return [float(logits_LV[len(prompt) + i].log_softmax(-1)[target[i]]) for i in hidden]


def over_all_sets(student: Student, prompt: list[int], target: list[int]) -> float:
    """The estimate's expectation: over l, over all sets of l positions."""
    length = len(target)
    levels = []
    for n_hidden in range(1, length + 1):
        sets = list(itertools.combinations(range(length), n_hidden))
        sums = [sum(log_probs(student, prompt, target, hidden)) * length / n_hidden for hidden in sets]
        levels.append(sum(sums) / len(sets))
    return sum(levels) / length


def over_all_orders(student: Student, prompt: list[int], target: list[int]) -> float:
    """The mean log-probability over all orders in which the continuation is revealed token by token."""
    totals = []
    for order in itertools.permutations(range(len(target))):
        total = 0.0
        for n_known, place in enumerate(order):
            hidden = tuple(i for i in range(len(target)) if i not in order[:n_known])
            total += log_probs(student, prompt, target, hidden)[hidden.index(place)]
        totals.append(total)
    return sum(totals) / len(totals)


def test_one_token_is_exact_and_fed_once(student: Student) -> None:
    (found,) = log_likelihoods(student, [(PROMPT, TARGET[:1])], MonteCarlo())
    assert found.nats == pytest.approx(log_probs(student, PROMPT, TARGET[:1], (0,))[0], abs=1e-5)
    assert (found.error_nats, found.n_rows) == (0.0, 1)


def test_the_expectation_is_the_mean_over_all_orders_of_revealing(student: Student) -> None:
    by_sets, by_orders = over_all_sets(student, PROMPT, TARGET), over_all_orders(student, PROMPT, TARGET)
    assert by_sets == pytest.approx(by_orders, abs=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_the_estimate_lies_within_a_few_standard_errors_of_its_expectation(
    student: Student, seed: int
) -> None:
    (found,) = log_likelihoods(student, [(PROMPT, TARGET)], MonteCarlo(samples=3000, seed=seed))
    assert found.error_nats is not None
    assert abs(found.nats - over_all_sets(student, PROMPT, TARGET)) < 4 * found.error_nats
    assert found.n_rows == 7  # every set that is not empty


@pytest.mark.parametrize("size", [1, 5, 16, 128])
def test_every_sample_hides_each_number_of_tokens_equally_often(size: int) -> None:
    length = 6
    by_sample = zip(*(spread(start, length, size) for start in range(1, length + 1)), strict=True)
    assert all(sorted(found) == list(range(1, length + 1)) for found in by_sample)


def test_the_numbers_of_hidden_tokens_are_spread_evenly() -> None:
    found = Counter(hidden_counts(8, MonteCarlo(samples=128), torch.Generator().manual_seed(3)))
    assert found == dict.fromkeys(range(1, 9), 16)


@pytest.mark.parametrize(("length", "size"), [(3, 2), (48, 32), (7, 4), (5, 16), (30, 16)])
def test_as_published_the_spread_is_that_of_lladas_program(length: int, size: int) -> None:
    for start in range(1, length + 1):
        last = start + (size - 1) * (length / size)
        published = torch.round(torch.linspace(float(start), last, steps=size)).long()
        assert spread(start, length, size, as_published=True) == (((published - 1) % length) + 1).tolist()


def test_as_published_a_number_of_hidden_tokens_can_be_missing() -> None:
    second = {spread(start, 3, 2, as_published=True)[1] for start in (1, 2, 3)}
    assert second == {1, 2}  # halves are rounded to even; never 3


def test_as_published_every_batch_begins_anew() -> None:
    how = MonteCarlo(samples=32, batch_size=4, as_published=True)
    found = hidden_counts(16, how, torch.Generator().manual_seed(0))
    batches = [found[start : start + 4] for start in range(0, 32, 4)]
    assert all(batch == spread(batch[0], 16, 4, as_published=True) for batch in batches)
    assert len({batch[0] for batch in batches}) > 1


def test_neither_other_pairs_nor_the_batch_change_an_estimate_and_the_seed_does(student: Student) -> None:
    pairs = [(PROMPT, TARGET), ([256, 65], [66, 67, 68, 69, 70]), (PROMPT * 3, [46])]
    alone = [log_likelihoods(student, [pair], MonteCarlo(batch_size=64))[0] for pair in pairs]
    together = log_likelihoods(student, pairs, MonteCarlo(batch_size=5))
    assert [one.nats for one in together] == pytest.approx([one.nats for one in alone], abs=1e-4)
    assert [one.n_rows for one in together] == [one.n_rows for one in alone]
    (other,) = log_likelihoods(student, pairs[1:2], MonteCarlo(seed=1))
    assert abs(other.nats - alone[1].nats) > 1e-3


def test_who_watches_hears_of_every_pair(student: Student) -> None:
    heard: list[int] = []
    log_likelihoods(student, [(PROMPT, TARGET), (PROMPT, [46])], MonteCarlo(batch_size=3), heard.append)
    assert heard == sorted(heard)
    assert heard[-1] == 2


def test_a_dream_students_shifted_logits_are_read_where_they_stand(tmp_path: Path) -> None:
    dream = load_student(str(write_dream(tmp_path / "dream")))
    target = [40, 41]
    (found,) = log_likelihoods(dream, [([3, 4, 5], target)], MonteCarlo(samples=4000))
    assert found.error_nats is not None
    assert abs(found.nats - over_all_sets(dream, [3, 4, 5], target)) < 4 * found.error_nats


def test_guidance_leads_away_from_what_is_said_without_the_prompt(student: Student) -> None:
    scale, target = 0.5, TARGET[:1]
    (found,) = log_likelihoods(student, [(PROMPT, target)], MonteCarlo(guidance=scale))
    mask = student.family.mask_id
    with torch.inference_mode():
        asked, free = (
            student.forward(torch.tensor([[*prompt, mask]]))[0, -1].double()
            for prompt in (PROMPT, [mask] * len(PROMPT))
        )
    wanted = (free + (scale + 1) * (asked - free)).log_softmax(-1)[target[0]]
    assert found.nats == pytest.approx(float(wanted), abs=1e-4)


def test_many_hidden_positions_are_scored_as_few_are(
    student: Student, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trims_core.decoding import likelihood

    whole = log_likelihoods(student, [(PROMPT, TARGET)], MonteCarlo(guidance=0.5))
    monkeypatch.setattr(likelihood, "_POSITIONS", 2)
    assert log_likelihoods(student, [(PROMPT, TARGET)], MonteCarlo(guidance=0.5))[0].nats == pytest.approx(
        whole[0].nats, abs=1e-5
    )


def test_the_standard_error_is_that_of_independent_samples(student: Student) -> None:
    (one,) = log_likelihoods(student, [(PROMPT, TARGET)], MonteCarlo(samples=1))
    assert one.error_nats is None
    few, many = (
        log_likelihoods(student, [(PROMPT, TARGET)], MonteCarlo(samples=samples))[0].error_nats
        for samples in (200, 3200)
    )
    assert few is not None
    assert many is not None
    assert few / many == pytest.approx(math.sqrt(3200 / 200), rel=0.2)


def test_a_block_causal_student_is_refused(student: Student) -> None:
    attending: Any = Student(student.model, student.family.attending_in_blocks(8))
    with pytest.raises(ConfigError, match="block-causal student: not defined"):
        log_likelihoods(attending, [(PROMPT, TARGET)], MonteCarlo())


def test_numbers_that_are_not_finite_are_an_error(tmp_path: Path) -> None:
    broken = load_student(str(write_student(tmp_path / "student")))
    with torch.no_grad():
        next(iter(broken.model.parameters())).fill_(math.nan)
    with pytest.raises(SweepError, match="not finite"):
        log_likelihoods(broken, [(PROMPT, TARGET)], MonteCarlo())
