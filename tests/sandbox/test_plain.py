"""Plain values come back as they are, anything else as its base or not at all, and no bytes run anything."""

from __future__ import annotations

import math
from collections import OrderedDict, namedtuple
from enum import IntEnum

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trims_core.sandbox.inside.plain import NotPlainError, decode, encode

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.complex_numbers(allow_nan=False)
) | (st.text() | st.binary() | st.just(range(3, 30, 4)) | st.sampled_from([int, str, list, type(None)]))
HASHABLE = st.none() | st.booleans() | st.integers() | st.text() | st.binary()
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(HASHABLE, inner)
        | st.sets(HASHABLE)
        | st.frozensets(HASHABLE)
    ),
    max_leaves=20,
)


def same(left: object, right: object) -> bool:
    """Equal, and of equal types all the way down."""
    if type(left) is not type(right):
        return False
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))  # type: ignore[arg-type]
    if isinstance(left, dict):
        return same(list(left.items()), list(right.items()))  # type: ignore[attr-defined]
    return (left == right and repr(left) == repr(right)) or (
        isinstance(left, set | frozenset) and left == right
    )


@settings(max_examples=50)
@given(VALUES)
def test_a_plain_value_comes_back_as_it_is(value: object) -> None:
    assert same(decode(encode(value)), value)


def test_what_is_no_number_and_half_a_surrogate_pair_come_back_too() -> None:
    assert math.isnan(decode(encode(math.nan)))
    assert decode(encode("\ud800")) == "\ud800"


class Loud(int):
    def __eq__(self, other: object) -> bool:
        return True

    def __int__(self) -> int:
        return 99

    __hash__ = int.__hash__


class Shout(str):
    def encode(self, *_: object) -> bytes:  # type: ignore[override]
        return b"99"


class Bag(list):  # type: ignore[type-arg]
    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter([99])


class Colour(IntEnum):
    RED = 3


@pytest.mark.parametrize(
    ("value", "base"),
    [
        (Loud(5), 5),
        (Shout("a"), "a"),
        (Bag([1, Loud(2)]), [1, 2]),
        (Colour.RED, 3),
        (namedtuple("P", "x y")(1, 2), (1, 2)),  # type: ignore[call-arg]
        (OrderedDict(a=1), {"a": 1}),
        (type("F", (float,), {})(-0.0), -0.0),
    ],
)
def test_a_subclass_goes_as_its_base_with_the_base_s_own_contents(value: object, base: object) -> None:
    assert same(decode(encode(value)), base)


@pytest.mark.parametrize("value", [object(), len, Loud, iter([1]), [object()], {1: object()}])
def test_anything_else_is_refused_or_kept_by_its_owner(value: object) -> None:
    with pytest.raises(NotPlainError, match="no plain value"):
        encode(value)
    kept: list[object] = []
    data = encode(value, lambda one: kept.append(one) or 7)  # type: ignore[func-returns-value]
    assert len(kept) == 1
    assert repr(decode(data, lambda number: f"<{number}>")).count("<7>") == 1
    with pytest.raises(NotPlainError):
        decode(data)


def test_what_nests_too_deeply_or_contains_itself_is_refused() -> None:
    deep: list[object] = []
    for _ in range(99):
        deep = [deep]
    assert decode(encode(deep)) == deep
    looped: list[object] = []
    looped.append(looped)
    for value in ([[deep]], looped):
        with pytest.raises(NotPlainError, match="100 levels"):
            encode(value)
    with pytest.raises(NotPlainError, match="100 levels"):
        decode(b"l\x01\x00\x00\x00" * 200 + b"N")


@given(
    st.binary(max_size=60)
    | VALUES.map(encode).flatmap(lambda data: st.integers(0, 9).map(lambda n: data[n:]))
)
def test_any_bytes_are_a_plain_value_or_no_value(data: bytes) -> None:
    try:
        value = decode(data)
    except NotPlainError:
        return
    assert same(decode(encode(value)), value) or value != value


def test_a_length_beyond_the_bytes_allocates_nothing() -> None:
    for tag in b"lsd":
        with pytest.raises(NotPlainError):
            decode(bytes([tag]) + b"\xff\xff\xff\xff")
