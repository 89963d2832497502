"""How a problem is asked in a profile's words, and which settings of a task a profile decides."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from trims_core.errors import ConfigError
from trims_core.profiles import PromptText
from trims_core.sweep_sections import SweepConfig

SHOTS = ({"question": "1+1?", "worked": "2"}, {"question": "2+2?", "worked": "4"})
FACTS = {"question": "3+3?"}


def asked(**fields: Any) -> list[tuple[str, str]]:
    """Roles and texts of a problem's conversation."""
    prompt = PromptText.model_validate({"question": "Q: {{question}}", **fields})
    return [(one["role"], one["content"]) for one in prompt.messages(FACTS, "here")]


def test_examples_stand_in_front_of_the_question() -> None:
    found = asked(before="Solve.\n", answer="A: {{worked}}", delimiter="\n", shots=SHOTS)
    assert found == [("user", "Solve.\nQ: 1+1?\nA: 2\n\nQ: 2+2?\nA: 4\n\nQ: 3+3?")]


def test_examples_are_turns_where_the_profile_says_so() -> None:
    found = asked(system="Be brief.", before="Solve. ", answer="{{worked}}", shots=SHOTS, shots_as="turns")
    assert found == [
        ("system", "Be brief."),
        ("user", "Solve. Q: 1+1?"),
        ("assistant", "2"),
        ("user", "Q: 2+2?"),
        ("assistant", "4"),
        ("user", "Q: 3+3?"),
    ]


def test_braces_that_are_no_placeholder_are_text() -> None:
    assert asked(question=r"{{question}} \boxed{} {x} {{}}") == [("user", r"3+3? \boxed{} {x} {{}}")]


def test_text_in_a_fact_is_never_a_placeholder() -> None:
    prompt = PromptText(question="{{question}}")
    (message,) = prompt.messages({"question": "{{answer}}", "answer": "42"}, "here")
    assert message["content"] == "{{answer}}"


def test_a_placeholder_that_nothing_fills_is_named() -> None:
    with pytest.raises(ConfigError, match=r"here: nothing fills \{\{puzzle\}\}; there are question"):
        asked(question="{{puzzle}}")


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"chat": False, "system": "x"}, "plain text has neither"),
        ({"chat": False, "shots_as": "turns"}, "plain text has neither"),
        ({"shots": SHOTS}, "say how an example is answered"),
    ],
)
def test_words_that_contradict_each_other_are_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        asked(**fields)


def sweep(task: dict[str, Any], **fields: Any) -> SweepConfig:
    """A sweep of one task."""
    return SweepConfig.model_validate({"tasks": {"demo": task}, **fields})


def test_a_profile_decides_how_its_task_is_decoded_and_the_task_may_depart_from_it() -> None:
    plain = sweep({"profile": "demo@demo"}, cache="dual")
    assert plain.decoding("demo")[:2] == (64, 32)
    assert plain.departures("demo") == {"cache": "cache dual (profile: none)"}
    shorter = sweep({"profile": "demo@demo", "gen_length": 32, "limit": 20})
    assert shorter.decoding("demo")[:2] == (32, 32)
    assert shorter.departures("demo") == {
        "gen_length": "gen_length 32 (profile: 64)",
        "limit": "the first 20 problems (profile: 1200)",
    }
    assert sweep({"benchmark": "demo"}, gen_length=96).decoding("demo").gen_length == 96


def test_settings_that_were_written_out_in_full_are_read_again() -> None:
    chosen = sweep({"profile": "demo@demo"})
    assert SweepConfig.model_validate(chosen.model_dump(mode="json")) == chosen


@pytest.mark.parametrize(
    ("task", "fields", "says"),
    [
        ({}, {}, "profile and benchmark: neither is set"),
        ({"profile": "demo@demo", "benchmark": "demo"}, {}, "both are set"),
        ({"profile": "demo@demos"}, {}, "profile 'demo@demos' is not known; did you mean 'demo@demo'"),
        ({"profile": "demo@demo"}, {"gen_length": 32}, "set tasks.demo.gen_length to depart from it"),
        ({"profile": "demo@demo", "block_length": 48}, {}, "gen_length 64 is not a multiple"),
    ],
)
def test_settings_that_nobody_would_read_are_refused(
    task: dict[str, Any], fields: dict[str, Any], says: str
) -> None:
    with pytest.raises((ValidationError, ConfigError), match=says):
        sweep(task, **fields)
