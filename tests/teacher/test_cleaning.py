"""Raw values → nats: what is rounding, what is a reject, and that no −0.0 survives."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trims_core.teacher.cleaning import NON_FINITE, POSITIVE, WRONG_LENGTH, UnusableScoresError, clean_nats


def test_minus_zero_becomes_plus_zero_and_sorts_first_by_its_bits() -> None:
    found = clean_nats([-0.0, 1.0], 2, "nll")
    assert found.view(np.uint32)[0] == 0


def test_rounding_below_zero_becomes_zero() -> None:
    assert clean_nats([-1e-4, -1e-7, 0.0, 1e-12], 4, "nll").tolist() == [
        0.0,
        0.0,
        0.0,
        float(np.float32(1e-12)),
    ]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 9999.0, -9999.0])
def test_what_is_not_finite_or_a_sentinel_is_a_reject(value: float) -> None:
    with pytest.raises(UnusableScoresError, match=r"1 of 3 nll values, first .* at token 2") as caught:
        clean_nats([0.1, 0.2, value], 3, "nll")
    assert caught.value.reason == NON_FINITE


def test_a_positive_log_probability_is_a_reject() -> None:
    with pytest.raises(UnusableScoresError, match=r"first -0\.3 at token 0") as caught:
        clean_nats([-0.3], 1, "nll")
    assert caught.value.reason == POSITIVE


@pytest.mark.parametrize("values", [[], [0.1], [0.1, 0.2, 0.3], [[0.1, 0.2]]])
def test_another_number_of_values_is_a_reject(values: list[float]) -> None:
    with pytest.raises(UnusableScoresError) as caught:
        clean_nats(values, 2, "nll")
    assert caught.value.reason == WRONG_LENGTH


@given(st.lists(st.floats(-1e-4, 9000.0), min_size=1))
def test_clean_values_are_the_raw_ones_in_float32_and_never_negative(values: list[float]) -> None:
    found = clean_nats(values, len(values), "nll")
    assert found.dtype == np.float32
    assert not np.signbit(found).any()
    assert found.tolist() == [float(np.float32(max(value, 0.0))) for value in values]


@pytest.mark.parametrize("value", [-1.01e-4, -1.5e-4, -1.99e-4])
def test_just_below_rounding_is_refused(value: float) -> None:
    with pytest.raises(UnusableScoresError) as raised:
        clean_nats([0.1, value], 2, "nll")
    assert raised.value.reason == POSITIVE
