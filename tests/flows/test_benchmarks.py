"""`trims benchmarks`: every profile with what its numbers depend on, and one with the words it asks in."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from trims_core.profiles import FOLDER, get_profile, profile_names


def said(*words: str, width: int = 400) -> str:
    """What the command says to these words; it ends well."""
    result = CliRunner().invoke(app, ["benchmarks", *words], env={"COLUMNS": str(width)})
    assert result.exit_code == 0, result.output + result.stderr
    return result.output


def test_every_profile_is_listed_with_what_its_numbers_depend_on() -> None:
    rows = {line.split()[0]: line for line in said().splitlines() if "@" in line[:40]}
    assert sorted(rows) == list(profile_names())
    for name, line in rows.items():
        profile = get_profile(name)
        assert f"{profile.gen_length} in blocks of {profile.block_length}" in line
        assert f"{profile.n_samples:,}: " in line
        assert ", ".join(profile.graders) in line
    assert "lm_eval/tasks/gsm8k/gsm8k-cot-zeroshot.yaml" in rows["gsm8k@d3llm-cot0"]
    assert "whether the published runs" in rows["gsm8k@d3llm-cot0"]


def test_one_is_shown_in_full_with_its_prompt_and_published_points() -> None:
    text = said("gsm8k@d3llm-cot0", "--fact", "question=How [many]?")
    assert (
        "--- plain text, without a chat template\nQ: How [many]?\nA: Let's think step by step.\n---" in text
    )
    assert "stops before: 'Q:', '</s>', '<|im_end|>'" in text
    assert "hao-ai-lab/d3LLM" in text
    assert "9.11" in text and "text_after_ten" in text


def test_what_is_not_given_stands_as_a_placeholder() -> None:
    text = said("humaneval@instruct")
    assert "```python\n{{prompt}}\n```\n" in text
    assert "--- the answer begins with\nHere is the completed function:\n```python\n{{prompt}}\n" in text
    assert "math500@boxed0" not in text


def test_examples_as_turns_are_shown_under_their_roles() -> None:
    text = said("mbpp@instruct")
    assert text.count("--- user") == 4 and text.count("--- assistant") == 3
    assert "examples: 3, as earlier turns" in text


def test_an_own_file_is_shown_too(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text((FOLDER / "demo@demo.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    assert "--- user\n{{question}}\n---" in said(str(path))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["gsm8k@d3lm-cot0"], "did you mean 'gsm8k@d3llm-cot0'?"),
        (["--fact", "question=a"], "--fact without a profile"),
        (["demo@demo", "--fact", "qestion=a"], "did you mean 'question'?"),
        (["demo@demo", "--fact", "question"], "expected NAME=TEXT"),
        (["./gone.yaml"], "no such file"),
    ],
)
def test_what_there_is_not_is_refused_with_a_remedy(words: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["benchmarks", *words])
    assert result.exit_code != 0
    assert message in result.stderr.replace("\n", " ")
