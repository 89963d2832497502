"""Published points stand under known profiles alone, each with source, hardware and how it was counted."""

from __future__ import annotations

import pytest

from trims_core.errors import ConfigError
from trims_core.profiles import profile_names
from trims_core.published import all_points, points_in, points_of

TABLE = """
- source: s
  model: m
  profile: demo@demo
  hardware: h
  counting: text
  points:
    - {method: a, accuracy: 50, tokens_per_forward: 2.0, cache: none}
    - {method: b, accuracy: 40.5, tokens_per_second: 3.0, cache: dual, hardware: other}
"""


def test_points_take_over_what_stands_beside_them() -> None:
    first, second = points_in(TABLE, "x.yaml")
    assert (first.method, first.hardware, first.tokens_per_forward) == ("a", "h", 2.0)
    assert (second.hardware, second.tokens_per_forward, second.cache) == ("other", None, "dual")
    assert (first.source, second.source) == ("s", "s")


def test_a_profile_gets_its_own_points_and_no_others() -> None:
    assert {point.profile for point in points_of("gsm8k@d3llm-cot0")} == {"gsm8k@d3llm-cot0"}
    assert points_of("demo@demo") == points_of("./mine.yaml") == ()
    assert sum(len(points_of(name)) for name in profile_names()) == len(all_points())


def test_the_points_are_the_published_ones() -> None:
    found = {(p.profile, p.method, p.accuracy): p.tokens_per_forward for p in all_points()}
    assert found["gsm8k@d3llm-cot0", "d3LLM", 73.09] == 9.11
    assert found["gsm8k@d3llm-cot0", "TRIMS", 74.9] == 6.26
    assert found["gsm8k@d3llm-dream-cot0", "d3LLM", 81.36] == 4.94
    assert found["math@minerva-4shot", "untuned", 32.2] == 1.0
    assert found["gsm8k@fastdllm-5shot", "Fast-dLLM", 78.5] is None


def test_no_point_is_there_twice() -> None:
    assert len(set(all_points())) == len(all_points())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "demo@demo",
            "demo@dmo",
            "table 1, point 1, the whole: Value error, profile 'demo@dmo' is not known",
        ),
        ("40.5", "140.5", "table 1, point 2, accuracy"),
        ("  source: s\n", "", "expected a list of tables"),
        ("counting: text", "counting: words", "table 1, point 1, counting"),
        ("hardware: h", "hardwre: h", "table 1, point 1, "),
        ("points:", "pionts:", "table 1: expected points"),
    ],
)
def test_a_wrong_point_is_named(old: str, new: str, message: str) -> None:
    text = "a: b" if not new else TABLE.replace(old, new)
    with pytest.raises(ConfigError, match=r"x\.yaml") as caught:
        points_in(text, "x.yaml")
    assert message in str(caught.value)
