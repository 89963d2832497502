"""The three sentences in front say what the results say, about the pair that leads."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from trims_core.report.headline import headlines_of, limits_of


@pytest.fixture
def own(results: dict[str, Any]) -> dict[str, Any]:
    """Results that a test may change."""
    return copy.deepcopy(results)


def test_the_first_sentence_is_the_first_comparisons(results: dict[str, Any]) -> None:
    said = headlines_of(results, "demo")["accuracy"]
    pair = results["tasks"]["demo"]["comparisons"][0]
    assert f"{said['sentence']} {said['more']}".strip() == pair["sentence"]
    assert said["words"] == pair["verdict"] == "not told apart"
    assert said["sentence"].endswith("Holm's p 0.56.")


def test_a_difference_that_is_told_apart_is_told_in_points(own: dict[str, Any]) -> None:
    pair = own["tasks"]["demo"]["comparisons"][0]
    pair["verdict"] = "behind"
    pair["mean_over_range"]["value"] = -0.0312
    assert headlines_of(own, "demo")["accuracy"]["words"] == "−3.1 points"


def test_a_difference_at_equal_forwards_is_told_in_points_too(own: dict[str, Any]) -> None:
    pair = own["tasks"]["demo"]["comparisons"][0]
    at = {**pair["mean_over_range"], "forwards": 6, "value": 0.202}
    pair |= {"verdict": "ahead", "mean_over_range": None, "at_forwards": [at]}
    assert headlines_of(own, "demo")["accuracy"]["words"] == "+20.2 points"


def test_speed_is_each_methods_fastest_point_that_is_as_accurate_as_one_token_per_forward(
    own: dict[str, Any],
) -> None:
    curves = own["tasks"]["demo"]["curves"]

    def points(*rows: tuple[float, float]) -> list[dict[str, Any]]:
        made = zip(curves["untuned"], rows, strict=False)
        return [
            {**row, "accuracy": right, "low": right - 0.1, "tokens_per_second": speed}
            for row, (right, speed) in made
        ]

    curves["untuned"] = points((0.8, 50.0), (0.71, 80.0), (0.69, 90.0))
    curves["trims"] = points((0.75, 50.0), (0.75, 120.0), (0.6, 200.0))
    said = headlines_of(own, "demo")["speed"]
    assert said["words"] == "1.5 × as fast"
    assert "trims decodes 120 tokens/s with 75.0 %" in said["sentence"]
    assert "untuned 50 tokens/s with 80.0 %" in said["sentence"]
    assert "right at one token per forward and 80 tokens/s with 71.0 %" in said["sentence"]
    curves["untuned"] = points((0.8, 50.0), (0.69, 90.0))
    said = headlines_of(own, "demo")["speed"]
    assert said["words"] == "2.4 × as fast"
    assert said["sentence"].endswith("at one token per forward.")
    curves["trims"] = points((0.1, 50.0))
    assert headlines_of(own, "demo")["speed"]["words"] == "not as accurate"


def test_the_gravest_limit_is_told_with_n_and_seeds(results: dict[str, Any]) -> None:
    said = headlines_of(results, "demo")["limit"]
    assert (said["words"], said["sentence"]) == ("n = 40, 2 seeds", results["caveats"][0])


def test_limits_of_other_tasks_stand_with_them(own: dict[str, Any]) -> None:
    own["tasks"]["other"] = own["tasks"]["demo"]
    own["caveats"] = ["other: few problems.", "One seed.", "demo: flat."]
    assert limits_of(own, "demo") == ["One seed.", "demo: flat."]
    own["caveats"] = []
    assert "limit" not in headlines_of(own, "demo")


def test_a_single_method_is_told_alone(own: dict[str, Any]) -> None:
    found = own["tasks"]["demo"]
    found["comparisons"] = []
    found["curves"] = {"untuned": found["curves"]["untuned"]}
    found["numbers"] = {"untuned": found["numbers"]["untuned"]}
    said = headlines_of(own, "demo")
    mean = found["numbers"]["untuned"]["mean_over_range"]["value"]
    assert said["accuracy"]["words"] == f"{100 * mean:.1f} %"
    assert "no other method to compare it with" in said["accuracy"]["sentence"]
    assert said["speed"]["words"].endswith("× as fast")


def test_methods_of_which_no_pair_is_compared_are_not_called_alone(own: dict[str, Any]) -> None:
    own["tasks"]["demo"]["comparisons"] = []
    assert "; no pair is compared." in headlines_of(own, "demo")["accuracy"]["sentence"]


def test_an_ablation_tells_which_values_are_told_apart_and_the_speed_of_its_base(own: dict[str, Any]) -> None:
    found = own["tasks"]["demo"]
    pair = next(one for one in found["comparisons"] if (one["a"], one["b"]) == ("trims", "standard"))
    value = pair["mean_over_range"]["value"]
    rows = [
        {"factor": "order", "value": name, "method": method, "is_base": method == "standard"}
        for name, method in (("a", "standard"), ("b", "trims"))
    ]
    own["ablations"] = {"rows": rows}
    said = headlines_of(own, "demo")
    assert said["accuracy"]["words"] == "0 of 1 told apart"
    assert said["accuracy"]["sentence"] == "Told apart from the base on demo, of 1 other values: none."
    assert said["accuracy"]["more"] == f"Furthest from it is order: b. {pair['sentence']}"
    assert said["speed"]["sentence"].startswith(("standard decodes", "At no point is standard"))
    pair["verdict"] = "ahead"
    said = headlines_of(own, "demo")
    assert said["accuracy"]["words"] == "1 of 1 told apart"
    assert f"order: b ({100 * value:+.1f})".replace("-", "−") in said["accuracy"]["sentence"]
