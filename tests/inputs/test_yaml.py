"""Settings mean what they say: YAML 1.2, every key once, no value converted to another type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from fakes.stages import raw_config
from hypothesis import given
from hypothesis import strategies as st

from trims_core.config import TrimsConfig
from trims_core.errors import ConfigError, TrimsError
from trims_core.settings import load_config
from trims_core.yaml_text import yaml_of


def load(folder: Path, text: str, *overrides: str) -> TrimsConfig:
    """The small pipeline's settings with these lines at their end."""
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(raw_config(folder)) + text)
    return load_config(path, overrides, env={})


@pytest.mark.parametrize(
    "text", ["buckets: {k: 4, k: 8}\n", "buckets:\n  k: 4\n  k: 8\n", "buckets: {k: 4}\nbuckets: {k: 8}\n"]
)
def test_a_key_that_occurs_twice_is_named_with_its_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"run\.yaml: not valid YAML(.|\n)*line(.|\n)*duplicate key"):
        load(tmp_path, text)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("corpus.limit=true", "corpus.limit: Input should be a valid integer (found True)"),
        ("buckets.k=yes", "buckets.k: Input should be a valid integer (found 'yes')"),
        ("buckets.k=1:30", "buckets.k: Input should be a valid integer (found '1:30')"),
        ("buckets.k=8.0", "buckets.k: Input should be a valid integer (found 8.0)"),
        ("buckets.k='8'", "buckets.k: Input should be a valid integer (found '8')"),
        ("buckets.k=1_0", "buckets.k: Input should be a valid integer (found '1_0')"),
        ("buckets.k=0x10", "write a whole number in decimal digits"),
        ("train.lora.alpha=0x10", "train.lora.alpha: Input should be a valid number (found '0x10')"),
        ("train.lr=.inf", "train.lr: inf is no finite number"),
        ("train.lr=1e999", "train.lr: inf is no finite number"),
        ("train.lora.alpha=yes", "train.lora.alpha: Input should be a valid number"),
        (
            "sweep.untuned=no",
            "sweep.untuned: Input should be a valid boolean (found 'no'); write true or false",
        ),
        ("sweep.untuned=1", "sweep.untuned: Input should be a valid boolean"),
        (
            "student.revision=123",
            "student.revision: Input should be a valid string (found 123); put it in quotes",
        ),
        ("train.seeds=[0, true]", "train.seeds.1: Input should be a valid integer"),
        ("buckets.k=" + "9" * 5000, "Exceeds the limit"),
        ("buckets.k=!!set {a}", "found set"),
        ("buckets.k=&a [*a]", "nested more than 32 levels"),
    ],
)
def test_a_value_of_another_type_is_refused_not_converted(
    tmp_path: Path, override: str, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, "", override)
    assert message in str(caught.value)


def test_numbers_are_those_of_yaml_1_2(tmp_path: Path) -> None:
    found = load(tmp_path, "buckets: {k: 010}\ntrain: {lr: 1e-4, lora: {alpha: 16}, seeds: [0, 1]}\n")
    assert (found.buckets.k, found.train.lr, found.train.lora.alpha) == (10, 1e-4, 16.0)
    assert found.train.seeds == (0, 1)
    with pytest.raises(ConfigError, match=r"%YAML 1.1; expected YAML 1.2"):
        yaml_of("%YAML 1.1\n---\nk: yes\n", "a.yaml")


def test_an_alias_is_not_what_it_stands_for(tmp_path: Path) -> None:
    raw = raw_config(tmp_path)
    del raw["sweep"]
    path = tmp_path / "run.yaml"
    tasks = "sweep: {tasks: {a: &a {benchmark: demo}, b: *a, c: {<<: *a, limit: 3}}}\n"
    path.write_text(yaml.safe_dump(raw) + tasks)
    given = {"sweep": {"tasks": {"b": {"limit": 7}}}}
    for found in (
        load_config(path, ["sweep.tasks.a.limit=5", "sweep.tasks.b.limit=7"], env={}),
        load_config(path, ["sweep.tasks.a.limit=5"], env={}, given=given),
    ):
        assert {name: task.limit for name, task in found.sweep.tasks.items()} == {"a": 5, "b": 7, "c": 3}


@pytest.mark.parametrize("text", ["yes", "no", "On", "OFF", "'no'"])
@pytest.mark.parametrize("place", ["scores.template", "student.template", "scores.options"])
def test_a_word_is_no_truth_value_where_nothing_says_what_is_expected(
    tmp_path: Path, place: str, text: str
) -> None:
    with pytest.raises(ConfigError, match=r"enable: '\w+' is a text in YAML 1.2; write true or false"):
        load(tmp_path, "", f"{place}={{enable: {text}}}")
    assert load(tmp_path, "", f"{place}={{enable: false, effort: low}}")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("{since: .nan}", "scores.options.since: nan is no finite number"),
        ("{1: a}", "scores.options: the key 1 is no text; put it in quotes"),
        ("{a: {2: b}}", "scores.options.a: the key 2 is no text"),
        ("{a: !!timestamp 2024-01-01}", "scores.options.a: found date"),
        ('{a: "\\ud800"}', r"scores.options.a: '\ud800' holds half a surrogate pair"),
    ],
)
def test_options_are_what_json_has(tmp_path: Path, options: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, "", f"scores.options={options}")
    assert message in str(caught.value)
    since = load(tmp_path, "", "scores.options={since: 2024-01-01}").scores.options
    assert since == {"since": "2024-01-01"}, "a day is a text"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
    ),
    max_leaves=4,
)
PLACES = ("name", "store", "corpus", "corpus.limit", "scores.options", "scores.model", "train.seeds", "x")


@given(place=st.sampled_from(PLACES), value=VALUES)
def test_whatever_stands_in_a_config_is_settings_or_an_error_of_ours(
    tmp_path_factory: pytest.TempPathFactory, place: str, value: Any
) -> None:
    folder = tmp_path_factory.getbasetemp()
    try:
        load(folder, "", f"{place}={yaml.safe_dump(value, allow_unicode=True)}")
    except TrimsError as error:
        str(error).encode()


@given(st.text(st.sampled_from("ab: -[]{}&*!|>'\"#%@,?\n\t01.e~<=\ufeff\x00"), max_size=30))
def test_whatever_text_a_config_is_it_is_read_or_refused(text: str) -> None:
    try:
        yaml_of(text, "a.yaml")
    except TrimsError as error:
        assert str(error).startswith("a.yaml: ")
