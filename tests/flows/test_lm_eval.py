"""`trims lm-eval`: what the harness is told, an evaluation offline from end to end, refusals in one line."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from fakes.decoding_checkpoint import write_student
from typer.testing import CliRunner

from flows.cli import app
from flows.cli_lm_eval import harness_arguments
from trims_core.errors import ConfigError
from trims_core.lm_eval_settings import model_args

TASKS = "tests/lm_eval_tasks"


@pytest.fixture(autouse=True)
def logs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The harness sets its log up once per process; here once per test."""
    import lm_eval.utils

    monkeypatch.setattr(lm_eval.utils, "_LOGGING_CONFIGURED", False)
    found = logging.getLogger("lm_eval")
    before = (list(found.handlers), found.propagate, found.level)
    yield
    found.handlers, found.propagate = before[:2]
    found.setLevel(before[2])


def trims(*words: str | Path) -> tuple[int, str]:
    """Exit code and everything printed."""
    found = CliRunner().invoke(app, ["lm-eval", *map(str, words)], env={"COLUMNS": "300"})
    return found.exit_code, found.output


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--tasks", "a", "-f", "5"], ["run", "--tasks", "a", "-f", "5", "--model", "trims"]),
        (["run", "--tasks", "a"], ["run", "--tasks", "a", "--model", "trims"]),
        (["--model", "trims", "-t", "a"], ["run", "--model", "trims", "-t", "a", "--model", "trims"]),
        (["ls", "tasks"], ["ls", "tasks"]),
        (["validate", "--tasks", "a"], ["validate", "--tasks", "a"]),
        ([], ["run", "--help"]),
        (["run"], ["run", "--help"]),
    ],
)
def test_the_harness_is_told_what_was_given_and_our_model(given: list[str], told: list[str]) -> None:
    assert harness_arguments(given) == told


@pytest.mark.parametrize("words", [["--model", "hf"], ["--model=hf"], ["-M", "hf"], ["--model"]])
def test_another_model_is_refused(words: list[str]) -> None:
    with pytest.raises(ConfigError, match="trims lm-eval evaluates the model trims"):
        harness_arguments(["--tasks", "a", *words])


def test_every_word_goes_on_to_the_harness_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    import lm_eval.__main__ as harness

    told: list[list[str]] = []
    monkeypatch.setattr(harness, "cli_evaluate", lambda: told.append(sys.argv))
    words = [
        "--model_args",
        "pretrained=m,stop=a b",
        "cache=dual",
        "-s",
        "--limit",
        "2",
        "--gen_kwargs",
        "x=-1",
    ]
    before = list(sys.argv)
    assert trims(*words) == (0, "")
    assert trims("--help") == (0, "")
    assert told == [["lm-eval", "run", *more, "--model", "trims"] for more in (words, ["--help"])]
    assert sys.argv == before


def test_what_the_harness_refuses_is_one_line_and_a_bug_of_ours_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import lm_eval.__main__ as harness

    def refuse() -> None:
        raise KeyError("no such task")

    monkeypatch.setattr(harness, "cli_evaluate", refuse)
    code, said = trims("--tasks", "x")
    assert (code, said.count("\n")) == (2, 1)
    assert "error: lm-eval: 'no such task'. LMEVAL_LOG_LEVEL=DEBUG" in said

    monkeypatch.setattr(harness, "cli_evaluate", lambda: model_args(None))  # type: ignore[arg-type]
    found = CliRunner().invoke(app, ["lm-eval", "--tasks", "x"])
    assert isinstance(found.exception, AttributeError)


def test_an_evaluation_needs_no_network_and_keeps_its_counts(
    tmp_path: Path, project_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets
    import lm_eval.tasks

    # not its thousands of tasks, which take half a minute to list
    manager = partial(lm_eval.tasks.TaskManager, include_defaults=False)
    monkeypatch.setattr(lm_eval.tasks, "TaskManager", manager)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.chdir(project_root)
    student = write_student(tmp_path / "student")
    given = f"pretrained={student},threshold=0.3,cache=dual,block_length=8,device=cpu,mc_num=8"
    code, said = trims(
        *("--model_args", given, "--tasks", "trims_answers,trims_choices", "--include_path", TASKS),
        *("--apply_chat_template", "--batch_size", "4", "--output_path", tmp_path / "out", "--log_samples"),
    )
    assert code == 0, said
    assert "|trims_answers|" in said
    assert "|trims_choices|" in said
    assert "INFO     [trims" in said
    assert "tokens per forward" in said
    (path,) = (tmp_path / "out").rglob("results_*.json")
    config = json.loads(path.read_text())["config"]
    (line,) = config["trims"]["generate_until"]
    assert (line["task"], line["answers"], line["cache"]) == ("trims_answers", 6, "dual")
    assert line["tokens_per_forward"] == line["tokens"] / line["forwards"]
    assert config["trims"]["loglikelihood"]["continuations"] == 18
    assert config["model"] == "trims"

    wrong = f"{given},thresold=1"
    code, said = trims("--model_args", wrong, "--tasks", "trims_answers", "--include_path", TASKS)
    assert code == 2
    assert "error: model_args: thresold: no such setting; did you mean 'threshold'?" in said
