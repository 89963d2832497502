"""Ids are told apart, whatever the others are, and cost a few bytes each."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trims_core.corpus import ids
from trims_core.corpus.ids import SeenIds


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=3)))
def test_an_id_is_new_once(names: list[str]) -> None:
    seen, known = SeenIds(), set()
    for name in names:
        assert seen.add(name) == (name not in known)
        known.add(name)


def test_a_digest_that_stands_across_two_others_is_not_taken_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids, "_N_GROUPS", 1)
    seen = SeenIds()

    class Fixed:
        def __init__(self, data: bytes, digest_size: int) -> None:
            self._data = data.ljust(digest_size, b"-")

        def digest(self) -> bytes:
            return self._data

    monkeypatch.setattr(ids.hashlib, "blake2b", Fixed)
    assert seen.add("aaaaaaaabbbbbbbb") and seen.add("ccccccccdddddddd")
    assert seen.add("bbbbbbbbcccccccc") and not seen.add("bbbbbbbbcccccccc")
    assert not seen.add("ccccccccdddddddd")


def test_a_hundred_thousand_ids_cost_at_most_64_bytes_each() -> None:
    tracemalloc.start()
    try:
        seen = SeenIds()
        assert all(seen.add(f"example-{number:07d}") for number in range(100_000))
        current, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert max(current, peak) <= 64 * 100_000
    assert not seen.add("example-0099999")
