"""The benchmark of the sandbox runs, and says what it promises to say."""

from __future__ import annotations

from fakes.benches import quick
from fakes.boxes import needs_bubblewrap


def test_a_quick_run_tells_how_many_programs_a_second() -> None:
    needs_bubblewrap()
    found = quick("sandbox")
    assert found["n_right"] == found["n"] and found["mark"] == "bubblewrap"
    assert found["programs_per_second"] > 0 and found["ratio_bare"] > 0
