"""One kind of interval per table of levels, two labelled columns per difference, AUP last."""

from __future__ import annotations

from typing import Any

import pytest
from fakes.report_cells import curve

from trims_core.config import ReportConfig
from trims_core.report.cells import Cell
from trims_core.report.contrast_tables import (
    BOTH,
    PROBLEMS,
    differences_table,
    kind_of_levels,
    mcnemar_table,
    methods_table,
)
from trims_core.report.results import comparison_of

PAIRS = [("trims", "standard"), ("trims", "untuned")]


def study(*seeds: int) -> list[Cell]:
    """Untuned, standard and trims with these seeds."""
    cells = curve("untuned", (50, 45, 30))
    for seed in seeds:
        cells += curve("standard", (60 - seed, 55, 40), seed=seed)
        cells += curve("trims", (75 + seed, 70, 55 + 2 * seed), seed=seed)
    return cells


def found_in(cells: list[Cell], levels: tuple[float, ...] = (2.5, 4.0)) -> dict[str, Any]:
    report = ReportConfig(levels=levels, bootstrap_samples=200)
    return comparison_of("demo", cells, PAIRS, report)


def test_every_difference_has_two_labelled_intervals_and_its_adjusted_p() -> None:
    found = found_in(study(0, 1, 2))
    table = differences_table("demo", found)
    assert table.header == (
        "difference",
        "tokens per forward",
        "points",
        "[95 %] over problems",
        "[95 %] over seeds and problems",
        "p (Holm)",
        "verdict",
    )
    assert len(table.rows) == 2 * 5
    of_pair = [row for row in table.rows if row[0] == "trims − standard"]
    assert [row[1] for row in of_pair] == ["mean over 2.0–5.0", "2.5", "4", "one", "AUP (no points)"]
    assert all(row[3].startswith("[") and row[4].startswith("[") for row in table.rows)
    assert [row[5] == "–" for row in of_pair] == [False, False, False, True, True]
    assert [row[6] for row in of_pair] == [found["comparisons"][0]["verdict"], *"––––"]
    assert "adjusted (Holm) over the 6 means and levels of this table" in table.caption
    mean = found["comparisons"][0]["mean_over_range"]
    assert of_pair[0][2] == f"{100 * mean['value']:+.1f}"
    assert of_pair[0][4] == f"[{100 * mean[BOTH]['low']:+.1f}, {100 * mean[BOTH]['high']:+.1f}]"


def test_with_one_seed_only_the_first_interval_is_shown() -> None:
    found = found_in(study(0))
    table = differences_table("demo", found)
    assert table.header[3:] == ("[95 %] over problems", "verdict")
    assert "Holm" not in table.caption
    assert "seeds and problems" not in methods_table("demo", found).caption


def test_a_seed_that_is_missing_leaves_a_dash_for_its_method_only() -> None:
    cells = [c for c in study(0, 1) if (c.variant, c.seed) != ("standard", 1)]
    found = found_in(cells)
    rows = {(row[0], row[1]): row for row in differences_table("demo", found).rows}
    assert rows["trims − standard", "2.5"][4:6] == ("–", "–")
    assert rows["trims − untuned", "2.5"][4].startswith("[")
    # standard has no interval over seeds, so the table of levels has none at all
    assert kind_of_levels(found) == PROBLEMS


@pytest.mark.parametrize(("seeds", "kind"), [((0,), PROBLEMS), ((0, 1, 2), BOTH)])
def test_a_table_of_levels_carries_one_kind_of_interval_and_names_it(
    seeds: tuple[int, ...], kind: str
) -> None:
    found = found_in(study(*seeds))
    table = methods_table("demo", found)
    assert kind_of_levels(found) == kind
    for row in table.rows:
        numbers = found["numbers"][row[0]]
        shown = [numbers["mean_over_range"], *numbers["at_level"], numbers["one_token_per_forward"]]
        texts = [text for text in row[2:-1] if "[" in text]
        assert texts == [
            f"{100 * n['value']:.1f} [{100 * n[kind]['low']:.1f}, {100 * n[kind]['high']:.1f}]" for n in shown
        ]
    assert table.header[-1] == "AUP"
    assert table.header[2] == "mean over 2.0–5.0 per forward"
    if kind == BOTH:
        assert "[95 %] over seeds and problems, over problems where nothing was trained" in table.caption
    else:
        assert "[95 %] over problems)" in table.caption


def test_mcnemar_shows_who_alone_was_right_with_every_seed_and_states_the_rule() -> None:
    table = mcnemar_table("demo", found_in(study(0, 1, 2)))
    assert table is not None
    assert table.rows[0][:3] == ("trims − standard", "0, 1, 2", "15 : 0, 17 : 0, 19 : 0")
    assert "the k-th smallest times S/k" in table.caption
    without = [c for c in study(0, 1) if c.threshold is not None]
    assert mcnemar_table("demo", found_in(without)) is None


def test_tables_stand_without_a_shared_range() -> None:
    cells = curve("trims", (90, 80), tpf=(1.0, 2.0)) + curve("standard", (70, 60), tpf=(1.0, 3.0))
    found = comparison_of("demo", cells, PAIRS, ReportConfig())
    assert methods_table("demo", found).header == ("method", "seeds", "one token per forward", "AUP")
    assert [row[1] for row in differences_table("demo", found).rows] == ["one", "AUP (no points)"]
